#include <cstdio>
#include <iostream>
#include <iterator>

#include "commands.h"
#include "model.h"

namespace slmd::pack {
namespace {

int decode(const text::Tokenizer& tokenizer, bool specials) {
    bool first = true;
    std::string word;
    while (std::cin >> word) {
        char* end;
        const long id = std::strtol(word.c_str(), &end, 10);
        if (*end != 0 || id < 0 || id >= tokenizer.vocab())
            return fail("\"" + word + "\" is not a token id (0.." + std::to_string(tokenizer.vocab() - 1) + ")");
        std::string_view piece = tokenizer.piece(static_cast<std::int32_t>(id), specials);
        if (piece.empty()) continue;
        if (first && tokenizer.strip_first_space() && piece.front() == ' ') piece.remove_prefix(1);
        first = false;
        std::fwrite(piece.data(), 1, piece.size(), stdout);
    }
    return 0;
}

}  // namespace

int run_tokenize(const TokenizeCommand& command) {
    const auto loaded = load_tokenizer(command.model);
    if (!loaded) return fail(loaded.error().text);
    if (command.decode) return decode(loaded.value().tokenizer, command.specials);
    const std::string text(std::istreambuf_iterator<char>(std::cin), {});
    const auto ids = loaded.value().encode(text, !command.no_bos, command.specials);
    if (!ids) return fail(ids.error().text);
    for (std::size_t i = 0; i < ids.value().size(); i++) std::printf(i == 0 ? "%d" : " %d", ids.value()[i]);
    std::printf("\n");
    return 0;
}

}  // namespace slmd::pack
