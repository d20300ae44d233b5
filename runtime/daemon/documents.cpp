#include "daemon/documents.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "base/utf8.h"
#include "daemon/log.h"
#include "daemon/plan.h"
#include "docs/pool.h"

namespace slmd::daemon {

using docs::Store;

static_assert(wire::DocumentsRequest::max_passages == Store::max_part);
static_assert(wire::DocumentsRequest::max_top == Store::max_hits);

void Documents::lay_out(Arena& arena, const Config& config) {
    if (config.docs_passages == 0) return;
    memory_ = {arena.scratch<std::byte>(Store::memory_bytes), Store::memory_bytes};
    runs_ = arena.scratch<Run>(max_runs + 1);
    for (int i = 0; i <= max_runs; i++) {
        char* const text = arena.scratch<char>(text_bytes);
        char* const found = arena.scratch<char>(Store::hits_bytes);
        char* const prompt = arena.scratch<char>(prompt_bytes);
        char* const answer = arena.scratch<char>(answer_bytes);
        if (runs_ == nullptr) continue;
        new (&runs_[i]) Run{};
        runs_[i].text = text, runs_[i].found = found, runs_[i].prompt = prompt, runs_[i].answer = answer;
    }
}

Result<void> Documents::open(const Config& config, int wake) {
    wake_ = wake;
    if (runs_ == nullptr) return {};
    TRY(docs::give_memory(memory_));
    char path[sizeof config.state + 16];
    snprintf(path, sizeof path, "%s/documents.db", config.state);
    const auto opened = store_.open(path, {config.docs_passages});
    is_open_ = static_cast<bool>(opened);
    if (!opened) {
        unopened_ = opened.error();
        log(Level::error, {{"SLMD_EVENT", "documents"}}, "%s; slmd goes on without documents", unopened_.text);
        return {};
    }
    if (store_.damaged())
        log(Level::error, {{"SLMD_EVENT", "documents"}},
            "%s was damaged: it is %s.damaged now, and the documents have to be added again", path, path);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 512 * 1024);
    const int e = pthread_create(&thread_, &attributes, thread_main, this);
    pthread_attr_destroy(&attributes);
    if (e != 0) return Error::make(Code::memory_full, "cannot start the thread of the documents: %s", strerror(e));
    started_ = true;
    return {};
}

void Documents::close() {
    if (started_) {
        pthread_mutex_lock(&lock_);
        stop_ = true;
        pthread_cond_signal(&work_);
        pthread_mutex_unlock(&lock_);
        pthread_join(thread_, nullptr);
        started_ = stop_ = false;
    }
    store_.close();
}

// ---- the store's thread

void* Documents::thread_main(void* self) {
    static_cast<Documents*>(self)->work();
    return nullptr;
}

void Documents::work() {
    pthread_mutex_lock(&lock_);
    while (!stop_) {
        Run* first = nullptr;
        for (Run& run : std::span(runs_, max_runs + 1))
            if (run.stage == Run::at_store && (first == nullptr || run.order < first->order)) first = &run;
        if (first == nullptr) {
            pthread_cond_wait(&work_, &lock_);
            continue;
        }
        first->working = true;
        pthread_mutex_unlock(&lock_);
        const auto done = perform(*first);
        const bool damaged = store_.damaged();
        pthread_mutex_lock(&lock_);
        first->failed = !done;
        if (!done) first->error = done.error();
        first->working = false;
        first->stage = Run::stored;
        if (damaged) {
            changed_.store(true);
            log(Level::error, {{"SLMD_EVENT", "documents"}}, "%s",
                done ? "the documents were damaged" : done.error().text);
        }
        const std::uint64_t one = 1;
        (void)!write(wake_, &one, sizeof one);
    }
    pthread_mutex_unlock(&lock_);
}

Result<void> Documents::perform(Run& run) {
    const std::span<char> room{run.found, Store::hits_bytes};
    switch (run.what) {
        case Run::list:
            run.count = TRY(store_.list(run.name, run.encoder, run.documents, room));
            run.counts = TRY(store_.counts());
            return {};
        case Run::add: run.added = TRY(store_.add(run.part)); return {};
        case Run::remove: run.removed = TRY(store_.remove(run.name)); return {};
        case Run::search:
        case Run::ask:
            run.count = TRY(store_.search(run.question, run.encoder, {run.vector, static_cast<std::size_t>(run.dim)},
                                          run.by, std::span(run.hits).first(run.top), room));
            if (run.what == Run::ask)
                run.evidence = docs::find_evidence(store_.words(), {run.hits, run.count}, Documents::evidence_bytes);
            return {};
        case Run::find_unembedded:
            run.count = TRY(store_.unembedded(run.encoder, run.behind, std::span(run.hits).first(run.top), room));
            return {};
        case Run::put_vectors: {
            docs::Vector vectors[together];
            const auto dim = static_cast<std::size_t>(run.dim);
            for (std::size_t i = 0; i < run.count; i++)
                vectors[i] = {run.hits[i].passage,
                              run.vector[i],
                              {reinterpret_cast<const std::int8_t*>(run.text) + i * dim, dim}};
            return store_.put(run.encoder, {vectors, run.count});
        }
    }
    return {};
}

// ---- the event loop's thread

void Documents::to_store(Run& run) {
    pthread_mutex_lock(&lock_);
    run.stage = Run::at_store;
    run.order = ++order_;
    pthread_cond_signal(&work_);
    pthread_mutex_unlock(&lock_);
}

Result<int> Documents::start(const wire::Request& request, const Embedder& embedder) {
    using What = wire::DocumentsRequest;
    if (runs_ == nullptr)
        return Error::make(Code::not_supported,
                           "this slmd keeps no documents: [limits] passages in slmd.toml says how many it may");
    if (!is_open_) return unopened_;
    Run* found = nullptr;
    for (Run& run : std::span(runs_, max_runs))
        if (run.stage == Run::free) found = &run;
    if (found == nullptr)
        return Error::make(Code::busy, "%d requests to the documents run already; ask again later", max_runs);
    Run& run = *found;
    const What& w = *request.documents;
    const std::string_view question = request.turns.back().text;
    std::size_t bytes = w.name.size() + w.sha256.size() + question.size();
    for (const wire::PassageGiven& p : w.passages) bytes += p.heading.size() + p.text.size();
    if (bytes > text_bytes)
        return Error::make(Code::text_too_long, "the request is %zu bytes; at most %zu", bytes, text_bytes);
    char* at = run.text;
    const auto keep = [&](std::string_view s) {
        std::copy(s.begin(), s.end(), at);
        at += s.size();
        return std::string_view{at - s.size(), s.size()};
    };
    run.what = static_cast<Run::What>(w.what);
    run.released = run.failed = false;
    run.begun_ns = now_ns();
    const std::int64_t ms = request.settings->deadline_ms;
    run.deadline_ns = ms <= 0 ? 0 : run.begun_ns + ms * 1'000'000;
    run.question = keep(question), run.name = keep(w.name), run.sha256 = keep(w.sha256);
    for (std::size_t i = 0; i < w.passages.size(); i++) {
        const wire::PassageGiven& p = w.passages[i];
        run.passages[i] = {keep(p.heading), keep(p.text), p.begin, p.end};
    }
    run.part = {run.name, run.sha256, w.bytes, w.part, w.last, {run.passages, w.passages.size()}};
    run.by = w.by == "words" ? Store::By::words : w.by == "meaning" ? Store::By::meaning : Store::By::both;
    run.top = w.top > 0 ? static_cast<std::size_t>(w.top) : run.what == Run::ask ? 3 : 5;
    run.encoder = embedder.id;
    run.dim = 0;
    run.count = run.answer_size = run.taken = 0;
    run.handle = -1;
    run.outcome = {};
    run.documents_outcome = {w.what};
    const bool questions = run.what == Run::search || run.what == Run::ask;
    if (questions && run.by == Store::By::meaning && embedder.id == 0)
        return Error::make(Code::not_supported,
                           "this slmd has no encoder, which finds by meaning: [embed] model in slmd.toml names one");
    if (questions && run.by != Store::By::words && embedder.id != 0)
        run.stage = Run::embedding;  // advance() submits it
    else
        to_store(run);
    return first_handle + static_cast<int>(found - runs_);
}

bool Documents::settled(const Run& run) {
    pthread_mutex_lock(&lock_);
    const bool yes = run.stage != Run::at_store;
    pthread_mutex_unlock(&lock_);
    return yes;
}

void Documents::advance(wire::Host& host, const Embedder& embedder, bool idle) {
    if (runs_ == nullptr || !is_open_) return;
    for (Run& run : std::span(runs_, max_runs)) {
        if (run.stage == Run::free || run.stage == Run::finished || !settled(run)) continue;
        if (run.released) {
            run.stage = Run::free;
            continue;
        }
        if (run.stage == Run::embedding) embed(run, host);
        if (run.stage == Run::answering) answered(run, host);
        if (run.stage == Run::stored) tell(run, host);
        idle = idle && run.stage == Run::finished;
    }
    keep_embedding(host, embedder, idle);
}

// Of a question; then the store is asked.
void Documents::embed(Run& run, wire::Host& host) {
    if (run.handle < 0) {
        const wire::Turn turn{false, run.question};
        wire::Settings settings;
        if (run.deadline_ns != 0)
            settings.deadline_ms = std::max<std::int64_t>(1, (run.deadline_ns - now_ns()) / 1'000'000);
        wire::Request request{{&turn, 1}, &settings, false};
        request.embed = true;
        const auto handle = host.submit(request);
        if (!handle && handle.error().code == Code::busy) return;  // it waits
        if (!handle) return fail(run, handle.error());
        run.handle = handle.value();
    }
    const wire::View v = host.view(run.handle);
    if (v.state != wire::View::finished) return;
    const Error error = v.outcome->failed ? v.outcome->error : Error{};
    if (!v.outcome->failed) {
        run.dim = static_cast<int>(std::min(v.outcome->vectors.size(), Store::max_dim));
        std::copy_n(v.outcome->vectors.begin(), run.dim, run.vector);
    }
    const bool failed = v.outcome->failed;
    host.release(run.handle);
    run.handle = -1;
    if (failed) return fail(run, error);
    run.documents_outcome.meaning = true;
    to_store(run);
}

void Documents::tell(Run& run, wire::Host& host) {
    if (run.failed) return fail(run, run.error);
    if (run.what == Run::ask) return ask(run, host);
    wire::DocumentsOutcome& o = run.documents_outcome;
    switch (run.what) {
        case Run::list:
            for (std::size_t i = 0; i < run.count; i++) {
                const docs::Document& d = run.documents[i];
                run.listed[i] = {d.name, d.sha256, d.bytes, d.passages, d.embedded, d.whole};
            }
            o.list = {run.listed, run.count};
            o.documents = run.counts.documents, o.passages = run.counts.passages;
            o.meaning = run.encoder != 0;
            break;
        case Run::add:
            o.passages = run.added.passages, o.unchanged = run.added.unchanged;
            if (run.part.last && !o.unchanged) changed_.store(true);
            break;
        case Run::remove: o.passages = run.removed; break;
        default:
            for (std::size_t i = 0; i < run.count; i++) {
                const docs::Hit& h = run.hits[i];
                run.told[i] = {h.passage, h.begin, h.end,      h.document, h.heading,
                               h.text,    h.score, h.coverage, h.words,    h.meaning};
            }
            o.found = {run.told, run.count};
    }
    end(run);
}

void Documents::fail(Run& run, const Error& error) {
    run.outcome.failed = true;
    run.outcome.error = error;
    end(run);
}

void Documents::end(Run& run) {
    run.outcome.finish = "stop";
    run.outcome.total_ms = (now_ns() - run.begun_ns) / 1'000'000;
    run.outcome.documents = &run.documents_outcome;
    run.stage = Run::finished;
}

// Passages without a vector get one: a few at a time, so that a request waits for those few at most.
void Documents::keep_embedding(wire::Host& host, const Embedder& embedder, bool idle) {
    Run& run = background();
    if (!settled(run)) return;
    if (run.stage == Run::stored && run.failed) {  // said by whom it concerns first; the next change tries again
        log(Level::warning, {{"SLMD_EVENT", "documents"}}, "passages are not embedded: %s", run.error.text);
        run.stage = Run::free, all_embedded_ = true;
    }
    if (run.stage == Run::stored && run.what == Run::find_unembedded) {
        run.stage = run.count > 0 ? Run::embedding : Run::free;
        run.handle = -1;
        all_embedded_ = run.count == 0;
    } else if (run.stage == Run::stored) {
        run.stage = Run::free;
    }
    if (run.stage == Run::free && changed_.exchange(false)) all_embedded_ = false, behind_ = 0;
    if (run.stage == Run::free && idle && !all_embedded_ && embedder.id != 0) {
        run.what = Run::find_unembedded;
        run.encoder = embedder.id, run.dim = embedder.dim, run.behind = behind_;
        run.top = std::clamp<std::size_t>(vector_floats / static_cast<std::size_t>(embedder.dim), 1, together);
        return to_store(run);
    }
    if (run.stage != Run::embedding) return;
    if (run.handle < 0) {
        if (!idle) return;
        wire::Turn turns[together];
        char* at = run.text;
        for (std::size_t i = 0; i < run.count; i++) {
            const docs::Hit& h = run.hits[i];
            char* const begin = at;
            at = std::copy(h.heading.begin(), h.heading.end(), at);
            if (at != begin) *at++ = '\n';
            at = std::copy(h.text.begin(), h.text.end(), at);
            turns[i] = {false, {begin, static_cast<std::size_t>(at - begin)}};
        }
        const wire::Settings settings;
        wire::Request request{{turns, run.count}, &settings, false};
        request.embed = true;
        const auto handle = host.submit(request);
        if (!handle) return;  // too much is asked, or it is too hot; later
        run.handle = handle.value();
    }
    const wire::View v = host.view(run.handle);
    if (v.state != wire::View::finished) return;
    const bool good = !v.outcome->failed && v.outcome->texts.size() == run.count;
    const auto dim = static_cast<std::size_t>(run.dim);
    for (std::size_t i = 0; good && i < run.count; i++) {
        const auto vector = v.outcome->vectors.subspan(i * dim, dim);
        run.vector[i] = wire::scale_of(vector);
        wire::quantize(vector, run.vector[i], reinterpret_cast<std::int8_t*>(run.text) + i * dim);
    }
    host.release(run.handle);
    run.handle = -1;
    if (!good) {
        run.stage = Run::free;
        all_embedded_ = true;  // until something is added
        return;
    }
    behind_ = run.hits[run.count - 1].passage;
    run.what = Run::put_vectors;
    to_store(run);
}

wire::View Documents::view(int handle) {
    Run& run = run_of(handle);
    wire::View v;
    const bool done = settled(run) && run.stage == Run::finished;
    v.state = done ? wire::View::finished : wire::View::reading;
    if (!done) return v;
    v.outcome = &run.outcome;
    v.text = {run.answer + run.taken, run.answer_size - run.taken};
    return v;
}

void Documents::take(int handle, std::size_t bytes) { run_of(handle).taken += bytes; }

void Documents::release(int handle, wire::Host& host) {
    Run& run = run_of(handle);
    if (run.handle >= 0) host.release(run.handle);
    run.handle = -1;
    run.released = true;
    if (settled(run)) run.stage = Run::free;
}

}  // namespace slmd::daemon
