#include "route/pairs.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/ascii.h"
#include "base/json.h"
#include "base/utf8.h"

namespace slmd::route {
namespace {

class Line {
  public:
    explicit Line(std::span<char> room) : room_(room) {}
    void add(std::string_view text) {
        good_ = good_ && text.size() <= room_.size() - size_;
        if (!good_) return;
        std::copy(text.begin(), text.end(), room_.begin() + static_cast<std::ptrdiff_t>(size_));
        size_ += text.size();
    }
    void add_quoted(std::string_view text) {
        char out[6];
        add("\"");
        for (const char& c : text) add(json_written(c, out));
        add("\"");
    }
    bool good() const { return good_; }
    std::span<const std::byte> bytes() const { return std::as_bytes(room_.first(size_)); }

  private:
    std::span<char> room_;
    std::size_t size_ = 0;
    bool good_ = true;
};

// Where the last whole line ends, of the last `tail` bytes of a file. What a power cut leaves of a line has no end, or
// zeros in it.
std::size_t whole_end(std::string_view tail) {
    std::size_t end = tail.rfind('\n');
    end = end == std::string_view::npos ? 0 : end + 1;
    if (end == 0) return 0;
    const std::size_t before = tail.rfind('\n', end - 2);
    const std::size_t begin = end < 2 || before == std::string_view::npos ? 0 : before + 1;
    return tail.substr(begin, end - begin).find('\0') == std::string_view::npos ? end : begin;
}

}  // namespace

Result<void> Pairs::append(const Pair& pair) {
    const auto letter = [](char c) { return is_alnum(c) || c == '-' || c == '_'; };
    char name[48];
    if (pair.agent.empty() || pair.agent.size() > 32 || !std::all_of(pair.agent.begin(), pair.agent.end(), letter))
        return Error::make(Code::invalid_characters, "pairs: an agent's name has letters, digits, - and _: \"%.*s\"",
                           static_cast<int>(std::min<std::size_t>(pair.agent.size(), 32)), pair.agent.data());
    if (pair.request.empty() || pair.answer.empty())
        return Error::make(Code::incorrect_parameters, "pairs: the request or the answer is empty");
    for (const std::string_view text : {pair.system, pair.request, pair.answer})
        if (!utf8_valid(text)) return Error::make(Code::invalid_characters, "pairs: the text is not UTF-8");
    std::snprintf(name, sizeof name, "%.*s.jsonl", static_cast<int>(pair.agent.size()), pair.agent.data());

    const int file = TRY(disk_->open(name, Disk::How::either));
    const auto done = [&]() -> Result<void> {
        std::uint64_t size = TRY(disk_->size(file));
        const bool made = size == 0;
        const std::uint64_t from = size - std::min<std::uint64_t>(size, buffer_.size());
        const std::size_t n = TRY(disk_->read(file, from, std::as_writable_bytes(buffer_)));
        const std::uint64_t end = from + whole_end({buffer_.data(), n});
        if (end < size) TRY(disk_->truncate(file, end));

        Line line(buffer_);
        line.add("{\"messages\":[");
        if (!pair.system.empty()) {
            line.add("{\"role\":\"system\",\"content\":");
            line.add_quoted(pair.system);
            line.add("},");
        }
        line.add("{\"role\":\"user\",\"content\":");
        line.add_quoted(pair.request);
        line.add("},{\"role\":\"assistant\",\"content\":");
        line.add_quoted(pair.answer);
        line.add("}]}\n");
        if (!line.good())
            return Error::make(Code::text_too_long, "pairs: %s: a pair has more than %zu bytes", name, buffer_.size());
        if (end + line.bytes().size() > bytes_)
            return Error::make(Code::memory_full, "pairs: %s is full; export it and remove it", name);
        TRY(disk_->write(file, end, line.bytes()));
        TRY(disk_->sync(file));
        return made ? disk_->sync_names() : Result<void>{};
    }();
    disk_->close(file);
    return done;
}

}  // namespace slmd::route
