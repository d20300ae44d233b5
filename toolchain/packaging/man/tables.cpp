// Writes a man page: copies a template, and where a line says .\" TABLE commands|settings|errors puts the table that the
// programs themselves use. Usage: man_tables TEMPLATE VERSION > PAGE
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>

#include "base/result.h"
#include "wire/commands.h"
#include "wire/settings.h"

namespace {

using namespace slmd;

// Text as roff means it: no backslash, no hyphen that becomes another character, no control line by a first "." or "'".
std::string text(std::string_view s) {
    std::string r;
    for (const char c : s) {
        if (r.empty() && (c == '.' || c == '\'')) r += "\\&";
        if (c == '\\')
            r += "\\e";
        else if (c == '-')
            r += "\\-";
        else if (c == '\'')
            r += "\\(aq";
        else if (c == '^')
            r += "\\(ha";
        else if (c == '~')
            r += "\\(ti";
        else
            r += c;
    }
    return r;
}

std::string number(double v) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.15g", v);
    return digits;
}

void param(std::string_view name, bool required, std::string_view type, double min, double max, std::string_view help) {
    std::cout << ".RS\n.TP\n.I " << text(name) << '\n' << text(help);
    if (!type.empty()) std::cout << " (" << type << ' ' << text(number(min)) << " to " << text(number(max)) << ')';
    if (!required) std::cout << "; optional";
    std::cout << ".\n.RE\n";
}

void commands() {
    for (const wire::Command& c : wire::commands()) {
        const std::string at = c.name != nullptr ? "AT" + std::string(c.name) : "";
        std::cout << ".TP\n.B " << text(at.empty() ? c.method : at) << '\n' << text(c.help);
        if (c.name != nullptr) {
            std::string forms;
            const auto form = [&](const std::string& f) { forms += (forms.empty() ? "" : ", ") + f; };
            if (c.forms & wire::run) form(at);
            if (c.forms & wire::read) form(at + "?");
            if (c.forms & wire::write) {
                std::string names;
                for (const wire::Param& p : c.params) names += (names.empty() ? "" : ",") + std::string(p.name);
                form(at + "=" + names);
            }
            // A long list of parameters is one word, whose line has no space to be adjusted.
            std::cout << ".\n.na\nForms: " << text(forms);
            if (c.method != nullptr) std::cout << "; method " << text(c.method);
        }
        std::cout << ".\n" << (c.name != nullptr ? ".ad\n" : "");
        for (const wire::Param& p : c.params) {
            const std::string_view type = p.type == wire::ParamType::text   ? "text, bytes"
                                          : p.type == wire::ParamType::any  ? ""
                                          : p.type == wire::ParamType::flag ? ""
                                                                            : "number,";
            param(p.name, p.required, type, p.min, p.max, p.help);
        }
        if (c.settings && c.method != nullptr) std::cout << ".IP\nIn JSON every setting is a parameter, too.\n";
        std::cout << ".IP\nExample: " << text(c.example) << '\n';
    }
}

void settings() {
    for (const wire::Setting& s : wire::settings_table()) {
        std::cout << ".TP\n.B " << s.name << '\n' << text(s.help);
        if (s.type == wire::SettingType::integer || s.type == wire::SettingType::real)
            std::cout << " (" << text(number(s.min)) << " to " << text(number(s.max)) << ')';
        std::cout << ".\nDefault: " << (s.fallback[0] != 0 ? text(s.fallback) : "none") << ".\n";
    }
}

// A code without a text of its own is not in the protocol.
void errors() {
    const std::string_view unknown = code_text(Code::unknown);
    for (int i = 0; i < 512; i++) {
        const auto code = static_cast<Code>(i);
        if (code_text(code) != unknown || code == Code::unknown)
            std::cout << ".TP\n.B " << i << '\n' << text(code_text(code)) << '\n';
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return std::cerr << "usage: man_tables TEMPLATE VERSION\n", 2;
    std::ifstream in(argv[1]);
    std::string line;
    while (std::getline(in, line)) {
        if (line == ".\\\" TABLE commands")
            commands();
        else if (line == ".\\\" TABLE settings")
            settings();
        else if (line == ".\\\" TABLE errors")
            errors();
        else if (const auto at = line.find("@VERSION@"); at != line.npos)
            std::cout << line.replace(at, 9, argv[2]) << '\n';
        else
            std::cout << line << '\n';
    }
    return in.eof() && std::cout.flush() ? 0 : 1;
}
