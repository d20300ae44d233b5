#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"

namespace slmd::hal {

// Declared in hal/toml.h, which this does without: only the places of quotes, # and line ends matter.
Result<std::string> read_toml(const char* path) {
    const MappedFile file = TRY(MappedFile::open(path));
    std::string text{reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
    enum { plain, comment, basic, literal, long_basic, long_literal } in = plain;
    int line = 1;
    const auto starts = [&](std::size_t at, std::string_view what) { return text.compare(at, what.size(), what) == 0; };
    for (std::size_t i = starts(0, "\xef\xbb\xbf") ? 3 : 0; i < text.size(); i++) {
        const char c = text[i];
        const bool quote = c == '"' || c == '\'';
        line += c == '\n';
        bool foreign = in == plain && static_cast<unsigned char>(c) >= 0x80;
        switch (in) {
            case plain:
                if (c == '#') in = comment;
                if (!quote) break;
                if (starts(i, "\"\"\"") || starts(i, "'''"))
                    in = c == '"' ? long_basic : long_literal, i += 2;
                else
                    in = c == '"' ? basic : literal;
                break;
            case comment:
                if (c == '\n') in = plain;
                break;
            case basic:
            case literal:
                if (c == '\\' && in == basic)
                    i++;
                else if (c == '\n' || c == (in == basic ? '"' : '\''))
                    in = plain;
                break;
            case long_basic:
                if (c == '\\') {  // at a line's end it takes all white space that follows
                    const std::size_t next = text.find_first_not_of(" \t\r\n", i + 1);
                    if (next != i + 1 && next != text.npos) foreign = static_cast<unsigned char>(text[next]) >= 0x80;
                    if (next == i + 1) i++;
                    break;
                }
                [[fallthrough]];
            case long_literal:
                if (starts(i, in == long_basic ? "\"\"\"" : "'''")) {
                    i += 2;
                    while (i + 1 < text.size() && text[i + 1] == c) i++;  // one or two quotes may end the text itself
                    in = plain;
                }
                break;
        }
        if (foreign)
            return Error::make(Code::incorrect_parameters,
                               "%s:%d: a letter outside of quotes that is not ASCII; texts stand in quotes", path,
                               line);
    }
    return text;
}

}  // namespace slmd::hal
