#include "agent/set.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <new>

namespace slmd::agent {

Result<void> Set::read(std::span<const char* const> folders) {
    heap_.release(0);
    count_ = 0;
    entries_ = heap_.take<Entry>(max_agents);
    if (entries_ == nullptr) return full();
    for (const char* folder : folders) TRY(read_folder(folder));
    return check_pipelines();
}

// Their agents may stand in any folder, and may have been bad.
Result<void> Set::check_pipelines() {
    for (Entry& e : std::span(entries_, count_))
        for (const Step& step : e.pipeline.steps) {
            const Entry* const called = find(step.agent);
            const bool good = called != nullptr && called->error.empty() && called->pipeline.steps.empty();
            const auto fits = check_step(step, good ? &called->agent : nullptr);
            if (fits) continue;
            const Error why = Error::make(Code::incorrect_parameters, "%.*s:%u: %s", static_cast<int>(e.file.size()),
                                          e.file.data(), step.line, fits.error().text);
            e.error = keep(why.text);
            e.pipeline = {};
            if (e.error.empty()) return full();
            break;
        }
    return {};
}

Error Set::full() { return Error::make(Code::memory_full, "no room for agents; [limits] agents is what they have"); }

std::string_view Set::keep(std::string_view text) {
    char* const out = heap_.take<char>(text.size());
    if (out == nullptr) return {};
    std::copy(text.begin(), text.end(), out);
    return {out, text.size()};
}

Result<void> Set::read_folder(const char* folder) {
    DIR* const dir = opendir(folder);
    if (dir == nullptr && errno == ENOENT) return {};
    if (dir == nullptr) return Error::make(Code::storage_failure, "agents in %s: %s", folder, strerror(errno));
    Result<void> result;
    while (const dirent* const file = readdir(dir)) {
        const std::string_view name = file->d_name;
        if (!name.ends_with(".toml") || name.starts_with('.')) continue;
        char path[512];
        if (snprintf(path, sizeof path, "%s/%s", folder, file->d_name) >= static_cast<int>(sizeof path)) continue;
        const std::string_view called = name.substr(0, name.size() - 5);
        Entry* const at = std::lower_bound(entries_, entries_ + count_, called,
                                           [](const Entry& e, std::string_view n) { return e.agent.name < n; });
        const bool replaces = at != entries_ + count_ && at->agent.name == called;
        if (!replaces && count_ == max_agents) {
            result = Error::make(Code::memory_full, "%s: there are %zu agents already, which is all there can be", path,
                                 max_agents);
            break;
        }
        Entry entry{};
        const auto read = [&]() -> Result<void> {
            if (is_pipeline(path)) {
                entry.pipeline = TRY(read_pipeline(path, heap_));
                entry.agent.name = entry.pipeline.name, entry.agent.description = entry.pipeline.description;
            } else {
                entry.agent = TRY(read_agent(path, heap_));
            }
            return {};
        }();
        if (!read) entry.agent.name = keep(called), entry.error = keep(read.error().text);
        entry.file = keep(path);
        if (entry.agent.name.empty() || entry.file.empty() || (!read && entry.error.empty())) {
            result = Error::make(Code::memory_full,
                                 "%s: no room for it among the agents; [limits] agents is what they have", path);
            break;
        }
        if (!replaces) {
            std::copy_backward(at, entries_ + count_, entries_ + count_ + 1);
            count_++;
        }
        new (at) Entry(entry);
    }
    closedir(dir);
    return result;
}

const Entry* Set::find(std::string_view name) const {
    const Entry* const end = entries_ + count_;
    const Entry* const at = std::lower_bound(static_cast<const Entry*>(entries_), end, name,
                                             [](const Entry& e, std::string_view n) { return e.agent.name < n; });
    return at != end && at->agent.name == name ? at : nullptr;
}

}  // namespace slmd::agent
