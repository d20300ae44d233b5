#include "client/docs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "base/sha256.h"
#include "client/caller.h"
#include "daemon/plan.h"
#include "docs/cut.h"

namespace slmd::client {
namespace {

constexpr std::size_t max_bytes = 32u << 20;

Error cannot(const std::string& path, const char* why) {
    return Error::make(Code::storage_failure, "%.150s: %s", path.c_str(), why);
}

// All that comes from fd, up to max_bytes and one more.
Result<std::string> read_bytes(int fd, const std::string& path) {
    std::string all;
    char part[65536];
    for (;;) {
        const ssize_t n = read(fd, part, sizeof part);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return cannot(path, strerror(errno));
        if (n == 0) return all;
        all.append(part, static_cast<std::size_t>(n));
        if (all.size() > max_bytes)
            return Error::make(Code::text_too_long, "%.150s: larger than %zu MiB: split it", path.c_str(),
                               max_bytes >> 20);
    }
}

Result<std::string> read_file(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return cannot(path, strerror(errno));
    struct stat s {};
    fstat(fd, &s);
    auto all = S_ISDIR(s.st_mode)    ? Result<std::string>(cannot(path, "a folder; name the files in it"))
               : !S_ISREG(s.st_mode) ? Result<std::string>(cannot(path, "not a file"))
                                     : read_bytes(fd, path);
    close(fd);
    return all;
}

// By pdftotext, a process of its own with little room: what is in a PDF is anybody's.
Result<std::string> pdf_text(const std::string& path) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return cannot(path, strerror(errno));
    const pid_t child = fork();
    if (child < 0) {
        const Error e = cannot(path, strerror(errno));
        close(ends[0]), close(ends[1]);
        return e;
    }
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        const rlimit seconds{60, 60}, memory{1u << 30, 1u << 30}, file{0, 0};
        setrlimit(RLIMIT_CPU, &seconds), setrlimit(RLIMIT_AS, &memory), setrlimit(RLIMIT_FSIZE, &file);
        execlp("pdftotext", "pdftotext", "-q", "-enc", "UTF-8", path.c_str(), "-", nullptr);
        _exit(errno == ENOENT ? 127 : 126);
    }
    close(ends[1]);
    auto text = read_bytes(ends[0], path);
    close(ends[0]);
    if (!text) kill(child, SIGKILL);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (!text) return text;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return cannot(path, "there is no pdftotext, which reads PDF: sudo apt install poppler-utils");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return cannot(path, "pdftotext cannot read it: it is damaged, protected or no PDF");
    return text;
}

struct Read {
    std::string name, hash;
    std::size_t bytes;
    std::vector<docs::Piece> pieces;
};

Result<Read> read_document(const std::string& path) {
    char real[PATH_MAX];
    if (realpath(path.c_str(), real) == nullptr) return cannot(path, strerror(errno));
    Read r;
    r.name = real;
    if (r.name.size() > docs::Store::name_bytes || !utf8_valid(r.name))
        return cannot(path, "its path is too long, or not UTF-8");
    std::string content = TRY(read_file(r.name));
    r.bytes = content.size();
    const auto hash = TRY(sha256({std::as_bytes(std::span(docs::cutter)), std::as_bytes(std::span(content))}));
    for (const std::uint8_t b : hash) {
        char hex[3];
        snprintf(hex, sizeof hex, "%02x", b);
        r.hash += hex;
    }
    const docs::Format format = docs::format_of(path, content);
    if (format == docs::Format::pdf) content = TRY(pdf_text(r.name));
    const auto blocks = docs::blocks_of(content, format);
    if (!blocks) return Error::make(blocks.error().code, "%.100s: %s", path.c_str(), blocks.error().text);
    r.pieces = docs::cut(blocks.value(), content);
    if (r.pieces.empty())
        return Error::make(Code::incorrect_parameters, "%.150s: there is no text in it%s", path.c_str(),
                           format == docs::Format::pdf ? ": perhaps its pages are pictures" : "");
    return r;
}

// What a terminal would obey is not shown: documents are anybody's.
std::string text_of(const JsonNode* n) {
    std::string text(n == nullptr ? std::string_view{} : n->text);
    std::replace_if(
        text.begin(), text.end(), [](char c) { return ((c & 0xE0) == 0 && c != '\n' && c != '\t') || c == 0x7F; }, ' ');
    return text;
}
double number_of(const JsonNode* n) { return n == nullptr ? 0 : n->number; }

class Docs {
  public:
    Docs(Connection& connection, const DocsCommand& command)
        : connection_(connection), command_(command), caller_(connection) {}

    int run() {
        const std::string& verb = command_.arguments[0];
        const std::span<const std::string> rest{command_.arguments.begin() + 1, command_.arguments.end()};
        if (auto r = caller_.wait_for_model(); !r) return outcome(r.error());
        if (verb == "list") return list();
        if (verb == "search") return search(rest[0]);
        if (verb == "ask") return ask(rest[0]);
        int code = 0;
        for (const std::string& one : rest) {
            const auto done = verb == "add" ? add(one) : remove(one);
            if (!done && done.error().code == Code::aborted) return outcome(done.error());
            if (!done) code = std::max(code, outcome(done.error()));
            if (code == exit_connection) break;
        }
        return code;
    }

  private:
    Result<void> add(const std::string& path) {
        if (connection_.tty())
            return Error::make(Code::not_permitted, "documents are added on the socket: a serial line is too slow");
        const Read r = TRY(read_document(path));
        std::size_t at = 0;
        for (int part = 0;; part++) {
            std::string texts, headings, spans;
            std::size_t n = 0;
            for (; n < docs::Store::max_part && at + n < r.pieces.size(); n++) {
                const docs::Piece& p = r.pieces[at + n];
                const std::string text = quoted(p.text), heading = quoted(p.heading);
                if (n > 0 &&
                    texts.size() + headings.size() + text.size() + heading.size() > daemon::prompt_bytes - 8192)
                    break;
                texts += (n > 0 ? "," : "") + text;
                headings += (n > 0 ? "," : "") + heading;
                spans += (n > 0 ? "," : "") + std::to_string(p.begin) + "," + std::to_string(p.end);
            }
            at += n;
            const bool last = at == r.pieces.size();
            TRY(caller_.call("docs.add",
                             "\"name\":" + quoted(r.name) + ",\"sha256\":\"" + r.hash +
                                 "\",\"bytes\":" + std::to_string(r.bytes) + ",\"texts\":[" + texts +
                                 "],\"headings\":[" + headings + "],\"spans\":[" + spans +
                                 "],\"part\":" + std::to_string(part) + ",\"last\":" + (last ? "true" : "false"),
                             true));
            const JsonNode* const reply = &caller_.reader().root();
            const JsonNode* const result = caller_.reader().find(*reply, "result");
            const JsonNode* const same = result == nullptr ? nullptr : caller_.reader().find(*result, "unchanged");
            const bool unchanged = same != nullptr && same->truth;
            if (!unchanged && !last) continue;
            if (command_.json)
                puts(caller_.line().c_str());
            else
                printf("%s: %zu passages%s\n", path.c_str(), r.pieces.size(), unchanged ? ", unchanged" : "");
            fflush(stdout);
            return {};
        }
    }

    Result<void> remove(const std::string& name) {
        // As it is called, or the file that it was.
        std::string known = name;
        char real[PATH_MAX];
        if (realpath(name.c_str(), real) != nullptr) known = real;
        auto r = caller_.call("docs.remove", "\"name\":" + quoted(known), true);
        if (!r && r.error().code == Code::not_found && known != name)
            r = caller_.call("docs.remove", "\"name\":" + quoted(name), true);
        if (!r) return r.error();
        if (command_.json)
            puts(caller_.line().c_str());
        else
            printf("%s: %.0f passages removed\n", name.c_str(),
                   number_of(caller_.reader().find(*r.value(), "passages")));
        return {};
    }

    int list() {
        std::string after;
        for (bool more = true, first = true; more; first = false) {
            const auto r = caller_.call("docs", "\"after\":" + quoted(after), true);
            if (!r) return outcome(r.error());
            const wire::JsonLine& reader = caller_.reader();
            if (command_.json) puts(caller_.line().c_str());
            const JsonNode* const all = reader.find(*r.value(), "documents");
            const JsonNode* const meaning = reader.find(*r.value(), "meaning");
            more = false;
            if (all == nullptr) return complain(Error::make(Code::unknown, "no documents came back"), exit_failed);
            if (first && !command_.json) puts("passages  embedded       bytes  document");
            for (int i = reader.first(*all); i < all->next; i = reader.node(i).next) {
                const JsonNode& d = reader.node(i);
                const JsonNode* const whole = reader.find(d, "whole");
                after = text_of(reader.find(d, "name"));
                more = true;
                if (command_.json) continue;
                printf("%8.0f  %8.0f  %10.0f  %s%s\n", number_of(reader.find(d, "passages")),
                       number_of(reader.find(d, "embedded")), number_of(reader.find(d, "bytes")), after.c_str(),
                       whole != nullptr && whole->truth ? "" : "  (not whole: add it again)");
            }
            if (!more && !command_.json && meaning != nullptr && !meaning->truth)
                fputs("slmctl: there is no encoder ([embed] model): passages are found by their words alone\n", stderr);
        }
        return 0;
    }

    int search(const std::string& query) {
        const auto r = caller_.call("docs.search",
                                    "\"query\":" + quoted(query) +
                                        (command_.top > 0 ? ",\"top\":" + std::to_string(command_.top) : "") +
                                        (command_.by.empty() ? "" : ",\"by\":" + quoted(command_.by)),
                                    true);
        if (!r) return outcome(r.error());
        if (command_.json) return puts(caller_.line().c_str()), 0;
        const wire::JsonLine& reader = caller_.reader();
        const JsonNode* const found = reader.find(*r.value(), "passages");
        if (found == nullptr) return complain(Error::make(Code::unknown, "no passages came back"), exit_failed);
        int n = 0;
        for (int i = reader.first(*found); i < found->next; i = reader.node(i).next, n++) {
            const JsonNode& p = reader.node(i);
            const std::string heading = text_of(reader.find(p, "heading"));
            printf("%s[%.0f] %s, bytes %.0f-%.0f%s%s\n%s\n", n > 0 ? "\n" : "", number_of(reader.find(p, "passage")),
                   text_of(reader.find(p, "document")).c_str(), number_of(reader.find(p, "begin")),
                   number_of(reader.find(p, "end")), heading.empty() ? "" : ", ", heading.c_str(),
                   text_of(reader.find(p, "text")).c_str());
        }
        return n > 0 ? 0 : complain(Error::make(Code::not_found, "nothing was found"), exit_failed);
    }

    int ask(const std::string& question) {
        const auto r = caller_.call(
            "ask",
            "\"question\":" + quoted(question) + (command_.top > 0 ? ",\"top\":" + std::to_string(command_.top) : ""),
            true);
        if (!r) return outcome(r.error());
        if (command_.json) return puts(caller_.line().c_str()), 0;
        const wire::JsonLine& reader = caller_.reader();
        const JsonNode *const answered = reader.find(*r.value(), "answered"), *const cited =
                                                                                  reader.find(*r.value(), "citations");
        if (answered == nullptr || cited == nullptr)
            return complain(Error::make(Code::unknown, "no answer came back"), exit_failed);
        if (!answered->truth) {
            fprintf(stderr, "slmctl: the documents do not say: %s\n", text_of(reader.find(*r.value(), "why")).c_str());
            return exit_unsure;
        }
        puts(text_of(reader.find(*r.value(), "answer")).c_str());
        for (int i = reader.first(*cited); i < cited->next; i = reader.node(i).next) {
            const JsonNode& p = reader.node(i);
            printf("[%.0f] %s, bytes %.0f-%.0f: %s\n", number_of(reader.find(p, "passage")),
                   text_of(reader.find(p, "document")).c_str(), number_of(reader.find(p, "begin")),
                   number_of(reader.find(p, "end")), text_of(reader.find(p, "quote")).c_str());
        }
        return 0;
    }

    Connection& connection_;
    const DocsCommand& command_;
    Caller caller_;
};

}  // namespace

const char* wrong_docs(const DocsCommand& c) {
    const std::string verb = c.arguments.empty() ? "" : c.arguments[0];
    const std::size_t rest = c.arguments.empty() ? 0 : c.arguments.size() - 1;
    if (verb == "list" && rest == 0) return "";
    if ((verb == "add" || verb == "remove") && rest > 0) return "";
    if ((verb == "search" || verb == "ask") && rest == 1) return "";
    return "docs add FILE..., docs list, docs remove NAME..., docs search \"TEXT\" or docs ask \"QUESTION\"";
}

int run_docs(Connection& connection, const DocsCommand& command) { return Docs(connection, command).run(); }

}  // namespace slmd::client
