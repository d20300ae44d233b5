// LINK: slmd_agent
// An agent's or a pipeline's file and, behind a byte 1E, an answer: what is read is within the bounds that slmd relies
// on, and the answer is taken as calls of its tools, or looked at by its rules and filled in.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "agent/calls.h"
#include "agent/pipeline.h"
#include "file.h"

using namespace slmd;
using namespace slmd::agent;

namespace {

void require(bool holds) {
    if (!holds) std::abort();
}

void check(const Agent& a, std::string answer) {
    require(!a.name.empty() && !a.prompt.empty() && !a.fields.empty() && a.fields.size() <= Agent::max_fields);
    require(a.source < a.fields.size() && a.steps >= 1 && a.steps <= Agent::max_steps &&
            a.head.size() <= a.prompt.size());
    require(a.tools.size() <= Agent::max_tools && a.tools.empty() == a.tool_list.empty());
    for (const Tool& t : a.tools) require(!t.subjects.empty() && t.subjects.size() <= Agent::max_subjects);
    const auto calls = read_calls(a, answer);
    if (!calls) return;
    for (int i = 0; i < calls.value().count; i++) {
        const Call& c = calls.value().calls[i];
        require(c.tool >= a.tools.data() && c.tool < a.tools.data() + a.tools.size());
        const auto& names = c.tool->subjects;
        require(std::find(names.begin(), names.end(), c.subject) != names.end());
        require(c.ms >= 0 && c.ms <= c.tool->max_ms);
    }
}

void check(const Pipeline& p, const std::string& answer) {
    require(!p.steps.empty() && p.steps.size() <= Pipeline::max_steps && p.runs >= 1 && p.runs <= Pipeline::max_runs);
    static std::vector<std::byte> scratch(128 * 1024);
    std::string out(8192, 0);
    Came came[Pipeline::max_steps];
    for (Came& c : came) c = {answer, true, "pass", 0.5};
    came[0].answer = {};
    for (const Step& s : p.steps) {
        require(!s.name.empty() && !s.agent.empty() && !s.inputs.empty() && s.rules.size() <= Pipeline::max_rules);
        for (const Rule& r : s.rules) {
            require(r.to.size() <= Pipeline::max_branches);
            for (const std::uint8_t to : r.to) require(to < p.steps.size());
            (void)holds(r, came[1], scratch);
        }
        std::vector<Field> fields;
        for (const Step::Input& in : s.inputs) fields.push_back({Field::text, in.field});
        Agent agent;
        agent.fields = fields;
        require(static_cast<bool>(check_step(s, &agent)) || s.inputs.size() > Agent::max_fields);
        const auto filled = fill_in(p, s, agent, answer, "what was handed in", came, out, scratch);
        require(!filled || filled.value().size() <= out.size());
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const fuzz::Folder folder;
    static const std::unique_ptr<std::byte[]> block(new std::byte[1 << 18]);
    const std::string_view all(reinterpret_cast<const char*>(data), size);
    const std::size_t end = std::min(all.find('\x1e'), all.size());
    const std::string answer(all.substr(std::min(end + 1, all.size())));
    const std::string path = folder.put("a.toml", all.substr(0, end));
    grammar::Heap heap({block.get(), 1 << 18});
    if (is_pipeline(path.c_str())) {
        if (const auto read = read_pipeline(path.c_str(), heap)) check(read.value(), answer);
    } else if (const auto read = read_agent(path.c_str(), heap)) {
        check(read.value(), answer);
    }
    return 0;
}
