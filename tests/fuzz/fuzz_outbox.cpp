// LINK: slmd_route
// A queue's file that may be anything, then any changes to it with power cuts between them: what was committed is
// there, and no more money leaves than the budget has.
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "file.h"
#include "route/outbox.h"

namespace {

using namespace slmd::route;

constexpr std::int64_t now = 1'800'000'000'000, limit = 1000;

struct Input {
    const std::uint8_t* data;
    std::size_t size;
    std::uint8_t byte() { return size == 0 ? 0 : (size--, *data++); }
    std::string_view text(std::size_t n) {
        n = n < size ? n : size;
        const std::string_view s(reinterpret_cast<const char*>(data), n);
        data += n, size -= n;
        return s;
    }
};

// Records with a right checksum, whatever they say.
std::string records(Input& in) {
    std::string file;
    for (int n = in.byte() % 8; n > 0; n--) {
        RecordHeader h{Journal::magic, 0, 0, in.byte() % 10u};
        std::string body(in.text(in.byte()));
        h.size = static_cast<std::uint32_t>(body.size());
        std::string rest(reinterpret_cast<const char*>(&h) + 8, 8);
        rest += body;
        h.crc = slmd::crc32c(std::as_bytes(std::span(rest)));
        file.append(reinterpret_cast<const char*>(&h), sizeof h).append(body);
        file.resize((file.size() + 7) / 8 * 8);
    }
    return file + std::string(in.text(in.byte() % 32));
}

// What leaves is in doubt after a cut.
std::map<std::string, std::string> picture(const Outbox& box, std::vector<char>& out) {
    std::map<std::string, std::string> all;
    for (const Entry& e : box.entries()) {
        if (e.state == Entry::free) continue;
        const auto text = box.text(e, out);
        std::string one = e.state == Entry::waiting ? "waits " : e.state == Entry::answered ? "answered " : "left ";
        one += text ? std::string(text.value()) : "damaged";
        if (e.state == Entry::answered)
            if (const auto answer = box.answer_of(e, out)) one += " " + std::string(answer.value());
        all[e.letter.key] = one;
    }
    return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size > 2048) return 0;
    static const slmd::fuzz::Folder folder;
    static std::vector<char> scratch(Journal::max_record), out(Journal::max_record);
    Input in{data, size};
    const std::string before = records(in);
    const std::string path = folder.put("outbox", before);
    Outbox::Settings settings{{{limit, Limits::none, Limits::none}, {limit, Limits::none, Limits::none}}, {}};
    settings.bytes = 4096;
    auto box = std::make_unique<Outbox>();
    if (!box->open(path.c_str(), settings, scratch)) return 0;  // of more agents than there is room for
    auto kept = picture(*box, out);
    std::uint64_t commits = box->commits(), committed = box->file_size();
    const auto reopen = [&](std::uint64_t bytes) {
        box.reset();
        std::filesystem::resize_file(path, bytes);
        box = std::make_unique<Outbox>();
        if (!box->open(path.c_str(), settings, scratch)) abort();
    };
    unsigned asked = 4;
    while (in.size > 0) {
        const std::uint8_t what = in.byte(), which = in.byte();
        Letter letter;
        std::snprintf(letter.key, sizeof letter.key, "%032x", which % 6);
        std::snprintf(letter.agent, sizeof letter.agent, "agent%d", which % 3);
        letter.priority = which % 5, letter.queued_ms = now, letter.deadline_ms = which % 7 == 0 ? now - 1 : 0;
        Letter direct = letter;  // a key of its own each, as slmd makes them
        const unsigned number = what % 10 == 2 ? asked++ : asked - 1 - which % 4;
        std::snprintf(direct.key, sizeof direct.key, "d%031x", number);
        const Amounts most{which + 1, 1, 1}, used{1, 1, 1};
        const std::string_view key = letter.key;
        switch (what % 10) {
            case 0: (void)box->put(letter, in.text(in.byte()), what >= 128); break;
            case 1: (void)box->leave(key, most, now); break;
            case 2: (void)box->leave_at_once(direct, most, now); break;
            case 3: (void)box->answer(key, what >= 128 ? &used : nullptr, in.text(in.byte() % 64)); break;
            case 4: (void)box->wait_again(key, what >= 128 ? &used : nullptr); break;
            case 5: (void)box->drop(key); break;
            case 6: (void)box->settle(direct.key, used); break;
            case 7: (void)(what >= 128 ? box->confirm() : box->flush()); break;
            case 8:
                if (const Entry* const e = box->next(now); e != nullptr && e->state != Entry::waiting) abort();
                if (const Entry* const e = box->expired(now); e != nullptr && e->letter.deadline_ms > now) abort();
                break;
            default:
                if (what >= 128) {
                    reopen(committed);
                    if (picture(*box, out) != kept) abort();
                } else {
                    reopen(committed + (box->file_size() - committed) * which / 255);
                }
                kept = picture(*box, out), commits = box->commits(), committed = box->file_size();
                continue;
        }
        if (before.empty() && box->budget().accounts()[0].day.money > limit) abort();
        if (box->commits() == commits) continue;
        commits = box->commits(), committed = box->file_size();
        if (box->waits_for_commit()) abort();
        kept = picture(*box, out);
    }
    return 0;
}
