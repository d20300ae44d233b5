#include "client/ledger_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <cmath>

#include "base/bytes.h"
#include "route/ledger_format.h"

namespace slmd::client {
namespace {

struct Forward final : route::LedgerReader {
    const std::string* file = nullptr;
    LedgerVisitor& visitor;
    explicit Forward(LedgerVisitor& v) : visitor(v) {}
    void record(const route::LedgerRecord& r, std::uint64_t) override { visitor.record(r); }
    void fault(const route::LedgerFault& f) override { visitor.fault(*file, f); }
};

std::uint32_t number_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return route::ledger_number(slash == std::string::npos ? path : path.substr(slash + 1));
}

}  // namespace

Result<std::vector<std::string>> files_of(std::span<const char* const> paths,
                                          const std::function<bool(const std::string&)>& wanted) {
    std::vector<std::string> out;
    for (const char* path : paths) {
        struct stat st;
        if (stat(path, &st) != 0) return Error::make(Code::storage_failure, "%s: %s", path, strerror(errno));
        if (!S_ISDIR(st.st_mode)) {
            out.push_back(path);
            continue;
        }
        DIR* const d = opendir(path);
        if (d == nullptr) return Error::make(Code::storage_failure, "%s: %s", path, strerror(errno));
        while (const dirent* const e = readdir(d))
            if (wanted(e->d_name)) out.push_back(std::string(path) + "/" + e->d_name);
        closedir(d);
    }
    return out;
}

Result<std::vector<std::string>> ledger_paths(std::span<const char* const> paths) {
    static constexpr const char* usual[] = {ledger_folder};
    auto out = TRY(files_of(paths.empty() ? std::span<const char* const>(usual) : paths,
                            [](const std::string& name) { return route::ledger_number(name) != 0; }));
    std::stable_sort(out.begin(), out.end(),
                     [](const std::string& a, const std::string& b) { return number_of(a) < number_of(b); });
    if (out.empty())
        return Error::make(Code::not_found, "%s: no ledger here (NNNNNNNN.ledger)",
                           paths.empty() ? ledger_folder : paths[0]);
    return out;
}

Result<route::LedgerChain> read_ledger(const std::vector<std::string>& files, LedgerVisitor& visitor) {
    route::LedgerChain chain;
    Forward forward(visitor);
    for (const std::string& file : files) {
        const MappedFile map = TRY(MappedFile::open(file.c_str()));
        forward.file = &file;
        TRY(route::verify_segment(map.bytes(), chain, forward));
    }
    return chain;
}

const char* answer_name(const route::LedgerRecord& r) {
    return r.answer <= route::Answer::refuse ? name_of(r.answer) : "unknown";
}

const char* reason_name(const route::LedgerRecord& r) {
    return r.reason <= route::Reason::doubt ? name_of(r.reason) : "unknown";
}

std::string agent_name(const route::LedgerRecord& r) {
    std::string name(agent_of(r));
    for (char& c : name)
        if (c < ' ' || c > '~') c = '?';
    return name;
}

std::string hex_of(std::span<const std::uint8_t> bytes) {
    std::string text(2 * bytes.size() + 1, 0);
    write_hex(bytes, text.data());
    text.pop_back();
    return text;
}

std::string time_text(std::int64_t wall_ms) {
    const time_t s = static_cast<time_t>(wall_ms / 1000);
    struct tm t {};
    char text[64];
    if (gmtime_r(&s, &t) == nullptr || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &t) == 0) return "?";
    return text;
}

Result<std::int64_t> since_ms(const char* text, std::int64_t now_ms) {
    char* end = nullptr;
    const long n = strtol(text, &end, 10);
    if (end != text && n > 0 && n < 100'000 && end[0] != 0 && end[1] == 0 && (*end == 'd' || *end == 'h'))
        return now_ms - static_cast<std::int64_t>(n) * (*end == 'd' ? 86'400'000 : 3'600'000);
    struct tm t {};
    const char* const rest = strptime(text, "%Y-%m-%d", &t);
    if (rest == nullptr || *rest != 0)
        return Error::make(Code::incorrect_parameters, "--since %s: a day such as 2026-01-31, or 7d, or 12h", text);
    return static_cast<std::int64_t>(timegm(&t)) * 1000;
}

Result<void> write_text(const char* path, const std::string& text) {
    return write_file(path, std::as_bytes(std::span(text)));
}

double percentile(std::span<const std::uint32_t> sorted, double share) {
    if (sorted.empty()) return 0;
    const auto n = static_cast<double>(sorted.size());
    const auto i = static_cast<std::size_t>(std::max(std::ceil(share * n) - 1, 0.0));
    return sorted[std::min(i, sorted.size() - 1)];
}

}  // namespace slmd::client
