#include "task.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/file.h"
#include "base/sha256.h"
#include "toolchain/slmpack/image/import.h"

namespace slmd::pack {
namespace {

bool blank(std::string_view text) { return text.find_first_not_of(" \t\r\v\f") == text.npos; }

// As many of every label as there can be, in the order of the file.
std::vector<Task::Line> stratified(const Task& task, std::size_t limit) {
    std::vector<std::vector<std::size_t>> by_label(task.labels.size());
    for (std::size_t i = 0; i < task.lines.size(); i++) by_label[task.lines[i].label].push_back(i);
    std::set<std::size_t> chosen;
    for (std::size_t round = 0; chosen.size() < limit; round++)
        for (const auto& lines : by_label)
            if (round < lines.size() && chosen.size() < limit) chosen.insert(lines[round]);
    std::vector<Task::Line> out;
    for (const std::size_t i : chosen) out.push_back(task.lines[i]);
    return out;
}

std::string filled(const std::string& prompt, const std::map<std::string, std::string>& values) {
    std::string out;
    for (std::size_t at = 0; at < prompt.size();) {
        const auto found = std::find_if(values.begin(), values.end(), [&](const auto& v) {
            return prompt.compare(at, v.first.size(), v.first) == 0;
        });
        out += found == values.end() ? std::string(1, prompt[at]) : found->second;
        at += found == values.end() ? 1 : found->first.size();
    }
    return out;
}

}  // namespace

Result<Task> read_task(const std::string& path, std::size_t limit) {
    const std::string file = TRY(read_text(path));
    Task task;
    task.sha256 = hex(TRY(sha256(std::as_bytes(std::span(file)))));
    struct Seen {
        std::size_t count = 0, line = 0, index = 0;
    };
    std::map<std::string, Seen> labels;
    std::vector<std::string> label_of;
    std::size_t number = 0;
    for (std::size_t at = 0; at < file.size();) {
        const std::size_t end = std::min(file.find('\n', at), file.size());
        std::string_view line(file.data() + at, end - at);
        at = end + 1;
        number++;
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (line.empty()) continue;
        const auto bad = [&](const char* what) {
            return Error::make(Code::incorrect_parameters, "%s:%zu: %s; a line is a text, a tab and its label",
                               path.c_str(), number, what);
        };
        const std::size_t tab = line.find('\t');
        if (tab == line.npos) return bad("no tab");
        if (line.find('\t', tab + 1) != line.npos) return bad("more than one tab");
        if (blank(line.substr(0, tab))) return bad("no text before the tab");
        if (blank(line.substr(tab + 1))) return bad("no label behind the tab");
        label_of.emplace_back(line.substr(tab + 1));
        Seen& seen = labels[label_of.back()];
        if (seen.count++ == 0) seen.line = number;
        task.lines.push_back({std::string(line.substr(0, tab)), 0, number});
    }
    for (const auto& [label, seen] : labels)
        if (seen.count == 1)
            return Error::make(Code::incorrect_parameters,
                               "%s:%zu: label \"%.60s\" occurs nowhere else: a typo? (a label needs two lines)",
                               path.c_str(), seen.line, label.c_str());
    if (labels.size() < 2)
        return Error::make(Code::incorrect_parameters, "%s: has %zu labels; two are the least to choose from",
                           path.c_str(), labels.size());
    for (auto& [label, seen] : labels) {
        seen.index = task.labels.size();
        task.labels.push_back(label);
        task.label_lines.push_back(seen.line);
    }
    for (std::size_t i = 0; i < task.lines.size(); i++) task.lines[i].label = labels[label_of[i]].index;
    if (limit != 0 && limit < task.lines.size()) task.lines = stratified(task, limit);
    return task;
}

Result<void> check_prompt(const std::string& prompt) {
    const auto text = prompt.find("{text}"), label = prompt.find("{label}");
    for (const auto& [name, at] : {std::pair{"{text}", text}, std::pair{"{label}", label}})
        if (at == prompt.npos) return Error::make(Code::incorrect_parameters, "--prompt: there is no %s in it", name);
    if (label < text || prompt.find("{text}", label) != prompt.npos)
        return Error::make(Code::incorrect_parameters, "--prompt: {text} must stand before {label}");
    return {};
}

Result<void> check_labels(const LoadedTokenizer& tokenizer, const std::string& path, const Task& task) {
    for (std::size_t i = 0; i < task.labels.size(); i++)
        if (TRY(tokenizer.encode(task.labels[i], false, false)).empty())
            return Error::make(Code::incorrect_parameters, "%s:%zu: the model has no token for this label",
                               path.c_str(), task.label_lines[i]);
    return {};
}

std::size_t Choices::longest() const {
    std::size_t most = 0;
    std::vector<std::size_t> depths;
    for (const std::int32_t parent : parents) {
        depths.push_back(parent < 0 ? 1 : depths[static_cast<std::size_t>(parent)] + 1);
        most = std::max(most, depths.back());
    }
    return most;
}

std::vector<std::size_t> Choices::asked() const {
    std::set<std::size_t> rows;
    for (const auto& steps : labels)
        for (const Step& step : steps) rows.insert(step.row);
    return {rows.begin(), rows.end()};
}

Result<Choices> choices_of(const LoadedTokenizer& tokenizer, const std::string& prompt, const Task& task,
                           const Task::Line& line) {
    std::string list;
    for (const std::string& label : task.labels) list += (list.empty() ? "" : ", ") + label;
    std::vector<std::vector<std::int32_t>> texts;
    for (const std::string& label : task.labels) {
        const std::string text = filled(prompt, {{"{text}", line.text}, {"{label}", label}, {"{labels}", list}});
        texts.push_back(TRY(tokenizer.encode(text, true, false)));
    }
    Choices out;
    const auto& first = texts[0];
    out.trunk = first.size();
    for (const auto& text : texts)
        out.trunk = std::min<std::size_t>(
            out.trunk, static_cast<std::size_t>(
                           std::mismatch(first.begin(), first.end(), text.begin(), text.end()).first - first.begin()));
    if (out.trunk == 0)
        return Error::make(Code::incorrect_parameters,
                           "--prompt: nothing stands before the labels, and the model has no beginning of text");

    std::map<std::pair<std::int32_t, std::int32_t>, std::int32_t> rows;  // (parent, token): row
    const auto row_of = [&](std::int32_t parent, std::int32_t token) {
        const auto [at, is_new] = rows.emplace(std::pair{parent, token}, static_cast<std::int32_t>(out.tokens.size()));
        if (is_new) {
            out.tokens.push_back(token);
            out.parents.push_back(parent);
        }
        return at->second;
    };
    std::set<std::vector<std::int32_t>> different;
    for (std::size_t k = 0; k < texts.size(); k++) {
        const auto& text = texts[k];
        if (text.size() == out.trunk)
            return Error::make(
                Code::incorrect_parameters,
                "label \"%.60s\" makes no tokens of its own: another label begins with it; let something "
                "follow {label} in --prompt",
                task.labels[k].c_str());
        if (!different.insert(text).second)
            return Error::make(Code::incorrect_parameters, "label \"%.60s\" is the same tokens as another",
                               task.labels[k].c_str());
        auto& steps = out.labels.emplace_back();
        std::int32_t row = -1;
        for (std::size_t i = 0; i < text.size(); i++) {
            if (i >= out.trunk) steps.push_back({static_cast<std::size_t>(row), text[i]});
            if (i + 1 < text.size()) row = row_of(row, text[i]);
        }
    }
    return out;
}

}  // namespace slmd::pack
