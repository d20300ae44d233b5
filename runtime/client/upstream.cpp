#include "client/upstream.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <set>

#include "base/file.h"

namespace slmd::client {
namespace {

Result<std::set<std::string>> inputs_of(const char* path) {
    std::set<std::string> out;
    auto map = MappedFile::open(path);
    if (!map) return out;  // it is made
    std::string all(reinterpret_cast<const char*>(map->bytes().data()), map->bytes().size());
    for (std::size_t at = 0; at < all.size();) {
        const std::size_t end = std::min(all.find('\n', at), all.size());
        JsonNode nodes[64];
        JsonReader reader(nodes, 4);
        static constexpr std::string_view left[] = {"input", "answer"};
        reader.leave(left);
        if (reader.parse({all.data() + at, end - at}))
            if (const JsonNode* const input = reader.find(reader.root(), "input")) out.emplace(input->text);
        at = end + 1;
    }
    return out;
}

}  // namespace

Result<void> ask_upstream(Caller& caller, const CompareCommand& command) {
    const auto cases = TRY(read_labelled(command.cases));
    const std::set<std::string> there = TRY(inputs_of(command.answers));
    const std::string agent = command.agents.substr(0, command.agents.find(','));
    FILE* const file = fopen(command.answers, "a");
    if (file == nullptr) return Error::make(Code::storage_failure, "%s: %s", command.answers, strerror(errno));
    struct Closed {
        FILE* file;
        ~Closed() { fclose(file); }
    } closed{file};
    for (const Labelled& one : cases) {
        if (there.count(one.input) > 0) continue;
        const JsonNode& r =
            *TRY(caller.call("run", run_params(agent.c_str(), one.input, one.object) + ",\"route\":\"remote\"", true));
        const wire::JsonLine& reader = caller.reader();
        const JsonNode* const remote = reader.find(r, "remote");
        const auto number = [&](const char* name) {
            const JsonNode* const n = remote == nullptr ? nullptr : reader.find(*remote, name);
            return n == nullptr ? 0.0 : n->number;
        };
        std::string answer = answer_of(reader, r);
        if (text_of(reader, r, "route") != "escalate") {
            const std::string reason = text_of(reader, r, "reason"), error = text_of(reader, r, "remote_error");
            if (number("tokens") == 0)
                return Error::make(Code::not_allowed, "the large model was not asked, or did not answer: %s%s%s",
                                   reason.empty() ? "slmd has no uplink" : reason.c_str(), error.empty() ? "" : ": ",
                                   error.c_str());
            // It was paid for, and is as good as a wrong one.
            fprintf(stderr, "slmctl: %.60s: %s; it counts as wrong\n", one.input.c_str(), error.c_str());
            answer.clear();
        }
        const bool object = !answer.empty() && answer[0] == '{';
        fprintf(file, "{\"input\": %s, \"answer\": %s, \"tokens_in\": %.0f, \"tokens_out\": %.0f, \"ms\": %.0f}\n",
                one.object ? one.input.c_str() : quoted(one.input).c_str(),
                object ? answer.c_str() : quoted(answer).c_str(), number("prompt_tokens"), number("tokens"),
                number("ms"));
        if (fflush(file) != 0) return Error::make(Code::storage_failure, "%s: %s", command.answers, strerror(errno));
    }
    return {};
}

}  // namespace slmd::client
