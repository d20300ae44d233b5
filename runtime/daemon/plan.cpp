#include "daemon/plan.h"

#include <algorithm>
#include <new>

#include "text/tokenizer.h"

namespace slmd::daemon {

void lay_out(Arena& arena, const Config& config, int context, Memory& m) {
    const auto n = static_cast<std::size_t>(context);
    m.clients = arena.persistent<Client>(static_cast<std::size_t>(config.clients));
    for (int i = 0; i < config.clients; i++) {
        const std::size_t bytes = i < config.tty_count ? tty_line_bytes : prompt_bytes;
        char* const line = arena.persistent<char>(bytes);
        if (m.clients == nullptr) continue;
        new (&m.clients[i]) Client{};
        m.clients[i].fd = -1;
        m.clients[i].line = {line, bytes};
    }
    m.job_count = config.engine.slots + config.queue + 4;
    m.jobs = arena.scratch<Job>(static_cast<std::size_t>(m.job_count));
    for (int i = 0; i < m.job_count; i++) {
        char* const text = arena.scratch<char>(prompt_bytes);
        char* const answer = arena.scratch<char>(answer_bytes);
        std::int32_t* const tokens = arena.scratch<std::int32_t>(n);
        if (m.jobs == nullptr) continue;
        new (&m.jobs[i]) Job{};
        m.jobs[i].text = text, m.jobs[i].answer = answer, m.jobs[i].tokens = tokens;
    }
    m.workspace.text = {arena.scratch<char>(render_bytes), render_bytes};
    m.workspace.trusted = {arena.scratch<text::Trusted>(render_parts), render_parts};
    const std::size_t scratch = text::Tokenizer::scratch_bytes(render_bytes);
    m.workspace.scratch = {arena.scratch<std::byte>(scratch), scratch};
}

std::uint64_t Plan::total() const {
    std::uint64_t t = 0;
    for (int i = 0; i < count; i++) t += items[i].bytes;
    return t;
}

engine::Config engine_config(const image::Image& image, const Config& config) {
    engine::Config c = config.engine;
    if (c.context == 0) c.context = std::min(2048, static_cast<int>(image.params().context));
    if (config.level[0] != 0) c.level = config.level;
    return c;
}

Result<Plan> plan(const image::Image& image, const Config& config) {
    const engine::Config e = engine_config(image, config);
    const engine::Plan engine_plan = TRY(engine::plan(image, e));
    Plan p;
    p.context = e.context;
    for (int i = 0; i < engine_plan.count; i++)
        p.items[p.count++] = {engine_plan.items[i].name, engine_plan.items[i].bytes};
    Arena arena;
    Memory memory{};
    lay_out(arena, config, e.context, memory);
    p.items[p.count++] = {"clients", arena.persistent_bytes()};
    p.items[p.count++] = {"requests", arena.scratch_bytes()};
    p.items[p.count++] = {"program, libraries, stacks", program_bytes};
    return p;
}

}  // namespace slmd::daemon
