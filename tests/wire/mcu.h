// What a small microcontroller does to use slmd over a bad wire: checked lines, a window of numbered token lines,
// retries.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/bytes.h"

namespace slmd::wire {

struct Mcu {
    enum class Got { nothing, ok, error, generated };
    std::string line, text, evidence, closing, out;  // out: bytes to send; evidence: lines of labels and checks
    unsigned expected = 1;
    int naks = 0, damaged = 0, error = 0;
    bool gap = false, generating = false;
    // What a slow line still holds of an abandoned attempt looks like the answer to the next one. A setting with a
    // number of its own, read back, says when all of that has passed: only then is the prompt sent.
    std::string request, fence;
    static inline unsigned attempts = 0;

    static std::string checked(const std::string& s) {
        char c[8];
        std::snprintf(c, sizeof c, "*%04X", crc16_xmodem(s));
        return s + c;
    }
    void command(const std::string& s) { out += "\x1b\r" + checked(s) + "\r"; }
    void generate(const std::string& prompt, int max) { ask("AT#GEN=\"" + prompt + "\"," + std::to_string(max)); }
    void run(const std::string& agent, const std::string& input) { ask("AT#RUN=\"" + agent + "\",\"" + input + "\""); }
    void ask(const std::string& what) {
        text.clear(), evidence.clear(), closing.clear();
        expected = 1;
        generating = true, gap = false;
        const std::string number = std::to_string(++attempts);
        request = checked(what) + "\r";
        fence = "#SET: \"seed\"," + number;
        command("AT#SET=\"seed\"," + number);
        out += checked("AT#SET?") + "\r";
    }
    void nak() {
        out += '\x15';
        naks++;
        gap = true;
    }
    static std::string unescape(const std::string& s) {
        std::string r;
        for (std::size_t i = 0; i < s.size(); i++) {
            if (s[i] != '\\')
                r += s[i];
            else if (s[++i] == 'n')
                r += '\n';
            else if (s[i] == 'r')
                r += '\r';
            else if (s[i] == 't')
                r += '\t';
            else if (s[i] == 'x')
                r += static_cast<char>(std::strtol(s.substr(i + 1, 2).c_str(), nullptr, 16)), i += 2;
            else
                r += s[i];
        }
        return r;
    }
    // One byte from the line. Got::generated: text holds a complete, checked answer.
    Got byte(char c) {
        if (c != '\n' && c != '\r') {
            if (line.size() < 300) line += c;
            return Got::nothing;
        }
        if (line.empty()) return Got::nothing;
        const std::string l = std::move(line);
        line.clear();
        if (l.size() < 5 || l[l.size() - 5] != '*' || checked(l.substr(0, l.size() - 5)) != l) {
            damaged++;
            if (generating && fence.empty() && !gap) nak();
            return Got::nothing;
        }
        const std::string body = l.substr(0, l.size() - 5);
        if (!fence.empty()) {
            if (body == fence) {
                fence.clear();
                out += request;
            }
            return body == "OK" ? Got::ok : Got::nothing;
        }
        if (body.rfind("#TOK: \"", 0) == 0 && generating) {
            const std::size_t q = body.rfind('"');
            const unsigned n = static_cast<unsigned>(std::strtoul(body.c_str() + q + 2, nullptr, 10));
            if (n > expected) {
                if (!gap) nak();
                return Got::nothing;
            }
            if (n == expected) {
                text += unescape(body.substr(7, q - 7));
                expected++;
                gap = false;
            }
            out += '\x06';
            return Got::nothing;
        }
        if ((body.rfind("#CLS: ", 0) == 0 || body.rfind("#CHK: ", 0) == 0) && generating) {
            evidence += body + "\n";
            return Got::nothing;
        }
        if ((body.rfind("#GEN: ", 0) == 0 || body.rfind("#RUN: ", 0) == 0) && generating) {
            const unsigned lines = static_cast<unsigned>(std::strtoul(body.c_str() + body.rfind(',') + 1, nullptr, 10));
            if (lines + 1 != expected) {
                nak();
                return Got::nothing;
            }
            closing = body;
            generating = false;
            return Got::generated;
        }
        if (body == "OK") return Got::ok;
        if (body.rfind("+CME ERROR: ", 0) == 0) {
            error = std::atoi(body.c_str() + 12);
            return Got::error;
        }
        return Got::nothing;
    }
};

}  // namespace slmd::wire
