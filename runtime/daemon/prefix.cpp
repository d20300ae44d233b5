// The beginnings of agents' prompts, which are the same for every call: computed once, kept in the state folder.
#include <algorithm>
#include <new>

#include "base/bytes.h"
#include "compute/kernels.h"
#include "daemon/log.h"
#include "daemon/service.h"
#include "task/prompt.h"

namespace slmd::daemon {

void Service::open_snapshots() {
    if (memory_.snapshot_memory.empty()) return;
    const auto limit = static_cast<std::uint64_t>(config_.prefixes_mib) << 20;
    if (const auto opened = snapshots_.open(config_.state, limit, memory_.snapshot_memory); !opened)
        log(Level::warning, {{"SLMD_EVENT", "prefix"}}, "prompts of agents are read anew after each start: %s",
            opened.error().text);
    snapshots_.bake(image_->section(image::SectionId::prefixes));
}

// How many tokens of an agent's prompt do not depend on its input: those that it shares with the prompt of an input
// that begins like none.
void Service::find_prefix(const Job& job, std::span<text::Message> messages) {
    AgentState& s = *job.agent_state;
    if (!snapshots_.is_open() || s.prefix_known) return;
    s.prefix_known = true;
    const std::string_view head = job.agent->head;
    const std::size_t text_bytes = round_up(head.size() + 1, alignof(std::int32_t)),
                      token_bytes = static_cast<std::size_t>(plan_.context) * sizeof(std::int32_t);
    if (text_bytes + token_bytes > memory_.grammar_scratch.size()) return;
    std::byte* const at = memory_.grammar_scratch.data();
    char* const text = new (at) char[head.size() + 1];
    *std::copy(head.begin(), head.end(), text) = '\x7f';
    messages.back().text = {text, head.size() + 1};
    const std::span tokens(new (at + text_bytes) std::int32_t[token_bytes / sizeof(std::int32_t)],
                           token_bytes / sizeof(std::int32_t));
    auto other = task::encode_prompt(*tokenizer_, *chat_, messages, job.settings.raw, tokens, memory_.workspace);
    if (!other) return;
    const auto begun = job.begun();
    const auto n = std::min(begun.size(), static_cast<std::size_t>(other->tokens));
    const auto shared = std::mismatch(begun.begin(), begun.begin() + static_cast<std::ptrdiff_t>(n), tokens.begin());
    const auto whole = static_cast<int>(shared.first - begun.begin()) / compute::kv_block * compute::kv_block;
    s.prefix = whole >= engine::Snapshots::least_tokens ? whole : 0;
}

Result<Sha256> Service::prefix_key(std::span<const std::int32_t> tokens, int adapter) const {
    std::span<const std::byte> more;
    if (adapter != engine::no_adapter) more = std::as_bytes(std::span(&adapter_images_[adapter]->header(), 1));
    return engine::Snapshots::key(image_->header(), more, tokens);
}

// Before the first pass of a job: what no slot holds, and was kept.
void Service::bring_prefix(Job& job) {
    if (job.prefix_brought) return;
    job.prefix_brought = true;
    if (job.agent == nullptr || !snapshots_.is_open()) return;
    const auto n = static_cast<std::size_t>(job.agent_state->prefix);
    const auto tokens = job.begun();
    if (n == 0 || tokens.size() < n) return;
    for (int slot = 0; slot < engine_->slots(); slot++) {
        const auto cached = engine_->cached(slot, job.adapter);
        const auto end = tokens.begin() + static_cast<std::ptrdiff_t>(std::min(cached.size(), n));
        const auto shared = std::mismatch(tokens.begin(), end, cached.begin()).first - tokens.begin();
        if (static_cast<std::size_t>(shared) + engine::Snapshots::least_tokens > n) return;
    }
    const auto key = prefix_key(tokens.first(n), job.adapter);
    if (!key || !snapshots_.has(key.value())) return;
    const std::int64_t before = now_ns();
    const auto loaded = snapshots_.load(*engine_, job.slot, tokens.first(n), key.value(), job.adapter);
    const auto size = static_cast<int>(job.agent->name.size());
    if (loaded)
        log(Level::info, {{"SLMD_EVENT", "prefix"}, {"SLMD_TOKENS", static_cast<int>(n)}},
            "agent %.*s: %zu tokens of its prompt were kept, read in %.1f ms", size, job.agent->name.data(), n,
            static_cast<double>(now_ns() - before) * 1e-6);
    else
        log(Level::warning, {{"SLMD_EVENT", "prefix"}}, "agent %.*s: %s", size, job.agent->name.data(),
            loaded.error().text);
}

// A prompt was computed whose beginning is worth keeping: done when there is nothing else to do.
void Service::note_prefix(const Job& job) {
    if (job.agent == nullptr || !snapshots_.is_open()) return;
    const auto n = static_cast<std::size_t>(job.agent_state->prefix);
    const auto cached = engine_->cached(job.slot, job.adapter);
    if (n == 0 || cached.size() < n) return;
    const auto key = prefix_key(cached.first(n), job.adapter);
    if (key && !snapshots_.has(key.value())) to_keep_ = {job.slot, job.adapter, n, key.value()};
}

void Service::keep_prefix() {
    const auto [slot, adapter, n, wanted] = to_keep_;
    to_keep_.slot = -1;
    const auto cached = engine_->cached(slot, adapter);
    if (cached.size() < n || !engine_->can_hold(slot, static_cast<int>(n))) return;
    const auto key = prefix_key(cached.first(n), adapter);
    if (!key || key.value() != wanted) return;  // another prompt has the slot now
    if (const auto saved = snapshots_.save(*engine_, slot, cached.first(n), wanted); !saved) {
        log(Level::warning, {{"SLMD_EVENT", "prefix"}}, "prompts of agents are not kept from now on: %s",
            saved.error().text);
        snapshots_.close();
        return;
    }
    log(Level::info, {{"SLMD_EVENT", "prefix"}, {"SLMD_TOKENS", static_cast<int>(n)}},
        "%zu tokens of an agent's prompt are kept for the next start", n);
}

}  // namespace slmd::daemon
