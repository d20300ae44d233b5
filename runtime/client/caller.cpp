#include "client/caller.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utility>

#include "wire/text.h"

namespace slmd::client {

volatile std::sig_atomic_t interrupts = 0;

Result<const JsonNode*> Caller::call(const char* method, const std::string& params, bool waits) {
    id_++;
    const std::string request = "{\"jsonrpc\":\"2.0\",\"id\":" + std::to_string(id_) + ",\"method\":\"" + method +
                                "\",\"params\":{" + params + "}}\n";
    if (connection_.tty() && request.size() > 255)
        return Error::make(Code::text_too_long,
                           "%zu bytes are too long for one line of a serial port (254); shorten it, or use the socket",
                           request.size());
    TRY(connection_.send(request));
    return reply(waits);
}

Result<void> Caller::ask_at(const std::string& prompt) {
    TRY(connection_.send("AT+CMEE=2\r"));
    TRY(connection_.send("AT#GEN\r"));
    TRY(connection_.send(prompt + "\x1a"));
    for (;;) {
        const auto got = TRY(connection_.receive(line_, -1));
        if (got == Connection::Got::interrupted && interrupts > 0) TRY(connection_.send("\x1b"));
        if (got != Connection::Got::line) continue;
        if (line_.starts_with("> ")) line_.erase(0, line_.find_first_not_of("> "));
        if (line_.starts_with("#TOK: \"")) {
            print_at(std::string_view(line_).substr(7, line_.rfind('"') - 7));
        } else if (line_.starts_with("#DOUBT: ")) {
            fprintf(stderr, "\nslmctl: the answer is doubtful: probability %.2f", atof(line_.c_str() + 8));
        } else if (line_.starts_with("#GEN: ")) {
            return {};
        } else if (line_.starts_with("+CME ERROR: ")) {
            return Error::make(interrupts > 0 ? Code::aborted : Code::unknown, "%s", line_.c_str() + 12);
        }
    }
}

void Caller::progress_off() {
    if (!progress_) return;
    fputs("\r\x1b[K", stderr);
    progress_ = false;
}

void Caller::progress(const char* what, long done, long total) {
    if (!isatty(STDERR_FILENO)) return;
    fprintf(stderr, "\r%s %ld/%ld\x1b[K", what, done, total);
    progress_ = true;
}

Result<const JsonNode*> Caller::reply(bool waits) {
    int cancelled = 0;
    for (;;) {
        if (interrupts > cancelled && waits) {  // the request ends, not only this client
            cancelled = interrupts;
            if (cancelled > 1) return Error::make(Code::aborted, "interrupted");
            TRY(connection_.send("{\"jsonrpc\":\"2.0\",\"method\":\"$/cancelRequest\",\"params\":{\"id\":" +
                                 std::to_string(id_) + "}}\n"));
        }
        const auto got = TRY(connection_.receive(line_, waits ? -1 : 10000));
        if (got == Connection::Got::interrupted) {
            if (!waits) return Error::make(Code::aborted, "interrupted");
            continue;
        }
        if (got == Connection::Got::timeout) return Error::make(Code::device_io, "no answer within 10 s");
        if (line_[0] != '{') continue;  // an echo, #READY, another's noise
        copy_ = line_;
        TRY(reader_.parse(copy_));
        const JsonNode& root = reader_.root();
        const JsonNode *method = reader_.find(root, "method"), *params = reader_.find(root, "params");
        if (method != nullptr && params != nullptr) {
            notified(*method, *params);
            continue;
        }
        progress_off();
        if (std::exchange(provisional_, false)) fputc('\n', stderr);
        if (const JsonNode* error = reader_.find(root, "error")) {
            const JsonNode *code = reader_.find(*error, "code"), *message = reader_.find(*error, "message");
            const int number = code != nullptr ? static_cast<int>(code->number) : 100;
            const std::string text = message != nullptr ? std::string(message->text) : "";
            return Error::make(number == -32800 ? Code::aborted
                               : number > 0     ? static_cast<Code>(number)
                                                : Code::unknown,
                               "%s (%d)", text.c_str(), number);
        }
        if (const JsonNode* result = reader_.find(root, "result")) return result;
        return Error::make(Code::unknown, "slmd sent what is not a reply: %.100s", line_.c_str());
    }
}

void Caller::notified(const JsonNode& method, const JsonNode& params) {
    if (method.text == "tok") {
        progress_off();
        const JsonNode* text = reader_.find(params, "text");
        if (text == nullptr) return;
        fwrite(text->text.data(), 1, text->text.size(), stdout);
        fflush(stdout);
        printed_ = true;
    } else if (method.text == "provisional") {
        const JsonNode* text = reader_.find(params, "text");
        if (text == nullptr) return;
        progress_off();
        if (!std::exchange(provisional_, true)) fputs("for now: ", stderr);
        fwrite(text->text.data(), 1, text->text.size(), stderr);
    } else if (method.text == "progress") {
        const JsonNode *done = reader_.find(params, "done"), *total = reader_.find(params, "total");
        if (done != nullptr && total != nullptr && done->number < total->number)
            progress("reading the prompt", static_cast<long>(done->number), static_cast<long>(total->number));
    } else if (method.text == "queue") {
        const JsonNode* place = reader_.find(params, "place");
        if (place != nullptr && place->number > 0)
            progress("waiting, place", static_cast<long>(place->number), static_cast<long>(place->number));
    }
}

void Caller::print_at(std::string_view s) {
    std::string out;
    for (std::size_t i = 0; i < s.size(); i++) {
        if (s[i] != '\\' || i + 1 == s.size())
            out += s[i];
        else if (const char e = s[++i]; e == 'n')
            out += '\n';
        else if (e == 'r')
            out += '\r';
        else if (e == 't')
            out += '\t';
        else if (e == 'x')
            out += static_cast<char>(strtol(std::string(s.substr(i + 1, 2)).c_str(), nullptr, 16)), i += 2;
        else
            out += e;
    }
    fwrite(out.data(), 1, out.size(), stdout);
    fflush(stdout);
    printed_ = true;
}

Result<void> Caller::wait_for_model() {
    for (;;) {
        const JsonNode* s = TRY(call("stat", "", false));
        const JsonNode* loading = reader_.find(*s, "loading");
        if (loading == nullptr || loading->number >= 100) return progress_off(), Result<void>{};
        progress("loading the model, per cent", static_cast<long>(loading->number), 100);
        usleep(200'000);
        if (interrupts > 0) return Error::make(Code::aborted, "interrupted");
    }
}

int complain(const Error& e, int code) {
    fprintf(stderr, "slmctl: %s\n", e.text);
    return code;
}

std::string quoted(std::string_view text) {
    std::string r = "\"";
    while (!text.empty()) {
        wire::Line line;
        const std::string_view part = text.substr(0, wire::fit_json(text, 1000));
        r += line.json_escaped(part).view();
        text.remove_prefix(part.size());
    }
    return r + "\"";
}

int outcome(const Error& e) {
    if (e.code == Code::aborted) return fputs("\n", stdout), exit_interrupted;
    return complain(e, e.code == Code::device_io ? exit_connection : exit_failed);
}

std::string read_all(FILE* f) {
    std::string text;
    char buffer[4096];
    for (std::size_t n; (n = fread(buffer, 1, sizeof buffer, f)) > 0;) text.append(buffer, n);
    return text;
}

Result<std::string> read_text(const char* path, const char* option) {
    FILE* const f = fopen(path, "re");
    std::string text = f == nullptr ? "" : read_all(f);
    const int failed = f == nullptr || ferror(f) != 0 ? errno : 0;
    if (f != nullptr) fclose(f);
    if (failed != 0) return Error::make(Code::storage_failure, "%s%s: %s", option, path, strerror(failed));
    return text;
}

}  // namespace slmd::client
