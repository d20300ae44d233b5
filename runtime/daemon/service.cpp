#include "daemon/service.h"

#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "base/bytes.h"
#include "base/utf8.h"
#include "daemon/log.h"
#include "daemon/tune.h"
#include "engine/adapter.h"
#include "image/layers.h"
#include "task/golden.h"
#include "task/tools.h"

namespace slmd::daemon {
namespace {

// Appends to a job's ring; step() made sure that there is room.
struct RingSink final : task::TextSink {
    Job& job;
    pthread_mutex_t& lock;
    RingSink(Job& j, pthread_mutex_t& l) : job(j), lock(l) {}
    void append(std::string_view text) override {
        const Lock guard(lock);
        for (const char c : text)
            if (job.used < answer_bytes) job.answer[(job.head + job.used++) % answer_bytes] = c;
    }
};

// What a generation says, calls as a list.
struct AnswerSink final : task::TextSink {
    RingSink ring;
    AnswerSink(Job& job, pthread_mutex_t& lock) : ring(job, lock) {}
    void append(std::string_view text) override {
        if (ring.job.lists_calls())
            ring.job.call_list.append(text, ring);
        else
            ring.append(text);
    }
    // Once the generation has ended.
    void end() {
        if (ring.job.lists_calls()) ring.job.call_list.end(ring);
    }
};

bool has_room(const Job& job) {
    using task::Generation;
    return job.used + Generation::append_bytes + (job.is_bound() ? Generation::bound_bytes : 0) <= answer_bytes;
}

}  // namespace

Service::Service(const Config& config, const Plan& plan, Images& images, Memory& memory, int wake)
    : config_(config),
      plan_(plan),
      images_(images),
      memory_(memory),
      wake_(wake),
      jobs_(memory.jobs, static_cast<std::size_t>(memory.job_count)) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&work_, &attributes);
    pthread_condattr_destroy(&attributes);
    std::fill(std::begin(slot_job_), std::end(slot_job_), -1);
    std::fill(std::begin(slot_used_), std::end(slot_used_), 0u);
    memcpy(model_name_, images.model.params().name, sizeof model_name_ - 1);
    write_hex(images.model.header().index_sha256, image_hex_);
    for (int i = 0; i < config.adapter_count; i++) {
        const image::Image& a = *images.adapters[i];
        const auto rank = engine::check_adapter(a, images.model);  // good, or there would be no plan
        adapter_infos_[i] = {config.adapters[i].name, a.params().name, rank ? rank.value() : 0,
                             a.footprint(image::Residency::whole).resident};
    }
}

Result<void> Service::start() {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 1024 * 1024);
    const int e = pthread_create(&thread_, &attributes, thread_main, this);
    pthread_attr_destroy(&attributes);
    if (e != 0) return Error::make(Code::memory_full, "cannot start the engine thread: %s", strerror(e));
    started_ = true;
    return {};
}

void Service::stop() {
    if (!started_) return;
    {
        const Lock guard(lock_);
        stop_ = true;
        for (Job& job : jobs_) job.cancel.store(true);
        pthread_cond_signal(&work_);
    }
    state_.store(State::stopping, std::memory_order_release);
    pthread_join(thread_, nullptr);
    started_ = false;
    delete drafter_;  // works with the engine's threads, as an encoder beside it does
    delete encoder_;
    delete engine_;
    engine_ = drafter_ = nullptr;
    encoder_ = nullptr;
}

void Service::wake() const {
    const std::uint64_t one = 1;
    (void)!write(wake_, &one, sizeof one);
}

void* Service::thread_main(void* self) {
    auto& s = *static_cast<Service*>(self);
    if (auto loaded = s.load(); !loaded) {
        s.failure_ = loaded.error();
        State expected = State::loading;
        s.state_.compare_exchange_strong(expected, State::failed);
        s.wake();
        return nullptr;
    }
    State expected = State::loading;
    s.state_.compare_exchange_strong(expected, State::ready);
    s.wake();
    s.serve();
    return nullptr;
}

Result<void> Service::load() {
    image::OpenOptions options;
    options.threads = loading_threads(config_);
    options.residency = config_.engine.residency;
    options.experts = config_.engine.experts;
    options.trust = images_.trust;
    options.frames = &steps_;
    options.context = this;
    options.progress = [](void* context, std::uint64_t done, std::uint64_t total) {
        auto& s = *static_cast<Service*>(context);
        const int percent = total == 0 ? 0 : static_cast<int>(done * 99 / total);
        s.steps_.fetch_add(1);
        if (percent != s.percent_.exchange(percent)) s.wake();
    };
    image_.emplace(TRY(open_image(&images_.model, config_.model_file, options)));
    warn_of_streaming();
    engine::Config engine = engine_config(*image_, config_);
    engine.progress = &steps_;
    tokenizer_.emplace(TRY(text::Tokenizer::open(image_->section(image::SectionId::tokenizer))));
    chat_.emplace(TRY(text::ChatTemplate::open(image_->section(image::SectionId::chat))));
    if (encodes(*image_)) {
        encoder_ = TRY(engine::Encoder::open(*image_, engine));
        prefill_threads_ = decode_threads_ = encoder_->threads();
    } else {
        TRY(load_writer(options, engine));
    }
    if (const int vocab = engine_ != nullptr ? engine_->vocab() : encoder_->vocab(); tokenizer_->vocab() > vocab)
        return Error::make(Code::model_format, "%s: the tokenizer has %d tokens, the model %d", config_.model_file,
                           tokenizer_->vocab(), vocab);
    if (images_.slot.trial) TRY(confirm());
    percent_.store(100);
    return {};
}

// What only a model that writes has: guesses, an encoder beside it, thread counts for two kinds of passes, grammars.
Result<void> Service::load_writer(const image::OpenOptions& options, engine::Config engine) {
    image::OpenOptions second = options;
    second.residency = image::Residency::on_demand;
    const image::Image* adapters[engine::max_adapters];
    for (int i = 0; i < config_.adapter_count; i++)
        adapters[i] = &adapter_images_[i].emplace(TRY(open_adapter(config_.adapters[i], images_.trust, false)));
    engine.adapters = {adapters, static_cast<std::size_t>(config_.adapter_count)};
    engine_ = TRY(engine::Engine::open(*image_, engine));
    if (config_.draft_model[0] != 0) {
        draft_image_.emplace(TRY(open_image(images_.draft ? &*images_.draft : nullptr, config_.draft_model, second)));
        const auto a = image_->section(image::SectionId::tokenizer),
                   b = draft_image_->section(image::SectionId::tokenizer);
        if (!std::equal(a.begin(), a.end(), b.begin(), b.end()))
            return Error::make(Code::model_format, "draft model %s: its tokenizer is not that of %s; it cannot guess",
                               config_.draft_model, config_.model_file);
        drafter_ = TRY(engine::Engine::open(*draft_image_, drafter_config(engine, engine_)));
    }
    if (config_.embed_model[0] != 0) {
        embed_image_.emplace(TRY(open_image(images_.embed ? &*images_.embed : nullptr, config_.embed_model, second)));
        encoder_ = TRY(engine::Encoder::open(*embed_image_, encoder_config(engine, engine_)));
        embed_tokenizer_.emplace(TRY(text::Tokenizer::open(embed_image_->section(image::SectionId::tokenizer))));
        if (embed_tokenizer_->vocab() > encoder_->vocab())
            return Error::make(Code::model_format, "embed model %s: the tokenizer has %d tokens, the model %d",
                               config_.embed_model, embed_tokenizer_->vocab(), encoder_->vocab());
    }
    // Of a model that is streamed storage is the measure, not threads.
    if (config_.state[0] != 0 && image_->layers() == nullptr && image_->experts() == nullptr &&
        config_.engine.threads == 0 && config_.engine.decode_threads == 0) {
        const auto tuned = tune(*engine_, *image_, config_.state);
        if (!tuned && tuned.error().code != Code::storage_failure) return tuned.error();
        if (!tuned)
            log(Level::warning, {{"SLMD_EVENT", "state"}}, "thread counts are measured at each start: %s",
                tuned.error().text);
    }
    prefill_threads_ = engine_->prefill_threads();
    decode_threads_ = engine_->decode_threads();
    task::build(*tokenizer_, memory_.vocabulary);
    open_snapshots();
    return {};
}

// A model that is tried becomes the one that answers when it says here what it said where it was made.
Result<void> Service::confirm() {
    Job& scratch = jobs_[0];  // no request has it yet
    const std::span<std::int32_t> tokens{scratch.tokens, static_cast<std::size_t>(plan_.context)};
    const int asked =
        TRY(engine_ != nullptr ? task::check_golden(config_.model_file, *image_, *engine_, tokens, scratch.cancel)
                               : task::check_golden(config_.model_file, *image_, *encoder_, tokens, scratch.cancel));
    if (engine_ != nullptr) engine_->forget(0);
    const image::SlotFolder folder = TRY(image::SlotFolder::open(config_.model));
    const auto kept = folder.confirm(images_.slot);
    const char letter[2] = {image::slot_letter(images_.slot.slot), 0};
    char passed[64] = "it has no golden prompts";
    if (asked > 0) snprintf(passed, sizeof passed, "%d golden prompts passed", asked);
    if (kept)
        log(Level::notice, {{"SLMD_EVENT", "slot"}, {"SLMD_SLOT", letter}}, "slot %s is confirmed: %s", letter, passed);
    else
        log(Level::warning, {{"SLMD_EVENT", "slot"}, {"SLMD_SLOT", letter}},
            "slot %s is good (%s), and is tried again at the next start: %s", letter, passed, kept.error().text);
    return {};
}

Result<image::Image> Service::open_image(image::Image* adopted, const char* path, const image::OpenOptions& options) {
    if (adopted != nullptr && adopted->memfd() >= 0) return std::move(*adopted);
    log(Level::info, {{"SLMD_EVENT", "image"}, {"SLMD_FROM", "file"}}, "%s: reading the file", path);
    return image::Image::open(path, options);
}

const char* Service::streaming(char* text, std::size_t size) const {
    const image::Layers* const layers = image_->layers();
    const image::Experts* const experts = image_->experts();
    text[0] = 0;
    if (experts != nullptr)
        snprintf(text, size, "decodes experts on demand, up to %.0f MiB of them for a token; %d of %u are kept",
                 static_cast<double>(image_->footprint(image::Residency::streamed).pass) / 1048576, experts->kept(),
                 image_->params().layers * image_->params().experts);
    if (layers == nullptr) return text;
    const double bytes = static_cast<double>(layers->pass_bytes()), rate = layers->bytes_per_second();
    snprintf(text, size, "streams %.0f MiB for every pass: about %.*f s a token at %.0f MB/s", bytes / 1048576,
             bytes < rate ? 2 : 1, bytes / rate, rate / 1e6);
    return text;
}

void Service::warn_of_streaming() const {
    if (!streams(config_)) return;
    char text[128];
    if (image_->layers() == nullptr && image_->experts() == nullptr)
        log(Level::notice, {{"SLMD_EVENT", "stream"}},
            "%s: a raw image is mapped in place, and nothing of it is streamed: the system reads what does not fit",
            config_.model_file);
    else
        log(Level::warning, {{"SLMD_EVENT", "stream"}}, "%s: %s", config_.model_file, streaming(text, sizeof text));
}

void Service::keep(Notify& notify) const {
    keep_image(notify, *image_, images_.trust);
    if (draft_image_) keep_image(notify, *draft_image_, images_.trust);
    if (embed_image_) keep_image(notify, *embed_image_, images_.trust);
}

const char* Service::describe(char* text, std::size_t size) const {
    const image::ModelParams& p = image_->params();
    char streamed[128];
    const char* const how = streaming(streamed, sizeof streamed);
    if (engine_ == nullptr) {
        snprintf(text, size, "%.64s: embeds texts of up to %d tokens, %d threads, level %s", p.name,
                 encoder_->context(), encoder_->threads(), encoder_->level());
        return text;
    }
    snprintf(text, size, "%.64s: %d slots of %d tokens, %d threads, level %s%s%s", p.name, engine_->slots(),
             engine_->context(), engine_->threads(), engine_->level(), how[0] == 0 ? "" : "; ", how);
    return text;
}

bool Service::progressed() {
    const std::uint64_t steps = steps_.load();
    if (steps != steps_seen_) return steps_seen_ = steps, true;
    if (state() != State::ready) return false;
    const Lock guard(lock_);
    return sleeping_;
}

// ---- the engine thread

void Service::serve() {
    for (;;) {
        const Round round = next();
        if (round.open != nullptr)
            open(*round.open);
        else if (round.back != nullptr)
            take_back(*round.back);
        else if (round.keep)
            keep_prefix();
        else if (round.count > 0) {
            const std::int64_t before = now_ns();
            step(round);
            rest(now_ns() - before);
        } else
            return;
        steps_.fetch_add(1);
        wake();
    }
}

// A hot board works for a part of the time only.
void Service::rest(std::int64_t worked_ns) {
    const Lock guard(lock_);
    if (effort_.duty >= 100 || stop_) return;
    const std::int64_t until =
        now_ns() + std::min<std::int64_t>(worked_ns * (100 - effort_.duty) / effort_.duty, 2'000'000'000);
    const timespec t{until / 1'000'000'000, until % 1'000'000'000};
    sleeping_ = true;
    while (!stop_ && now_ns() < until) pthread_cond_timedwait(&work_, &lock_, &t);
    sleeping_ = false;
}

bool Service::runnable(const Job& job) const {
    return job.state == Job::live && !job.acting && job.way == Job::home &&
           (has_room(job) || !job.stream || job.cancel.load(std::memory_order_relaxed));
}

// Sleeps while there is nothing to do.
Service::Round Service::next() {
    const Lock guard(lock_);
    for (;;) {
        Round round;
        if (stop_) return round;
        if (effort_new_) {
            for (engine::Engine* const e : {engine_, drafter_})
                if (e != nullptr)
                    e->work_with(std::min(prefill_threads_, effort_.threads),
                                 std::min(decode_threads_, effort_.threads));
            if (encoder_ != nullptr) encoder_->work_with(std::min(prefill_threads_, effort_.threads));
            effort_new_ = false;
        }
        const std::int64_t now = now_ns();
        std::int64_t wait_until = 0;
        for (Job& job : jobs_) {
            job.stepping = false;
            if (job.released && job.state != Job::free) {
                if (job.slot >= 0) slot_job_[job.slot] = -1;
                job.slot = job.constraint = -1;
                job.state = Job::free;
                if (job.set != nullptr) job.set->users--;
                job.set = nullptr;
                continue;
            }
            if (job.state != Job::live || job.deadline_ns == 0) continue;
            // a job without a slot, or one whose client does not read, meets its deadline here
            if (now >= job.deadline_ns && (job.slot < 0 || !runnable(job))) {
                if (job.way == Job::asks) continue;
                if (job.way != Job::home) {
                    job.came = job.came_bad = true;
                    end_here(job, {route::Answer::refuse, route::Reason::no_answer},
                             "the deadline passed while the large model was asked");
                } else if (job.tokens_out == 0 && job.wording == 0) {
                    const Error e = Error::make(Code::deadline, "the deadline passed while the request waited");
                    finish(job, &e);
                } else {
                    if (job.wording == 0) {
                        tell_answer(job);
                        if (job.step > 0) judge(job, true);
                        job.outcome.finish = task::finish_name(task::Finish::deadline);
                    }
                    finish(job, nullptr);
                }
                wake();
            } else if (wait_until == 0 || job.deadline_ns < wait_until) {
                wait_until = job.deadline_ns;
            }
        }
        for (Job& job : jobs_) {
            if (job.state != Job::live || job.way != Job::back) continue;
            if (job.is_bound()) job.constraint = free_constraint();
            if (job.is_bound() && job.constraint < 0) continue;
            job.stepping = true;
            round.back = &job;
            return round;
        }
        // slots go to those who came first; tokenizing comes before a slot is chosen
        Job* first = nullptr;
        for (;;) {
            first = nullptr;
            for (Job& job : jobs_)
                if (runnable(job) && job.slot < 0 && (job.opened || !job.is_bound() || free_constraint() >= 0) &&
                    (first == nullptr || job.order < first->order))
                    first = &job;
            if (first == nullptr) break;
            if (!first->opened) {
                first->stepping = true;
                if (first->is_bound()) first->constraint = free_constraint();
                round.open = first;
                return round;
            }
            if (!give_slot(*first)) break;
        }
        // all that have a slot; whose prompt comes first moves on by one each time
        for (int i = 0; i < slots(); i++) {
            const auto slot = (turn_ + static_cast<std::uint64_t>(i)) % static_cast<std::uint64_t>(slots());
            if (slot_job_[slot] < 0 || !runnable(jobs_[static_cast<std::size_t>(slot_job_[slot])])) continue;
            Job& job = jobs_[static_cast<std::size_t>(slot_job_[slot])];
            slot_used_[slot] = ++order_;
            job.stepping = true;
            if (job.rows == 0 && job.rows_all == UINT64_MAX) {
                const auto energy = machine_->energy();
                job.energy = energy ? static_cast<std::int64_t>(energy.value()) : -1;
                job.rows_all = rows_;
            }
            round.jobs[round.count++] = &job;
        }
        turn_++;
        round.keep = to_keep_.slot >= 0;
        if (round.count > 0 || round.keep) return round;
        sleeping_ = true;
        if (wait_until != 0) {
            const timespec until{wait_until / 1'000'000'000, wait_until % 1'000'000'000};
            pthread_cond_timedwait(&work_, &lock_, &until);
        } else {
            pthread_cond_wait(&work_, &lock_);
        }
        sleeping_ = false;
    }
}

int Service::free_constraint() const {
    for (int i = 0; i < slots(); i++)
        if (std::none_of(jobs_.begin(), jobs_.end(), [&](const Job& j) { return j.constraint == i; })) return i;
    return -1;
}

// A free slot, best the one that shares the longest beginning; else one whose job waits for its client.
bool Service::give_slot(Job& job) {
    const auto tokens = job.begun();
    int best = -1;
    std::size_t best_shared = 0;
    for (int s = 0; s < slots(); s++) {
        if (slot_job_[s] >= 0) continue;
        const auto cached = engine_ != nullptr ? engine_->cached(s, job.adapter) : std::span<const std::int32_t>{};
        std::size_t shared = 0;
        while (shared < cached.size() && shared < tokens.size() && cached[shared] == tokens[shared]) shared++;
        if (best < 0 || shared > best_shared || (shared == best_shared && slot_used_[s] < slot_used_[best]))
            best = s, best_shared = shared;
    }
    for (int s = 0; best < 0 && s < slots(); s++) {
        Job& holder = jobs_[static_cast<std::size_t>(slot_job_[s])];
        if (runnable(holder)) continue;
        holder.slot = -1;
        best = s;
    }
    if (best < 0) return false;
    slot_job_[best] = static_cast<int>(&job - jobs_.data());
    job.slot = best;
    return true;
}

void Service::open(Job& job) {
    text::Message messages[std::max<std::size_t>(wire::Session::max_turns, 2 * agent::Agent::max_shots + 1) + 1];
    std::size_t count = 0;
    char system[sizeof config_.system];
    {
        const Lock guard(lock_);  // a reload changes it
        memcpy(system, config_.system, sizeof system);
    }
    const std::string_view own(job.text + job.system_begin, job.system_end - job.system_begin);
    const std::string_view before = !own.empty()           ? own
                                    : job.agent != nullptr ? job.agent->system
                                    : job.settings.raw     ? ""
                                                           : system;
    if (!before.empty()) messages[count++] = {text::Role::system, before};
    if (job.agent != nullptr)
        for (const agent::Shot& shot : job.agent->shots) {
            messages[count++] = {text::Role::user, shot.prompt};
            messages[count++] = {text::Role::assistant, shot.answer};
        }
    for (int i = 0; i < job.turn_count; i++)
        messages[count++] = {job.turns[i].assistant ? text::Role::assistant : text::Role::user,
                             {job.text + job.turns[i].begin, job.turns[i].end - job.turns[i].begin}};
    const auto opened = open_task(job, {messages, count});
    if (opened && job.agent != nullptr && job.step == 0 && job.wording == 0) find_prefix(job, {messages, count});
    const Lock guard(lock_);
    job.opened = true;
    if (job.wording == 0 && !job.embeds) job.total = job.prompt_tokens();
    if (!opened) finish(job, job.wording == 0 ? &opened.error() : nullptr);
}

Result<void> Service::open_task(Job& job, std::span<const text::Message> messages) {
    const wire::Settings& s = job.settings;
    if (job.embeds) {
        const auto n = static_cast<std::size_t>(job.turn_count);
        for (std::size_t i = 0; i < n; i++)
            new (&job.texts[i]) task::EmbeddedText{messages[messages.size() - n + i].text};
        const int context = encoder_ != nullptr ? encoder_->context() : plan_.context;
        return job.embedding.open(embed_tokenizer_ ? *embed_tokenizer_ : *tokenizer_, {job.texts, n}, dim(),
                                  {job.vectors, vector_floats}, {job.tokens, static_cast<std::size_t>(context)},
                                  job.deadline_ns, memory_.workspace);
    }
    const std::span<std::int32_t> tokens{job.tokens, static_cast<std::size_t>(plan_.context)};
    if (job.classifies)
        return job.classification.open(*tokenizer_, *chat_, messages, {s.raw, job.deadline_ns},
                                       {job.labels, static_cast<std::size_t>(job.label_count)},
                                       {job.nodes, task::Classification::max_nodes}, tokens, memory_.workspace);
    engine::Bias bias[wire::Settings::max_bias];
    for (int i = 0; i < s.biases; i++) bias[i] = {s.bias[i].token, s.bias[i].value};
    std::string_view stops[wire::Settings::max_stops];
    for (int i = 0; i < s.stops; i++) stops[i] = s.stop[i].view();
    task::GenerateOptions o;
    o.sampler.temperature = static_cast<float>(s.temp);
    o.sampler.top_k = static_cast<int>(s.top_k);
    o.sampler.top_p = static_cast<float>(s.top_p);
    o.sampler.min_p = static_cast<float>(s.min_p);
    o.sampler.repetition_penalty = static_cast<float>(s.rep);
    o.sampler.seed = static_cast<std::uint64_t>(s.seed);
    o.sampler.bias = {bias, static_cast<std::size_t>(s.biases)};
    o.max_tokens = static_cast<int>(s.max);
    if (job.agent != nullptr && !job.is_bound()) o.max_bytes = job.agent->text_bytes;
    o.raw = s.raw;
    o.stop = {stops, static_cast<std::size_t>(s.stops)};
    o.deadline_ns = job.deadline_ns;
    if (job.is_bound()) {
        o.constraint = &memory_.constraints[job.constraint];
        job.call_list = {};
        const std::string_view source = job.source();
        TRY(o.constraint->open(job.bound, {job.text + job.grammar_begin, job.grammar_end - job.grammar_begin},
                               source.empty() ? messages.back().text : source, memory_.grammar_scratch));
    }
    return job.generation.open(*tokenizer_, *chat_, messages, o, tokens, memory_.workspace);
}

void Service::step(const Round& round) {
    engine::Engine::Step steps[engine::max_slots];
    Job* asking[engine::max_slots];
    std::size_t n = 0;
    const std::int64_t now = now_ns();
    int batch;
    {
        const Lock guard(lock_);
        batch = std::min(this->batch(), effort_.batch);
    }
    for (int i = 0; i < round.count; i++) {
        Job& job = *round.jobs[i];
        AnswerSink sink(job, lock_);
        bring_prefix(job);
        bool full;
        {
            const Lock guard(lock_);
            full = !has_room(job);
        }
        if (full && !job.cancel.load())  // only when the client wants it all at once
            job.generation.end(task::Finish::length, sink);
        if (job.embeds && encoder_ != nullptr) {  // a pass of its own
            settle(job, job.embedding.work(*encoder_, job.cancel, now));
            continue;
        }
        const auto more = job.embeds ? job.embedding.ask(job.slot, batch, job.cancel, now, steps[n])
                          : job.classifies
                              ? job.classification.ask(job.slot, batch, job.cancel, now, steps[n])
                              : job.generation.ask(job.slot, batch, job.cancel, now, drafter_, steps[n], sink);
        if (more && more.value()) {
            steps[n].adapter = job.adapter;
            asking[n++] = &job;
        } else
            settle(job, more ? Result<bool>(true) : Result<bool>(more.error()));
    }
    if (n == 0) return;
    const auto passed = engine_->advance({steps, n});
    for (std::size_t i = 0; i < n; i++) {
        Job& job = *asking[i];
        AnswerSink sink(job, lock_);
        if (!passed)
            settle(job, passed.error());
        else
            settle(job, job.embeds       ? job.embedding.take(steps[i])
                        : job.classifies ? job.classification.take(steps[i])
                                         : job.generation.take(steps[i], sink));
    }
}

void Service::settle(Job& job, const Result<bool>& ended) {
    const bool again = job.wording > 0, done = ended && ended.value();
    if (done && job.writes()) AnswerSink(job, lock_).end();
    if (done) note_prefix(job);
    if (done && !again) {
        const Lock guard(lock_);
        tell_answer(job);
    }
    // Nobody else touches a job that is worked on: no lock for this.
    const Result<bool> complete = done ? conclude(job) : ended;
    const Lock guard(lock_);
    const auto rows = static_cast<std::uint64_t>(std::max(1, job.cached() - (again ? 0 : job.done)));
    job.rows += rows, rows_ += rows;
    const auto end = [&] {
        if (!has_route(job)) return finish(job, nullptr);
        slot_job_[job.slot] = -1;
        job.slot = job.constraint = -1;
        job.way = Job::asks;
    };
    if (again) {  // the answer stands; what cannot be compared with it does not take it away
        if (!complete || complete.value()) return end();
    } else {
        job.done = job.cached();
        job.tokens_out = job.writes() ? job.tokens_before + job.generation.answer_tokens() : 0;
        if (job.first_ns == 0 && job.tokens_out > 0) job.first_ns = now_ns();
        if (!complete) return finish(job, &complete.error());
        if (done && complete.value()) return end();
    }
    if (!done || job.state != Job::live) return;
    job.tokens_before = job.tokens_out;
    job.acting = job.pending_count > 0;
    slot_job_[job.slot] = -1;  // the next question
    job.slot = job.constraint = -1;
    job.opened = false;
}

// With the lock.
void Service::tell_answer(Job& job) {
    wire::Outcome& o = job.outcome;
    o.finish = task::finish_name(job.how());
    o.prompt_tokens = job.prompt_tokens();
    if (job.embeds) {
        if (job.how() == task::Finish::stop) tell_vectors(job);
        return;
    }
    const Features features = job.classifies ? job.classification.features() : job.generation.features();
    job.sure = job.confidence_of(features);
    if (job.step > 0) return;  // an agent's confidence is that of what it did first
    o.features = features;
    if (job.is_calibrated()) {
        agent::Drift& drift = job.agent_state->drift;
        drift.add(o.features);
        if (drift.drifted() && !job.agent_state->drifted) drifted_ = true;
    }
    o.probability = job.classifies ? 0 : job.generation.probability();
    if (job.classifies && job.how() == task::Finish::stop) tell_labels(job);
}

// With the lock.
void Service::finish(Job& job, const Error* error) {
    const std::int64_t now = now_ns();
    wire::Outcome& o = job.outcome;
    o.failed = error != nullptr;
    if (error != nullptr) o.error = *error;
    o.tokens = job.tokens_out;
    o.first_ms = job.first_ns == 0 ? 0 : (job.first_ns - job.submitted_ns) / 1'000'000;
    o.total_ms = (now - job.submitted_ns) / 1'000'000;
    o.joules = joules(job);
    if (job.first_ns != 0 && now > job.first_ns && job.tokens_out > 1)
        rate_ = static_cast<double>(job.tokens_out - 1) * 1e9 / static_cast<double>(now - job.first_ns);
    if (job.slot >= 0) slot_job_[job.slot] = -1;
    job.slot = job.constraint = -1;
    job.state = Job::finished;
}

// With the lock.
void Service::tell_labels(Job& job) {
    const task::Label* best[wire::LabelSet::max_top];
    const int n = job.classification.best(best);
    for (int i = 0; i < n; i++) job.scores[i] = {best[i]->text, best[i]->probability};
    job.outcome.margin = best[0]->probability - best[1]->probability;  // there are two labels or more
    job.outcome.labels = {job.scores, static_cast<std::size_t>(std::min(n, job.top))};
}

// With the lock.
void Service::tell_vectors(Job& job) {
    const auto n = static_cast<std::size_t>(job.turn_count);
    for (std::size_t i = 0; i < n; i++) new (&job.texts_read[i]) wire::TextRead{job.texts[i].tokens, job.texts[i].cut};
    job.outcome.texts = {job.texts_read, n};
    job.outcome.vectors = job.embedding.vectors();
}

// What the board took while it was worked on, times its share of the rows computed in that time.
double Service::joules(const Job& job) const {
    if (job.rows == 0 || job.energy < 0 || rows_ == job.rows_all) return -1;
    const auto energy = machine_->energy();
    if (!energy) return -1;
    return static_cast<double>(static_cast<std::int64_t>(energy.value()) - job.energy) * 1e-6 *
           static_cast<double>(job.rows) / static_cast<double>(rows_ - job.rows_all);
}

// ---- the event loop's side

void Service::set_effort(const Effort& effort) {
    const Lock guard(lock_);
    if (effort_ == effort) return;
    effort_ = effort;
    effort_new_ = true;
}

bool Service::busy() {
    const Lock guard(lock_);
    return std::any_of(jobs_.begin(), jobs_.end(), [](const Job& j) { return j.state == Job::live && !j.released; });
}

std::span<const wire::HardwareItem> Service::hardware() { return machine_->hardware(); }

std::span<const wire::PinState> Service::pins() { return machine_->pins(); }

Result<void> Service::drive(std::string_view output, bool on, int ms) { return machine_->drive(output, on, ms); }

void Service::reload(Config& config, const Config& fresh, int queue) {
    const Lock guard(lock_);
    memcpy(config.system, fresh.system, sizeof config.system);
    config.queue = std::min(fresh.queue, queue);
}

Result<int> Service::submit(const wire::Request& request) {
    const State state = this->state();
    if (state == State::loading)
        return Error::make(Code::busy, "the model is being loaded: %d %%; AT#STAT? shows when it is there",
                           loaded_percent());
    if (state == State::failed) return Error::make(Code::no_model, "the model could not be loaded");
    if (state == State::stopping) return Error::make(Code::shutting_down, "slmd is stopping");
    if (!request.key.empty()) return submit_late(request);
    if (agent::Set& set = memory_.agents[agents_now_]; !request.agent.empty()) {
        const agent::Entry* const entry = set.find(request.agent);
        if (entry != nullptr && !entry->pipeline.steps.empty()) {
            const int handle = TRY(memory_.pipelines.start(entry->pipeline, set, request));
            {
                const Lock guard(lock_);
                set.users++;
            }
            memory_.pipelines.advance(*this);
            return handle;
        }
    }
    if (request.documents != nullptr) {
        const int handle = TRY(memory_.documents.start(request, embedder()));
        memory_.documents.advance(*this, embedder(), false);
        return handle;
    }
    return admit(request, nullptr);
}

// late: the answer is there, and is only to be looked at.
Result<int> Service::admit(const wire::Request& request, const Uplink::Late* late) {
    std::size_t bytes = 0;
    for (const wire::Turn& t : request.turns) bytes += t.text.size();
    const std::string_view grammar = request.schema.empty() ? request.regex : request.schema;
    bytes += grammar.size() + request.source.size() + request.tools.size();
    if (request.labels != nullptr)
        for (const std::string_view label : request.labels->labels) bytes += label.size();
    if (bytes > prompt_bytes || request.turns.size() > wire::Session::max_turns)
        return Error::make(Code::text_too_long, "the request is %zu bytes; at most %zu", bytes, prompt_bytes);
    if (engine_ == nullptr && !request.embed)
        return Error::make(Code::not_supported,
                           "%.64s is an encoder: it embeds texts (AT#EMB, embed), and writes and chooses nothing",
                           model_name_);
    if (const std::size_t most =
            std::min<std::size_t>(task::Embedding::max_texts, vector_floats / static_cast<std::size_t>(dim()));
        request.embed && request.turns.size() > most)
        return Error::make(Code::incorrect_parameters, "%zu texts: at most %zu at a time, of %d numbers each",
                           request.turns.size(), most, dim());
    const Lock guard(lock_);
    if (effort_.refuse == Effort::heat)
        return Error::make(Code::thermal, "the board is too hot to take more; ask again when it has cooled down");
    if (effort_.refuse == Effort::memory)
        return Error::make(Code::memory_full, "the system is short of memory; ask again later");
    int live = 0;
    Job* found = nullptr;
    for (Job& job : jobs_) {
        live += job.state == Job::live && !job.released;
        if (job.state == Job::free && !job.stepping && found == nullptr) found = &job;
    }
    if (found == nullptr || live >= config_.engine.slots + config_.queue)
        return Error::make(Code::busy, "%d requests run and wait already; ask again later", live);
    Job& job = *found;
    job.released = job.opened = false;
    job.stream = request.stream;
    job.slot = -1;
    job.order = ++order_;
    job.cancel.store(false);
    job.submitted_ns = now_ns();
    job.first_ns = 0;
    job.done = job.total = job.tokens_out = 0;
    job.rows = 0, job.rows_all = UINT64_MAX;
    job.outcome = {};
    job.wording = 0, job.cut = false;
    job.agent = nullptr, job.set = nullptr;
    job.label_count = job.turn_count = 0;
    job.constraint = -1;
    job.wants_spans = request.spans, job.tools = false;
    job.step = job.tokens_before = job.pending_count = job.call_count = 0;
    job.acting = job.prefix_brought = job.held = false;
    job.way = Job::home, job.wish = request.wish, job.dry = request.dry_run;
    job.recorded = 0, job.came = job.late = false;
    job.embeds = request.embed, job.classifies = false;
    job.system_begin = job.system_end = 0;
    job.head = job.used = 0;
    if (request.agent.empty())
        TRY(copy(job, request));
    else
        TRY(prepare(job, request));
    const std::int64_t ms = job.settings.deadline_ms;
    job.deadline_ns = ms == 0 ? 0 : job.submitted_ns + ms * 1'000'000;
    if (late != nullptr) bring_late(job, *late);
    job.state = Job::live;
    pthread_cond_signal(&work_);
    return static_cast<int>(&job - jobs_.data());
}

Result<void> Service::copy(Job& job, const wire::Request& request) {
    const std::string_view grammar = request.schema.empty() ? request.regex : request.schema;
    job.settings = *request.settings;
    job.adapter = TRY(find_adapter(config_, job.settings.adapter));
    std::uint32_t at = 0;
    for (const wire::Turn& t : request.turns) {
        const std::string_view text = t.assistant && !request.tools.empty() ? task::bare_calls(t.text) : t.text;
        memcpy(job.text + at, text.data(), text.size());
        job.turns[job.turn_count++] = {t.assistant, at, at + static_cast<std::uint32_t>(text.size())};
        at += static_cast<std::uint32_t>(text.size());
    }
    const auto keep = [&](std::string_view text, std::uint32_t& begin, std::uint32_t& end) {
        std::copy(text.begin(), text.end(), job.text + at);
        begin = at, end = at += static_cast<std::uint32_t>(text.size());
    };
    keep(grammar, job.grammar_begin, job.grammar_end);
    keep(request.source, job.source_begin, job.source_end);
    job.bound = grammar.empty()          ? task::Constraint::Kind::none
                : request.schema.empty() ? task::Constraint::Kind::regex
                                         : task::Constraint::Kind::schema;
    job.tools = !request.tools.empty();
    if (job.tools) {
        if (job.settings.raw || chat_->empty())  // or they would bind the answer to what the model does not know
            return Error::make(Code::incorrect_parameters, "%s",
                               job.settings.raw ? "tools are told by the chat template: leave out raw"
                                                : "tools are told by a chat template, and this model has none");
        const std::size_t end = prompt_bytes - request.tools.size();  // read behind what is written
        std::copy(request.tools.begin(), request.tools.end(), job.text + end);
        const auto texts = TRY(task::describe_tools({job.text + end, request.tools.size()}, request.tool_choice,
                                                    config_.system, job.call_form(), {job.text + at, end - at}));
        job.system_begin = at;
        job.system_end = job.grammar_begin = at + static_cast<std::uint32_t>(texts.system.size());
        job.grammar_end = job.grammar_begin + static_cast<std::uint32_t>(texts.schema.size());
        if (!texts.schema.empty()) job.bound = task::Constraint::Kind::schema;
    }
    job.classifies = request.labels != nullptr;
    for (std::size_t i = 0; job.classifies && i < request.labels->labels.size(); i++) {
        const std::string_view label = request.labels->labels[i];
        memcpy(job.text + at, label.data(), label.size());
        job.labels[job.label_count++] = {{job.text + at, label.size()},
                                         request.labels->priors.empty() ? 1 : request.labels->priors[i]};
        at += static_cast<std::uint32_t>(label.size());
    }
    job.top = job.classifies ? request.labels->top : 0;
    return {};
}

int Service::place(const Job& job) const {
    if (job.slot >= 0 || job.stepping || !runnable(job)) return 0;
    int place = 0, free_slots = 0;
    for (const Job& other : jobs_) place += runnable(other) && other.slot < 0 && other.order <= job.order;
    for (int s = 0; s < slots(); s++) free_slots += slot_job_[s] < 0;
    return std::max(0, place - free_slots);
}

wire::View Service::view(int handle) {
    if (handle >= Uplink::first_handle) return memory_.uplink.view(handle);
    if (handle >= Documents::first_handle) return memory_.documents.view(handle);
    if (handle >= Pipelines::first_handle) return memory_.pipelines.view(handle);
    const Lock guard(lock_);
    Job& job = jobs_[static_cast<std::size_t>(handle)];
    wire::View v;
    v.done = job.done, v.total = job.total, v.tokens = job.tokens_out;
    if (job.state == Job::finished && !job.came)  // it is recorded first
        v.state = wire::View::finished, v.outcome = &job.outcome;
    else if (job.tokens_out > 0)
        v.state = wire::View::answering;
    else if (job.slot >= 0)
        v.state = wire::View::reading;
    else
        v.place = place(job);
    if (job.agent != nullptr && job.state != Job::finished) {  // it is told with its verdict, or as what it is
        if (job.way == Job::away)
            v.provisional = job.classifies ? job.scores[0].label : std::string_view(job.answer, job.used);
        return v;
    }
    std::string_view text{job.answer + job.head, std::min(job.used, answer_bytes - job.head)};
    if (text.size() < job.used) {  // the ring's end may cut a code point
        std::size_t whole = text.size();
        while (whole > 0 && text.size() - whole < 4 && (text[whole - 1] & 0xC0) == 0x80) whole--;
        if (whole > 0 && utf8_length(text.substr(whole - 1)) < 0) text = text.substr(0, whole - 1);
        if (text.empty()) {
            std::size_t n = 0;
            for (; n < std::min<std::size_t>(4, job.used); n++)
                job.joint[n] = job.answer[(job.head + n) % answer_bytes];
            text = {job.joint, static_cast<std::size_t>(std::max(1, utf8_length({job.joint, n})))};
        }
    }
    v.text = text;
    return v;
}

void Service::take(int handle, std::size_t bytes) {
    if (handle >= Uplink::first_handle) return memory_.uplink.take_text(handle, bytes);
    if (handle >= Documents::first_handle) return memory_.documents.take(handle, bytes);
    if (handle >= Pipelines::first_handle) return memory_.pipelines.take(handle, bytes);
    const Lock guard(lock_);
    Job& job = jobs_[static_cast<std::size_t>(handle)];
    const bool paused = !runnable(job);
    job.head = (job.head + bytes) % answer_bytes;
    job.used -= bytes;
    if (paused && runnable(job)) pthread_cond_signal(&work_);
}

void Service::release(int handle) {
    if (handle >= Uplink::first_handle) return memory_.uplink.release(handle);
    if (handle >= Documents::first_handle) return memory_.documents.release(handle, *this);
    if (handle >= Pipelines::first_handle) {
        agent::Set* const set = memory_.pipelines.release(handle, *this);
        const Lock guard(lock_);
        set->users--;
        return;
    }
    const Lock guard(lock_);
    Job& job = jobs_[static_cast<std::size_t>(handle)];
    job.cancel.store(true);
    job.released = true;
    pthread_cond_signal(&work_);
}

wire::Status Service::status() {
    wire::Status s;
    const Lock guard(lock_);
    int running = 0;
    for (const Job& job : jobs_) {
        if (job.state != Job::live || job.released) continue;
        if (job.slot >= 0)
            running++;
        else
            s.queue++;
    }
    const State state = this->state();
    s.state = state == State::loading    ? "loading"
              : state == State::stopping ? "stopping"
              : state == State::failed   ? "failed"
              : running > 0              ? "busy"
                                         : "idle";
    s.loading = loaded_percent();
    s.clients = clients_;
    s.used_mib = plan_.total() >> 20;
    struct sysinfo memory {};
    if (sysinfo(&memory) == 0) s.limit_mib = static_cast<std::uint64_t>(memory.totalram) * memory.mem_unit >> 20;
    s.rate = rate_;
    s.temp_c = machine_->temperature();
    return s;
}

// Of the encoder, if there is one: a model that writes embeds too badly to find anything.
Documents::Embedder Service::embedder() const {
    if (encoder_ == nullptr) return {};
    std::int64_t id = 0;
    const image::Image& image = embed_image_ ? *embed_image_ : *image_;
    memcpy(&id, image.header().index_sha256, sizeof id);
    return {id == 0 ? 1 : id, encoder_->dim()};
}

wire::ModelInfo Service::model() {
    if (state() != State::ready) return {};
    const image::ModelParams& p = image_->params();
    return {{p.name, strnlen(p.name, sizeof p.name)}, image_->sizes().raw, plan_.context, true, image_hex_};
}

}  // namespace slmd::daemon
