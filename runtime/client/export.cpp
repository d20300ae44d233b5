#include "client/export.h"

#include <errno.h>
#include <string.h>

#include <algorithm>
#include <set>

#include "base/file.h"
#include "base/json.h"
#include "client/ledger_files.h"

namespace slmd::client {
namespace {

Result<std::vector<std::string>> pair_files(const LedgerCommand& command) {
    static constexpr const char* usual[] = {pairs_folder};
    const std::string only = command.agent == nullptr ? "" : std::string(command.agent) + ".jsonl";
    auto out = TRY(
        files_of(command.paths.empty() ? std::span<const char* const>(usual) : command.paths,
                 [&](const std::string& name) { return name.ends_with(".jsonl") && (only.empty() || name == only); }));
    std::sort(out.begin(), out.end());
    if (out.empty()) return Error::make(Code::not_found, "no pairs here (AGENT.jsonl)");
    return out;
}

bool is_pair(std::string line) {
    JsonNode nodes[32];
    JsonReader reader(nodes, 6);
    if (!reader.parse(line) || reader.root().type != JsonType::object) return false;
    const JsonNode* const messages = reader.find(reader.root(), "messages");
    return messages != nullptr && messages->type == JsonType::array;
}

}  // namespace

Result<void> export_pairs(const LedgerCommand& command, FILE* out, FILE* said) {
    std::set<std::string> seen;
    std::string all;
    std::size_t again = 0, bad = 0;
    for (const std::string& file : TRY(pair_files(command))) {
        const MappedFile map = TRY(MappedFile::open(file.c_str()));
        std::string_view rest(reinterpret_cast<const char*>(map.bytes().data()), map.bytes().size());
        while (!rest.empty()) {
            const std::size_t end = rest.find('\n');
            std::string line(rest.substr(0, end));
            rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
            if (line.empty()) continue;
            if (end == std::string_view::npos || !is_pair(line)) {
                bad++;
            } else if (!seen.insert(line).second) {
                again++;
            } else {
                all += line + "\n";
            }
        }
    }
    if (strcmp(command.pairs, "-") == 0)
        fwrite(all.data(), 1, all.size(), out);
    else
        TRY(write_text(command.pairs, all));
    fprintf(said, "%zu pairs; %zu were there more than once, %zu lines are no pairs\n", seen.size(), again, bad);
    return {};
}

}  // namespace slmd::client
