#include "daemon/plan.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>
#include <string_view>

#include "text/tokenizer.h"

namespace slmd::daemon {
namespace {

// What a request needs to classify, of lay_out: multiples of the arena's alignment.
constexpr std::size_t label_bytes = task::Classification::max_labels * sizeof(task::Label),
                      node_bytes = task::Classification::max_nodes * sizeof(engine::TreeNode);
constexpr std::size_t texts_bytes = task::Embedding::max_texts * sizeof(task::EmbeddedText);
static_assert(texts_bytes + task::Embedding::max_texts * sizeof(wire::TextRead) <= label_bytes);
static_assert(label_bytes % Arena::align == 0 && node_bytes % Arena::align == 0);

}  // namespace

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
    m.reader = arena.persistent<wire::JsonLine>(1);
    if (m.reader != nullptr) new (m.reader) wire::JsonLine;
    m.job_count = config.engine.slots + config.queue + 4;
    m.jobs = arena.scratch<Job>(static_cast<std::size_t>(m.job_count));
    for (int i = 0; i < m.job_count; i++) {
        char* const text = arena.scratch<char>(prompt_bytes);
        char* const answer = arena.scratch<char>(answer_bytes);
        std::int32_t* const tokens = arena.scratch<std::int32_t>(n);
        auto* const labels = arena.scratch<task::Label>(task::Classification::max_labels);
        auto* const nodes = arena.scratch<engine::TreeNode>(task::Classification::max_nodes);
        char* const paths = arena.scratch<char>(path_bytes);
        if (m.jobs == nullptr) continue;
        new (&m.jobs[i]) Job{};
        m.jobs[i].constraint = -1;
        m.jobs[i].text = text, m.jobs[i].answer = answer, m.jobs[i].tokens = tokens;
        m.jobs[i].labels = labels, m.jobs[i].nodes = nodes, m.jobs[i].paths = paths;
        auto* const bytes = reinterpret_cast<std::byte*>(labels);
        m.jobs[i].texts = reinterpret_cast<task::EmbeddedText*>(bytes);
        m.jobs[i].texts_read = reinterpret_cast<wire::TextRead*>(bytes + texts_bytes);
        m.jobs[i].vectors = reinterpret_cast<float*>(nodes);
    }
    m.workspace.text = {arena.scratch<char>(render_bytes), render_bytes};
    m.workspace.trusted = {arena.scratch<text::Trusted>(render_parts), render_parts};
    const std::size_t scratch = text::Tokenizer::scratch_bytes(render_bytes);
    m.workspace.scratch = {arena.scratch<std::byte>(scratch), scratch};
}

void lay_out_grammars(Arena& arena, const Config& config, int vocab, Memory& m) {
    m.vocabulary.lay_out(arena, vocab);
    for (int i = 0; i < config.engine.slots; i++) m.constraints[i].lay_out(arena, m.vocabulary);
    m.grammar_scratch = {arena.scratch<std::byte>(task::Constraint::scratch_bytes), task::Constraint::scratch_bytes};
}

void lay_out_agents(Arena& arena, const Config& config, Memory& m) {
    const auto bytes = static_cast<std::size_t>(config.agents_kib) << 10;
    for (agent::Set& set : m.agents) set = agent::Set({arena.scratch<std::byte>(bytes), bytes});
    for (AgentState*& states : m.agent_states) states = arena.scratch<AgentState>(agent::Set::max_agents);
    m.pipelines.lay_out(arena);
    const std::size_t keeping =
        config.state[0] == 0 || config.prefixes_mib == 0 ? 0 : engine::Snapshots::memory_bytes();
    m.snapshot_memory = {arena.scratch<std::byte>(keeping), keeping};
}

std::uint64_t Plan::total() const {
    std::uint64_t t = 0;
    for (int i = 0; i < count; i++) t += items[i].bytes;
    return t;
}

engine::Config engine_config(const image::Image& model, const Config& config) {
    engine::Config c = config.engine;
    if (c.context == 0) c.context = std::min(2048, static_cast<int>(model.params().context));
    if (c.batch == 0) c.batch = streams(config) ? engine::max_batch : 32;
    if (config.level[0] != 0) c.level = config.level;
    return c;
}

engine::Config drafter_config(const engine::Config& engine, engine::Engine* with) {
    engine::Config c = engine;
    c.draft = 0;
    c.adapters = {};  // they are for the model; what the drafter guesses, the model checks
    c.with = with;
    c.residency = image::Residency::on_demand;  // small, and asked for every token
    return c;
}

engine::Config encoder_config(const engine::Config& engine, engine::Engine* with) {
    engine::Config c = drafter_config(engine, with);
    c.context = 0;  // what it was made for
    return c;
}

Result<void> find_model(const Config& config, char (&out)[sizeof Config::model_file]) {
    const char* found = config.model;
    image::Choice choice;
    if (image::is_slot_folder(config.model)) {
        const image::SlotFolder folder = TRY(image::SlotFolder::open(config.model));
        choice = folder.next();
        if (choice.slot < 0) return folder.nothing();
        found = choice.path;
    }
    snprintf(out, sizeof out, "%s", found);
    return {};
}

Result<image::Image> open_adapter(const Config::Adapter& a, const image::Trust& trust, bool index_only) {
    auto opened = index_only ? image::Image::open_index(a.path, trust) : image::Image::open(a.path, {.trust = trust});
    if (!opened) return Error::make(Code::incorrect_parameters, "adapter %s: %s", a.name, opened.error().text);
    return opened;
}

Result<Images> open_indexes(const Config& config) {
    char model[sizeof config.model_file];
    TRY(find_model(config, model));
    Images images{TRY(image::Image::open_index(model)), {}, {}, {}, {}, {}};
    if (config.draft_model[0] != 0) images.draft.emplace(TRY(image::Image::open_index(config.draft_model)));
    for (int i = 0; i < config.adapter_count; i++)
        images.adapters[i].emplace(TRY(open_adapter(config.adapters[i], {}, true)));
    if (config.embed_model[0] != 0) images.embed.emplace(TRY(image::Image::open_index(config.embed_model)));
    return images;
}

namespace {

// The engine's plan names its items the same for every model.
constexpr const char* of_drafter(std::string_view item) {
    return item == "image"            ? "draft model: image"
           : item == "embedding rows" ? "draft model: embedding rows"
           : item == "KV cache"       ? "draft model: KV cache"
           : item == "activations"    ? "draft model: activations"
           : item == "engine state"   ? "draft model: engine state"
                                      : "draft model";
}

constexpr const char* of_encoder(std::string_view item) {
    return item == "image"         ? "embed model: image"
           : item == "activations" ? "embed model: activations"
                                   : "embed model: engine state";
}

// What does not go with an encoder, and what goes with nothing else.
Result<void> check_encoders(const Images& images, const Config& config) {
    const bool embed = images.embed && config.embed_model[0] != 0;
    if (embed && !encodes(*images.embed))
        return Error::make(Code::model_format,
                           "embed model %.120s is no encoder; without [embed] the model itself embeds texts",
                           config.embed_model);
    if (encodes(images.model) && (embed || config.draft_model[0] != 0))
        return Error::make(Code::incorrect_parameters, "model is an encoder, which goes alone: leave out %s",
                           embed ? "[embed]" : "draft_model");
    if (encodes(images.model) && streams(config))
        return Error::make(Code::incorrect_parameters, "an encoder is small, and not streamed: leave out stream");
    return {};
}

// A raw image that is mapped in place needs no memory that the system could not take back; one that was kept over a
// restart is in memory already.
std::uint64_t free_of_charge(const image::Image& image) {
    return !image.sizes().compressed || image.memfd() >= 0 ? image.footprint(image::Residency::on_demand).resident : 0;
}
std::uint64_t needed(const Images& images, const Config& config, const Plan& plan) {
    return plan.total() - free_of_charge(images.model) -
           (images.draft && config.draft_model[0] != 0 ? free_of_charge(*images.draft) : 0) -
           (images.embed && config.embed_model[0] != 0 ? free_of_charge(*images.embed) : 0);
}

}  // namespace

Result<Plan> plan(const Images& images, const Config& config) {
    engine::Config e = engine_config(images.model, config);
    const image::Image* adapters[engine::max_adapters];
    for (int i = 0; i < config.adapter_count; i++) adapters[i] = &*images.adapters[i];
    e.adapters = {adapters, static_cast<std::size_t>(config.adapter_count)};
    TRY(check_encoders(images, config));
    const engine::Plan engine_plan =
        TRY(encodes(images.model) ? engine::plan_encoder(images.model, e) : engine::plan(images.model, e));
    Plan p;
    p.context = p.tokens = e.context;
    for (int i = 0; i < engine_plan.count; i++)
        p.items[p.count++] = {engine_plan.items[i].name, engine_plan.items[i].bytes};
    if (images.draft && config.draft_model[0] != 0) {
        const engine::Plan draft_plan = TRY(engine::plan(*images.draft, drafter_config(e, nullptr)));
        for (int i = 0; i < draft_plan.count; i++)
            p.items[p.count++] = {of_drafter(draft_plan.items[i].name), draft_plan.items[i].bytes};
    }
    if (images.embed && config.embed_model[0] != 0) {
        const engine::Plan embed_plan = TRY(engine::plan_encoder(*images.embed, encoder_config(e, nullptr)));
        for (int i = 0; i < embed_plan.count; i++)
            p.items[p.count++] = {of_encoder(embed_plan.items[i].name), embed_plan.items[i].bytes};
        p.tokens = std::max(p.tokens, static_cast<int>(images.embed->params().context));
    }
    Arena arena;
    Memory memory{};
    lay_out(arena, config, p.tokens, memory);
    p.items[p.count++] = {"clients", arena.persistent_bytes()};
    const std::uint64_t classify_bytes = static_cast<std::uint64_t>(memory.job_count) * (label_bytes + node_bytes);
    p.items[p.count++] = {"requests", arena.scratch_bytes() - classify_bytes};
    p.items[p.count++] = {"requests: labels", classify_bytes};
    Arena grammars;
    if (!encodes(images.model))
        lay_out_grammars(grammars, config, static_cast<int>(images.model.params().vocab), memory);
    p.items[p.count++] = {"grammars", grammars.used()};
    Arena agents;
    lay_out_agents(agents, config, memory);
    p.items[p.count++] = {"agents", agents.used()};
    if (config.docs_passages > 0) {
        Arena documents;
        memory.documents.lay_out(documents, config);
        p.items[p.count++] = {"documents", documents.used() + sqlite_bytes};
    }
    if (config.uplink.socket[0] != 0) {
        Arena uplink;
        memory.uplink.lay_out(uplink, config);
        p.items[p.count++] = {"uplink", uplink.used()};
    }
    if (config.ledger_mib > 0) {
        Arena ledger;
        memory.records.lay_out(ledger, config);
        p.items[p.count++] = {"ledger", ledger.used()};
    }
    p.items[p.count++] = {"program, libraries, stacks", program_bytes};
    return p;
}

int loading_threads(const Config& config) {
    return config.engine.threads > 0 ? config.engine.threads
                                     : static_cast<int>(std::clamp(sysconf(_SC_NPROCESSORS_ONLN), 1L, 16L));
}

Result<std::uint64_t> memory_max(const Images& images, const Config& config) {
    const std::uint64_t total = TRY(plan(images, config)).total();
    return total + image::loading_bytes(loading_threads(config)) + total / 256 + (16u << 20);
}

Result<void> check_memory(const Images& images, const Config& config, std::uint64_t available) {
    const std::uint64_t need = needed(images, config, TRY(plan(images, config)));
    if (need <= available) return {};
    const auto fits = [&](const Config& c) {
        const auto p = plan(images, c);
        return p && needed(images, c, p.value()) <= available;
    };
    Error e = Error::make(Code::model_memory, "the plan needs %llu MiB, %llu MiB are available.",
                          static_cast<unsigned long long>((need >> 20) + 1),
                          static_cast<unsigned long long>(available >> 20));
    bool any = false;
    const auto suggest = [&](const char* format, int number) {
        const std::size_t used = std::strlen(e.text);
        std::snprintf(e.text + used, sizeof e.text - used, any ? ", or " : " It would fit with ");
        const std::size_t at = std::strlen(e.text);
        std::snprintf(e.text + at, sizeof e.text - at, format, number);  // NOLINT(clang-diagnostic-format-nonliteral)
        any = true;
    };
    const int context = engine_config(images.model, config).context;
    const auto smaller = [&](Config c) {  // the largest context that fits, 0: none
        for (c.engine.context = (context - 1) / 64 * 64; c.engine.context >= 64; c.engine.context -= 64)
            if (fits(c)) return c.engine.context;
        return 0;
    };
    if (const int n = smaller(config); n > 0) suggest("context = %d", n);
    const auto pass = static_cast<int>((images.model.footprint(image::Residency::streamed).pass >> 20) + 1);
    const bool can_stream = images.model.sizes().compressed && pass > 1 && !streams(config);
    Config c = config;
    c.engine.residency = image::Residency::streamed;
    if (can_stream && fits(c))
        suggest(images.model.params().experts != 0 ? "--stream, which reads up to %d MiB for a token"
                                                   : "--stream, which reads %d MiB for every pass",
                pass);
    c = config;
    c.engine.slots = 1;
    if (config.engine.slots > 1 && fits(c)) suggest("slots = %d", 1);
    c = config;
    c.engine.threads = c.engine.decode_threads = 1;
    if (config.engine.threads != 1 && fits(c)) suggest("threads = %d", 1);
    c = config;
    c.adapter_count = 0;
    if (config.adapter_count > 0 && fits(c)) suggest("no [[adapter]]", 0);
    c = config;
    c.draft_model[0] = 0;
    if (config.draft_model[0] != 0 && fits(c)) suggest("no draft model", 0);
    c = config;
    c.embed_model[0] = 0;
    if (config.embed_model[0] != 0 && fits(c)) suggest("no embed model", 0);
    if (any) return e;
    const bool draft = config.draft_model[0] != 0, embed = config.embed_model[0] != 0;
    const char* const alone = draft && embed ? "no second models "
                              : draft        ? "no draft model "
                              : embed        ? "no embed model "
                                             : "";
    char all[96];
    std::snprintf(all, sizeof all, "--stream, slots = 1, threads = 1%s %sand context = %%d", *alone != 0 ? "," : "",
                  alone);
    c.draft_model[0] = 0;
    c.engine.slots = c.engine.threads = c.engine.decode_threads = 1;
    if (const int n = smaller(c); n > 0)
        suggest(all + std::strlen("--stream, "), n);
    else if (c.engine.residency = image::Residency::streamed; can_stream && smaller(c) > 0)
        suggest(all, smaller(c));
    else
        std::strncat(e.text, " Nothing smaller fits: use a smaller model.", sizeof e.text - std::strlen(e.text) - 1);
    return e;
}

}  // namespace slmd::daemon
