// LINK: slmd_pack_tokenizer slmd_text
// A chat template from a stranger: read, rendered, made into a section. What build_chat makes must open and render.
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "text/chat.h"
#include "toolchain/slmpack/tokenizer/jinja.h"
#include "toolchain/slmpack/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace slmd;
    const std::string_view source(reinterpret_cast<const char*>(data), size);
    const auto program = pack::jinja::Template::parse(source);
    if (!program) return 0;
    const pack::jinja::Message messages[] = {{"system", " S\n"}, {"user", "\tU "}, {"assistant", "<think>R</think>A"}};
    std::int64_t steps = 200'000;
    const auto rendered = program.value().render({messages, "<s>", "</s>", 0}, steps);
    if (rendered && rendered.value().text.size() > pack::jinja::max_text) std::abort();

    pack::TokenizerSpec spec;
    spec.tokens = {"<s>", "</s>"};
    spec.bos = 0, spec.eos = 1;
    const auto section = pack::build_chat(source, spec);
    if (!section || section.value().empty()) return 0;
    const auto chat = text::ChatTemplate::open(section.value());
    if (!chat) std::abort();
    const text::Message turn{text::Role::user, "hello"};
    std::vector<char> text(section.value().size() + turn.text.size());
    std::vector<text::Trusted> trusted(4);
    const auto r = chat.value().render({&turn, 1}, text, trusted);
    if (!r || std::string_view(text.data(), r.value().bytes).find("hello") == std::string_view::npos) std::abort();
    return 0;
}
