// slmpack golden.
#include "golden.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

#include "commands.h"
#include "image/golden.h"
#include "image/image.h"
#include "task/generate.h"
#include "task/golden.h"
#include "text/chat.h"
#include "text/tokenizer.h"
#include "toolchain/slmpack/image/amend.h"

namespace slmd::pack {
namespace {

using namespace image;

using Tokens = std::vector<std::int32_t>;

// Words, digits, and an alphabet that is not Latin.
constexpr const char* usual_prompts[] = {"Describe the sea in one sentence.", "What is 17 + 25? Count from 96 to 104.",
                                         "Доброе утро! Который час?"};

// As slmd tokenizes a request of one message.
Result<Tokens> tokens_of(const text::Tokenizer& tokenizer, const text::ChatTemplate& chat, const std::string& prompt,
                         std::size_t room) {
    std::vector<char> rendered(prompt.size() + 65536);
    std::vector<text::Trusted> trusted(1024);
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(rendered.size()));
    Tokens tokens(room);
    const text::Message message{text::Role::user, prompt};
    const auto generation = std::make_unique<task::Generation>();
    TRY(generation->open(tokenizer, chat, {&message, 1}, {}, tokens, {rendered, trusted, scratch}));
    tokens.resize(static_cast<std::size_t>(generation->prompt_tokens()));
    return tokens;
}

void append(std::vector<std::byte>& out, std::span<const std::byte> bytes) {
    out.insert(out.end(), bytes.begin(), bytes.end());
}

// An engine for sequences of so many tokens.
Result<std::unique_ptr<engine::Engine>> engine_for(const Image& image, std::size_t tokens) {
    const engine::Config config{.context = static_cast<int>(tokens)};
    return std::unique_ptr<engine::Engine>(TRY(engine::Engine::open(image, config)));
}

Result<std::unique_ptr<engine::Encoder>> encoder_for(const Image& image) {
    return std::unique_ptr<engine::Encoder>(TRY(engine::Encoder::open(image, {.context = 0})));
}

void add_prompt(std::vector<std::byte>& section, std::span<const std::int32_t> prompt, std::size_t answer,
                const Sha256& digest) {
    GoldenPrompt entry{static_cast<std::uint32_t>(prompt.size()), static_cast<std::uint32_t>(answer), {}};
    std::memcpy(entry.sha256, digest.data(), digest.size());
    append(section, std::as_bytes(std::span(&entry, 1)));
    append(section, std::as_bytes(prompt));
}

// What an encoder makes of the prompts, each as far as it reads it.
Result<std::vector<std::byte>> ask_encoder(const Image& image, const text::Tokenizer& tokenizer,
                                           const std::vector<std::string>& prompts) {
    const auto encoder = TRY(encoder_for(image));
    const std::atomic<bool> cancel{false};
    std::vector<std::byte> section;
    for (const std::string& prompt : prompts) {
        Tokens tokens(std::min<std::size_t>(static_cast<std::size_t>(encoder->context()) - 1, max_golden_tokens));
        std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(prompt.size()));
        tokens.resize(TRY(tokenizer.encode_fitting(prompt, tokens, scratch)).tokens);
        add_prompt(section, tokens, 1, TRY(task::embedding_hash(*encoder, tokens, cancel)));
    }
    return section;
}

Result<AmendSummary> add_golden(const GoldenCommand& command, const std::string& output, int& count) {
    Amendment amendment;
    amendment.golden = TRY(ask_golden(command.image, {command.prompts, command.tokens}));
    if (amendment.golden->empty())
        return Error::make(Code::not_found, "%s: has no tokenizer that its prompts could be made with",
                           command.image.c_str());
    count = static_cast<int>(TRY(read_golden(output.c_str(), *amendment.golden)).count);
    return amend_image(command.image, output, amendment);
}

}  // namespace

Result<std::vector<std::byte>> ask_golden(const std::string& path, const GoldenQuestions& questions) {
    const Image image = TRY(Image::open(path.c_str(), {.threads = 2}));
    if (image.section(SectionId::tokenizer).empty()) return std::vector<std::byte>{};
    const auto tokenizer = TRY(text::Tokenizer::open(image.section(SectionId::tokenizer)));
    const auto chat = TRY(text::ChatTemplate::open(image.section(SectionId::chat)));
    if (questions.prompts.size() > max_golden_prompts)
        return Error::make(Code::incorrect_parameters, "%zu prompts; an image holds at most %u",
                           questions.prompts.size(), max_golden_prompts);
    if ((image.params().flags & flag_encoder) != 0)
        return ask_encoder(image, tokenizer,
                           questions.prompts.empty()
                               ? std::vector<std::string>(std::begin(usual_prompts), std::end(usual_prompts))
                               : questions.prompts);

    const auto answer = static_cast<std::size_t>(questions.tokens);
    const std::size_t context = image.params().context;
    const std::size_t room = std::min<std::size_t>(context > answer ? context - answer : 0, max_golden_tokens);
    std::vector<Tokens> prompts;
    std::size_t longest = 0;
    const auto add = [&](const std::string& prompt) -> Result<void> {
        prompts.push_back(TRY(tokens_of(tokenizer, chat, prompt, room + 1)));
        longest = std::max(longest, prompts.back().size());
        return {};
    };
    for (const std::string& prompt : questions.prompts)
        if (const auto added = add(prompt); !added)
            return Error::make(added.error().code, "golden prompt \"%.40s\": %s (%zu tokens beside an answer of %d)",
                               prompt.c_str(), added.error().text, room, questions.tokens);
    if (questions.prompts.empty())
        for (const char* const prompt : usual_prompts)
            if (const auto added = add(prompt);
                !added && added.error().code != Code::context_full && added.error().code != Code::incorrect_parameters)
                return added.error();
    if (prompts.empty()) return std::vector<std::byte>{};

    const auto engine = TRY(engine_for(image, longest + answer));
    const std::atomic<bool> cancel{false};
    std::vector<std::byte> section;
    for (const Tokens& prompt : prompts) {
        Tokens all = prompt;
        all.resize(prompt.size() + answer);
        const Sha256 digest = TRY(task::likeliest(*engine, all, prompt.size(), cancel));
        add_prompt(section, prompt, answer, digest);
    }
    return section;
}

Result<int> check_golden(const std::string& path) {
    const Image image = TRY(Image::open(path.c_str(), {.threads = 2}));
    const Golden golden = TRY(read_golden(path.c_str(), image.section(SectionId::golden)));
    std::size_t longest = 0;
    for (std::uint32_t i = 0; i < golden.count; i++)
        longest = std::max(longest, golden.prompts[i].tokens.size() / sizeof(std::int32_t) + golden.prompts[i].answer);
    if (longest == 0) return 0;
    const std::atomic<bool> cancel{false};
    Tokens tokens(longest);
    if ((image.params().flags & flag_encoder) != 0) {
        const auto encoder = TRY(encoder_for(image));
        return task::check_golden(path.c_str(), image, *encoder, tokens, cancel);
    }
    const auto engine = TRY(engine_for(image, longest));
    return task::check_golden(path.c_str(), image, *engine, tokens, cancel);
}

int run_golden(const GoldenCommand& command) {
    const std::string& output = command.output.empty() ? command.image : command.output;
    int count = 0;
    auto done = add_golden(command, output, count);
    if (!done) return fail(done.error().text);
    std::printf("%s: %d golden prompts, answers of %d tokens\n", output.c_str(), count, command.tokens);
    warn_of_signature(*done, output);
    return 0;
}

}  // namespace slmd::pack
