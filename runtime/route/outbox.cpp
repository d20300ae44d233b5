#include "route/outbox.h"

#include <string.h>

#include <algorithm>

namespace slmd::route {
namespace {

enum Type : std::uint32_t {
    account = 1,   // Account: what was spent so far
    letter = 2,    // Letter, its text
    reserved = 3,  // Leaving: reserved, and the accounts do not know it yet
    counted = 4,   // Leaving: reserved, and the accounts do
    answered = 5,  // Settled, the answer
    again = 6,     // Settled: it was not sent
    dropped = 7,   // Settled; only its key
    settled_at_once = 8
};

struct Leaving {
    char key[Letter::key_bytes + 1], agent[33];
    Date when;
    Amounts most;
};
struct Settled {
    char key[Letter::key_bytes + 1];
    std::uint8_t in_full;  // 1: used is not known: all that was reserved. Of a file, which may have anything here
    Amounts used;
};

template <class T>
std::string_view bytes_of(const T& t) {
    return {reinterpret_cast<const char*>(&t), sizeof t};
}

// The structure that a record begins with; its rest.
template <class T>
Result<T> head_of(std::string_view& text) {
    if (text.size() < sizeof(T)) return Error::make(Code::check_failed, "a record of the outbox is too short");
    T t;
    memcpy(static_cast<void*>(&t), text.data(), sizeof t);
    text.remove_prefix(sizeof t);
    return t;
}

// The gaps are 0, too: they are written.
template <class T>
T zeroed() {
    T t;
    memset(static_cast<void*>(&t), 0, sizeof t);
    return t;
}

template <class T>
T with_key(std::string_view key) {
    T t = zeroed<T>();
    memcpy(t.key, key.data(), std::min(key.size(), Letter::key_bytes));
    return t;
}

Error unknown(std::string_view key) {
    return Error::make(Code::not_found, "no request %.*s waits here",
                       static_cast<int>(std::min<std::size_t>(40, key.size())), key.data());
}

template <class T>
void end_texts(T& t) {  // of a file
    t.key[sizeof t.key - 1] = 0, t.agent[sizeof t.agent - 1] = 0;
}

}  // namespace

Result<Outbox::Found> Outbox::open(const char* path, const Settings& settings, std::span<char> scratch) {
    settings_ = settings, scratch_ = scratch;
    settings_.entries = std::min(settings.entries, max_entries);
    budget_.set(settings.all, settings.agents);
    found_.file = TRY(journal_.open(path, scratch, *this));
    for (Reserved& r : reserved_) {
        if (r.key[0] == 0) continue;
        Entry* const e = entry_of(r.key);
        if (e != nullptr)
            e->state = Entry::doubtful, found_.doubtful++;
        else
            r = {}, found_.spent++;
    }
    for (const Entry& e : entries_)
        found_.waiting += e.state == Entry::waiting, found_.answered += e.state == Entry::answered;
    shrink();
    return found_;
}

// Of a file, which may be anyone's: what does not fit together is passed over, and money once spent stays so.
Result<void> Outbox::record(std::uint32_t type, std::string_view text, Journal::Place place) {
    if (type == account) {
        Account a = TRY(head_of<Account>(text));
        a.agent[sizeof a.agent - 1] = 0;
        return budget_.restore(a);
    }
    if (type == letter) {
        Entry e{Entry::waiting, TRY(head_of<Letter>(text)), place, {}};
        end_texts(e.letter);
        Entry* const free =
            std::find_if(entries_, entries_ + max_entries, [](const Entry& x) { return x.state == Entry::free; });
        if (free != entries_ + max_entries && entry_of(e.letter.key) == nullptr) *free = e;
        return {};
    }
    if (type == reserved || type == counted) {
        Leaving l = TRY(head_of<Leaving>(text));
        end_texts(l);
        if (type == reserved) {
            // The limits may be others now; what was reserved is counted all the same.
            budget_.count(l.agent, l.most, l.when);
        }
        if (Reserved* const r = room_for_reserved()) {
            memcpy(r->key, l.key, sizeof l.key);
            memcpy(r->agent, l.agent, sizeof l.agent);
            r->most = l.most, r->when = l.when;
        }
        if (Entry* const e = entry_of(l.key)) e->state = Entry::leaving;
        return {};
    }
    Settled s = TRY(head_of<Settled>(text));
    s.key[sizeof s.key - 1] = 0;
    Entry* const e = entry_of(s.key);
    settled(s.key, s.in_full ? nullptr : &s.used);
    if (e == nullptr) return {};
    if (type == answered)
        e->state = Entry::answered, e->answer = place;
    else if (type == again)
        e->state = Entry::waiting;
    else if (type == dropped)
        *e = {};
    return {};
}

Entry* Outbox::entry_of(std::string_view key) {
    for (Entry& e : entries_)
        if (e.state != Entry::free && key == e.letter.key) return &e;
    return nullptr;
}

const Entry* Outbox::find(std::string_view key) const { return const_cast<Outbox*>(this)->entry_of(key); }

Outbox::Reserved* Outbox::reserved_of(std::string_view key) {
    for (Reserved& r : reserved_)
        if (r.key[0] != 0 && key == r.key) return &r;
    return nullptr;
}

Outbox::Reserved* Outbox::room_for_reserved() {
    Reserved* const end = std::end(reserved_);
    Reserved* const r = std::find_if(reserved_, end, [](const Reserved& x) { return x.key[0] == 0; });
    return r == end ? nullptr : r;
}

void Outbox::settled(std::string_view key, const Amounts* used) {
    Reserved* const r = reserved_of(key);
    if (r == nullptr) return;
    if (used != nullptr) budget_.settle(r->agent, r->most, *used, r->when);
    *r = {};
}

Result<void> Outbox::put(const Letter& given, std::string_view text, bool durable) {
    Letter l = with_key<Letter>(given.key);
    memcpy(l.agent, given.agent, sizeof l.agent);
    l.priority = given.priority, l.queued_ms = given.queued_ms, l.deadline_ms = given.deadline_ms;
    if (entry_of(l.key) != nullptr) return Error::make(Code::not_allowed, "request %s waits already", l.key);
    std::size_t count = 0;
    std::uint64_t bytes = text.size();
    Entry* free = nullptr;
    for (Entry& e : entries_) {
        if (e.state == Entry::free) {
            if (free == nullptr) free = &e;
            continue;
        }
        count++;
        bytes += e.text.size + e.answer.size;
    }
    if (count >= settings_.entries || bytes > settings_.bytes || free == nullptr)
        return Error::make(
            Code::memory_full,
            "the queue has %zu requests of %zu, and would have %llu bytes of %llu; slmctl queue drop makes "
            "room, or [queue] of slm-uplink's configuration",
            count, settings_.entries, static_cast<unsigned long long>(bytes),
            static_cast<unsigned long long>(settings_.bytes));
    const auto place = TRY(journal_.append(letter, bytes_of(l), text));
    if (durable) TRY(flush());
    *free = {Entry::waiting, l, place, {}};
    return {};
}

Result<void> Outbox::reserve(const Letter& of, const Amounts& most, std::int64_t now_ms) {
    Reserved* const r = room_for_reserved();
    if (r == nullptr) return Error::make(Code::memory_full, "%zu requests are leaving already", max_direct);
    Leaving l = with_key<Leaving>(of.key);
    memcpy(l.agent, of.agent, sizeof l.agent);
    l.most = most;
    l.when = TRY(budget_.reserve(of.agent, most, Date::of(now_ms)));
    auto written = journal_.append(reserved, bytes_of(l));
    const auto done = written ? flush() : Result<void>(written.error());
    if (!done) {
        budget_.settle(of.agent, most, {}, l.when);
        return done;
    }
    memcpy(r->key, l.key, sizeof l.key);
    memcpy(r->agent, l.agent, sizeof l.agent);
    r->most = most, r->when = l.when;
    return {};
}

Result<void> Outbox::leave(std::string_view key, const Amounts& most, std::int64_t now_ms) {
    Entry* const e = entry_of(key);
    if (e == nullptr || (e->state != Entry::waiting && e->state != Entry::doubtful)) return unknown(key);
    if (e->state == Entry::waiting) TRY(reserve(e->letter, most, now_ms));  // else it is reserved still
    e->state = Entry::leaving;
    return {};
}

Result<void> Outbox::leave_at_once(const Letter& of, const Amounts& most, std::int64_t now_ms) {
    shrink();
    return reserve(of, most, now_ms);
}

Result<void> Outbox::answer(std::string_view key, const Amounts* used, std::string_view text) {
    Entry* const e = entry_of(key);
    if (e == nullptr) return unknown(key);
    Settled s = with_key<Settled>(key);
    s.in_full = used == nullptr;
    if (used != nullptr) s.used = *used;
    const auto place = TRY(journal_.append(answered, bytes_of(s), text));
    to_confirm_ = true;
    settled(key, used);
    e->state = Entry::answered, e->answer = place;
    return {};
}

Result<void> Outbox::wait_again(std::string_view key, const Amounts* used) {
    Entry* const e = entry_of(key);
    if (e == nullptr) return unknown(key);
    Settled s = with_key<Settled>(key);
    s.in_full = used == nullptr;
    if (used != nullptr) s.used = *used;
    TRY(journal_.append(again, bytes_of(s)));
    to_confirm_ = true;
    settled(key, used);
    e->state = Entry::waiting;
    return {};
}

Result<void> Outbox::drop(std::string_view key) {
    Entry* const e = entry_of(key);
    if (e == nullptr) return unknown(key);
    if (e->state == Entry::leaving)
        return Error::make(Code::busy, "request %s is being sent; drop it when it has been answered", e->letter.key);
    Settled s = with_key<Settled>(key);
    s.in_full = e->state == Entry::doubtful;
    TRY(journal_.append(dropped, bytes_of(s)));
    if (e->state != Entry::answered) TRY(flush());
    settled(key, s.in_full ? nullptr : &s.used);
    *e = {};
    shrink();
    return {};
}

Result<void> Outbox::flush() {
    TRY(journal_.commit());
    to_confirm_ = false;
    return {};
}

Result<void> Outbox::settle(std::string_view key, const Amounts& used) {
    Settled s = with_key<Settled>(key);
    s.used = used;
    TRY(journal_.append(settled_at_once, bytes_of(s)));
    settled(key, &used);
    return {};
}

const Entry* Outbox::next(std::int64_t now_ms) const {
    const Entry* best = nullptr;
    for (const Entry& e : entries_) {
        if (e.state != Entry::waiting || (e.letter.deadline_ms != 0 && e.letter.deadline_ms <= now_ms)) continue;
        if (best == nullptr || e.letter.priority > best->letter.priority ||
            (e.letter.priority == best->letter.priority && e.text.at < best->text.at))
            best = &e;
    }
    return best;
}

const Entry* Outbox::expired(std::int64_t now_ms) const {
    for (const Entry& e : entries_)
        if (e.state == Entry::waiting && e.letter.deadline_ms != 0 && e.letter.deadline_ms <= now_ms) return &e;
    return nullptr;
}

Result<std::string_view> Outbox::text(const Entry& entry, std::span<char> out) const {
    std::string_view text = TRY(journal_.read(entry.text, out));
    TRY(head_of<Letter>(text));
    return text;
}

Result<std::string_view> Outbox::answer_of(const Entry& entry, std::span<char> out) const {
    std::string_view text = TRY(journal_.read(entry.answer, out));
    TRY(head_of<Settled>(text));
    return text;
}

// ---- the file is written anew when most of it is of no use any more

std::uint64_t Outbox::wanted() const {
    std::uint64_t n = 0;
    for (const Entry& e : entries_) n += e.text.size + e.answer.size;
    return n;
}

void Outbox::shrink() {
    if (journal_.size() < wanted() + most_waste) return;
    auto next = journal_.successor();
    if (next && write_all(*next)) return;
    // A full disk: it is tried again with the next change, and goes on growing until then.
}

Result<void> Outbox::write_all(Journal& next) {
    for (const Account& of : budget_.accounts()) {
        Account a = zeroed<Account>();
        memcpy(a.agent, of.agent, sizeof a.agent);
        a.date = of.date, a.day = of.day, a.month = of.month;
        TRY(next.append(account, bytes_of(a)));
    }
    Journal::Place texts[max_entries], answers[max_entries];
    for (std::size_t i = 0; i < max_entries; i++) {
        const Entry& e = entries_[i];
        if (e.state == Entry::free) continue;
        texts[i] = TRY(next.append(letter, TRY(journal_.read(e.text, scratch_))));
        if (e.state == Entry::answered) answers[i] = TRY(next.append(answered, TRY(journal_.read(e.answer, scratch_))));
    }
    for (const Reserved& r : reserved_) {
        if (r.key[0] == 0) continue;
        Leaving l = with_key<Leaving>(r.key);
        memcpy(l.agent, r.agent, sizeof l.agent);
        l.most = r.most, l.when = r.when;
        TRY(next.append(counted, bytes_of(l)));
    }
    TRY(journal_.replace(std::move(next)));
    for (std::size_t i = 0; i < max_entries; i++)
        if (entries_[i].state != Entry::free) entries_[i].text = texts[i], entries_[i].answer = answers[i];
    return {};
}

}  // namespace slmd::route
