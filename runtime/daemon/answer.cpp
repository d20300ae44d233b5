// An answer from the documents: the sentence that says most of what is asked is the evidence, the model may only answer
// with a part of it, and what comes back is looked for in it once more. So there is no answer without the
// place where it stands; where nothing says enough, there is none at all.
#include <stdio.h>

#include <algorithm>

#include "base/clock.h"
#include "base/json.h"
#include "daemon/documents.h"

namespace slmd::daemon {
namespace {

// Of the question's words, by their weight, that a sentence and its headings have at least: below it nothing was found.
// bench/results/ask.md has what other values come to.
constexpr float least_coverage = 0.6f;
constexpr int answer_tokens = 64;
// No null beside it: offered that, a model of 0.5B takes it every time, and one of 135M never where it should (ask.md).
constexpr std::string_view answer_schema =
    R"({"type":"object","properties":{"answer":{"type":"string","from":"source","minLength":1,"maxLength":160}},)"
    R"("required":["answer"],"additionalProperties":false})";

}  // namespace

void Documents::refuse(Run& run, const char* why) {
    run.documents_outcome.why = why;
    run.answer_size = 0;
    end(run);
}

// What was found is there: the model is asked, when it says enough.
void Documents::ask(Run& run, wire::Host& host) {
    const docs::Evidence& e = run.evidence;
    run.documents_outcome.coverage = run.count == 0 ? 0 : e.coverage;
    if (run.count == 0) return refuse(run, "nothing was found");
    if (e.coverage < least_coverage) return refuse(run, "no passage says enough of what is asked");
    const docs::Hit& hit = run.hits[e.hit];
    const std::string_view sentence = hit.text.substr(e.begin, e.end - e.begin);
    const int n = snprintf(run.prompt, prompt_bytes,
                           "%.*s:\n%.*s\n\nQuestion: %.*s\nAnswer with a short phrase that is copied from the text "
                           "above, as {\"answer\": \"...\"}.",
                           static_cast<int>(hit.heading.size()), hit.heading.data(), static_cast<int>(sentence.size()),
                           sentence.data(), static_cast<int>(run.question.size()), run.question.data());
    const wire::Turn turn{false, {run.prompt, std::min(static_cast<std::size_t>(n), prompt_bytes - 1)}};
    wire::Settings settings;
    settings.max = answer_tokens;
    if (run.deadline_ns != 0)
        settings.deadline_ms = std::max<std::int64_t>(1, (run.deadline_ns - now_ns()) / 1'000'000);
    wire::Request request{{&turn, 1}, &settings, false};
    request.schema = answer_schema;
    request.source = sentence;
    const auto handle = host.submit(request);
    if (!handle && handle.error().code == Code::busy) return;  // it waits
    if (!handle) return fail(run, handle.error());
    run.handle = handle.value();
    run.stage = Run::answering;
}

void Documents::answered(Run& run, wire::Host& host) {
    const wire::View v = host.view(run.handle);
    if (v.state != wire::View::finished) return;
    const wire::Outcome came = *v.outcome;
    run.answer_size = 0;
    for (std::string_view text = v.text; !text.empty(); text = host.view(run.handle).text) {
        const std::size_t n = std::min(text.size(), answer_bytes - run.answer_size);
        std::copy_n(text.begin(), n, run.answer + run.answer_size);
        run.answer_size += n;
        host.take(run.handle, text.size());
    }
    host.release(run.handle);
    run.handle = -1;
    if (came.failed) return fail(run, came.error);
    run.outcome.prompt_tokens = came.prompt_tokens, run.outcome.tokens = came.tokens;
    run.outcome.probability = came.probability;
    if (std::string_view(came.finish) == "deadline")
        return fail(run, Error::make(Code::deadline, "the deadline passed before there was an answer"));
    read_answer(run);
}

void Documents::read_answer(Run& run) {
    JsonNode nodes[4];
    JsonReader reader(nodes, 2);
    const auto parsed = reader.parse({run.answer, run.answer_size});
    const JsonNode* const answer = parsed ? reader.find(reader.root(), "answer") : nullptr;
    if (answer == nullptr || answer->type != JsonType::string)
        return refuse(run, "the model finds no answer in what was found");
    const docs::Evidence& e = run.evidence;
    const docs::Hit& hit = run.hits[e.hit];
    const std::string_view sentence = hit.text.substr(e.begin, e.end - e.begin);
    const docs::Stand stand = docs::find_answer(answer->text, sentence);
    if (stand.begin == docs::Stand::npos) return refuse(run, "the answer does not stand in what was found");
    if (docs::repeats(sentence.substr(stand.begin, stand.end - stand.begin), run.question))
        return refuse(run, "the model only repeats the question");
    run.answer_size = std::min(stand.end - stand.begin, answer_bytes);
    std::copy_n(sentence.begin() + static_cast<std::ptrdiff_t>(stand.begin), run.answer_size, run.answer);
    // Where a passage is the document's own bytes, the sentence's are known; else the passage's are told.
    const bool exact = hit.end - hit.begin == static_cast<std::int64_t>(hit.text.size());
    const std::int64_t begin = exact ? hit.begin + static_cast<std::int64_t>(e.begin) : hit.begin;
    run.told[0] = {hit.passage,  begin,       exact ? begin + static_cast<std::int64_t>(sentence.size()) : hit.end,
                   hit.document, hit.heading, sentence,
                   hit.score,    e.coverage,  hit.words,
                   hit.meaning};
    run.documents_outcome.found = {run.told, 1};
    run.documents_outcome.answered = true;
    end(run);
}

}  // namespace slmd::daemon
