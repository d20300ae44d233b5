// Random walks: texts that grammars allow, for a judge that knows nothing of them (judge.py). Reads schemas, one a
// line, on standard input; writes "NUMBER<TAB>TEXT" for each text, "NUMBER<TAB>!ERROR" for a schema that is refused.
//
//   walk SEED TEXTS_A_SCHEMA [unordered]
#include <iostream>
#include <random>

#include "compiled.h"

using namespace slmd::grammar;

int main(int argc, char** argv) {
    if (argc < 3) return 64;
    const bool ordered = argc < 4 || std::string_view(argv[3]) != "unordered";
    std::mt19937 random(static_cast<unsigned>(std::stoul(argv[1])));
    Compiled c;
    TestMatcher m;
    std::string line;
    for (int number = 0; std::getline(std::cin, line); number++) {
        if (const auto ok = c.schema(line, {.ordered = ordered}); !ok) {
            std::cout << number << "\t!" << ok.error().what() << "\n";
            continue;
        }
        for (int i = 0; i < std::stoi(argv[2]); i++) {
            m.open(c.grammar);
            std::string text;
            // Some texts are ended soon, some late; at the end all of them are closed.
            const std::size_t budget = random() % 400;
            while (text.size() < budget) {
                const Matcher::Bytes next = m.next();
                char choices[256];
                int n = 0;
                for (int b = 0; b < 256; b++)
                    if (next.has(static_cast<unsigned char>(b))) choices[n++] = static_cast<char>(b);
                if (n == 0) break;
                // Structure more often than letters, ends of strings often enough.
                char chosen = choices[random() % static_cast<unsigned>(n)];
                if (random() % 3 == 0)
                    for (int k = 0; k < n; k++)
                        if (std::string_view("\"{}[],:tfn0").find(choices[k]) != std::string_view::npos &&
                            random() % 4 == 0)
                            chosen = choices[k];
                if (m.accepting() && random() % 4 == 0) break;
                if (!m.push(chosen)) {
                    std::cerr << "schema " << number << ": next() allows what push() refuses\n";
                    return 1;
                }
                if (random() % 8 == 0) m.keep();
                text += chosen;
            }
            char closing[8192];
            const std::uint32_t bytes = m.close_bytes();
            const std::size_t n = m.close(closing);
            if (n > sizeof closing) {
                std::cerr << "schema " << number << ": no way to close " << text << "\n";
                return 1;
            }
            if (n > bytes && !c.grammar.nested_differ) {
                std::cerr << "schema " << number << ": closing took " << n << " bytes, " << bytes
                          << " were said: " << text << "\n";
                return 1;
            }
            text.append(closing, n);
            if (!accepts(m, c.grammar, text)) {
                std::cerr << "schema " << number << ": not taken again: " << text << "\n";
                return 1;
            }
            std::cout << number << "\t" << text << "\n";
        }
    }
}
