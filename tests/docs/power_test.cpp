// A card that loses its power, or fails, at any of its writes: what was acknowledged is there, once; nothing else is.
//
// The disk lies in memory, below SQLite. What was written since a file's last sync is lost, kept or torn when the power
// goes, each write for itself, as a seed has it: that is more than a card does.
#include <sqlite3.h>

#include <map>
#include <set>

#include "memory.h"

using namespace slmd;
using namespace slmd::docs;
using namespace slmd::docs::testing;

namespace {

struct Disk {
    struct Write {
        std::size_t at;
        std::string bytes;
        bool truncates;
    };
    struct File {
        std::string now, durable;
        std::vector<Write> pending;
    };
    std::map<std::string, File> files;
    int operations = 0, fails_at = 0;
    bool off = false, once = false;  // once: that operation alone fails
    int code = SQLITE_IOERR;

    int operation(bool& torn) {
        torn = false;
        if (off) return SQLITE_IOERR;
        if (++operations != fails_at) return SQLITE_OK;
        torn = true;
        off = !once;
        return code;
    }
    static void apply(std::string& to, const Write& w) {
        if (w.truncates) return to.resize(w.at);
        if (to.size() < w.at + w.bytes.size()) to.resize(w.at + w.bytes.size());
        to.replace(w.at, w.bytes.size(), w.bytes);
    }
    // The power is back. everything: all writes had come to the card, synced or not.
    void recover(unsigned seed, bool everything) {
        for (auto& [name, file] : files) {
            for (Write w : file.pending) {
                seed = seed * 1664525 + 1013904223;
                if (!everything && (seed >> 20) % 3 == 0) continue;
                if (!everything && (seed >> 20) % 3 == 1) w.bytes.resize(w.bytes.size() / 2);
                apply(file.durable, w);
            }
            file.pending.clear();
            file.now = file.durable;
        }
        off = false, fails_at = 0;
    }
};

Disk* disk;

struct Handle {
    sqlite3_file base;
    Disk::File* file;
};
Disk::File& file_of(sqlite3_file* f) { return *reinterpret_cast<Handle*>(f)->file; }

int change(sqlite3_file* f, Disk::Write w) {
    bool torn = false;
    const int e = disk->operation(torn);
    if (e != SQLITE_OK) {
        if (torn && !w.truncates && w.bytes.size() > 1) {  // half of it came to the card
            w.bytes.resize(w.bytes.size() / 2);
            Disk::apply(file_of(f).now, w);
            file_of(f).pending.push_back(w);
        }
        return e;
    }
    Disk::apply(file_of(f).now, w);
    file_of(f).pending.push_back(std::move(w));
    return SQLITE_OK;
}

const sqlite3_io_methods io = {
    1,
    [](sqlite3_file*) { return SQLITE_OK; },
    [](sqlite3_file* f, void* to, int n, sqlite3_int64 at) {
        const std::string& now = file_of(f).now;
        const auto begin = std::min(static_cast<std::size_t>(at), now.size());
        const std::size_t have = std::min(static_cast<std::size_t>(n), now.size() - begin);
        memset(to, 0, static_cast<std::size_t>(n));
        memcpy(to, now.data() + begin, have);
        return have == static_cast<std::size_t>(n) ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
    },
    [](sqlite3_file* f, const void* from, int n, sqlite3_int64 at) {
        return change(f, {static_cast<std::size_t>(at),
                          std::string(static_cast<const char*>(from), static_cast<std::size_t>(n)), false});
    },
    [](sqlite3_file* f, sqlite3_int64 size) {
        return change(f, {static_cast<std::size_t>(size), "", true});
    },
    [](sqlite3_file* f, int) {
        bool torn;
        const int e = disk->operation(torn);
        if (e != SQLITE_OK) return e;
        file_of(f).durable = file_of(f).now;
        file_of(f).pending.clear();
        return SQLITE_OK;
    },
    [](sqlite3_file* f, sqlite3_int64* size) {
        *size = static_cast<sqlite3_int64>(file_of(f).now.size());
        return SQLITE_OK;
    },
    [](sqlite3_file*, int) { return SQLITE_OK; },
    [](sqlite3_file*, int) { return SQLITE_OK; },
    [](sqlite3_file*, int* out) {
        *out = 0;
        return SQLITE_OK;
    },
    [](sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; },
    [](sqlite3_file*) { return 4096; },
    [](sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; },
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr};

sqlite3_vfs& vfs() {
    static sqlite3_vfs v = [] {
        sqlite3_vfs made = *sqlite3_vfs_find("unix");
        made.szOsFile = sizeof(Handle);
        made.zName = "disk";
        made.pNext = nullptr;
        made.xOpen = [](sqlite3_vfs*, const char* name, sqlite3_file* f, int flags, int* out) {
            auto& h = *reinterpret_cast<Handle*>(f);
            h.base.pMethods = nullptr;
            if (disk->off) return SQLITE_CANTOPEN;
            h.base.pMethods = &io;
            h.file = &disk->files[name == nullptr ? "" : name];
            if (out != nullptr) *out = flags;
            return SQLITE_OK;
        };
        made.xDelete = [](sqlite3_vfs*, const char* name, int) {
            bool torn;
            const int e = disk->operation(torn);
            if (e == SQLITE_OK) disk->files.erase(name);
            return e;
        };
        made.xAccess = [](sqlite3_vfs*, const char* name, int, int* out) {
            *out = disk->files.count(name) != 0;
            return SQLITE_OK;
        };
        made.xFullPathname = [](sqlite3_vfs*, const char* name, int n, char* out) {
            snprintf(out, static_cast<std::size_t>(n), "%s", name);
            return SQLITE_OK;
        };
        return made;
    }();
    return v;
}

// What is there: of each document the words that its passages are found by.
using State = std::map<std::string, std::set<std::string>>;

struct Step {
    const char* name;  // of a document
    int version;       // 0: it is removed; -1: vectors
    int part;          // of two; -1: it is whole
};
// Replaced, removed and added again, in parts, with vectors between.
constexpr Step steps[] = {{"a", 1, -1}, {"b", 1, -1}, {"a", 2, -1}, {"", -1, 0}, {"c", 1, 0},
                          {"c", 1, 1},  {"b", 0, -1}, {"d", 1, -1}, {"c", 2, 0}, {"c", 2, 1},
                          {"", -1, 0},  {"a", 0, -1}, {"b", 3, -1}};

std::vector<std::string> words_of(const Step& s) {
    std::vector<std::string> out;
    const int first = s.part == 1 ? 6 : 0, last = s.part == 0 ? 6 : 12;
    for (int i = first; i < last; i++) {
        std::string one = s.name;
        one += "v" + std::to_string(s.version) + "p" + std::to_string(i);
        out.push_back(one);
    }
    return out;
}

Result<int> take(Store& store, const Step& s) {
    if (s.version == 0) return store.remove(s.name);
    if (s.version < 0) {
        Hit hits[Store::max_hits];
        std::vector<char> text(Store::hits_bytes);
        const std::size_t n = TRY(store.unembedded(7, 0, hits, text));
        const std::int8_t numbers[64] = {1};
        Vector vectors[Store::max_hits];
        for (std::size_t i = 0; i < n; i++) vectors[i] = {hits[i].passage, 1, numbers};
        TRY(store.put(7, {vectors, n}));
        return 0;
    }
    std::vector<std::string> texts;
    for (const std::string& w : words_of(s)) texts.push_back(w + " " + std::string(300, 'x') + " and what fills it");
    return TRY(add(store, s.name, s.version, texts, std::max(0, s.part), s.part != 0)).passages;
}

void apply(State& state, const Step& s) {
    if (s.version == 0) state.erase(s.name);
    if (s.version <= 0 || s.part == 0) return;
    auto& words = state[s.name] = {};
    for (int part = s.part < 0 ? -1 : 0; part <= s.part; part++)
        for (const std::string& w : words_of({s.name, s.version, part})) words.insert(w);
}

// "" when the store has just that, each passage once.
std::string differs(Store& store, const State& state) {
    Document all[16];
    std::vector<char> text(Store::hits_bytes);
    const auto n = store.list("", 7, all, text);
    if (!n) return n.error().text;
    State listed;
    std::size_t passages = 0;
    for (std::size_t i = 0; i < n.value(); i++)
        if (all[i].whole) listed[std::string(all[i].name)] = {}, passages += static_cast<std::size_t>(all[i].passages);
    std::size_t wanted = 0;
    for (const auto& [name, words] : state) {
        if (listed.count(name) == 0) return name + " is missing";
        wanted += words.size();
    }
    if (listed.size() != state.size() || passages != wanted) return "there is more, or less";
    for (const Step& s : steps) {
        if (s.version <= 0) continue;
        const auto has = state.find(s.name);
        for (const std::string& w : words_of(s)) {
            const Found f = search(store, w, {}, Store::By::words);
            if (!f.error.empty()) return f.error;
            const std::size_t times = has != state.end() && has->second.count(w) != 0 ? 1 : 0;
            if (f.count != times) return w + " is found " + std::to_string(f.count) + " times";
        }
    }
    return "";
}

// Of all steps on a disk that never fails.
void count_operations(int& all) {
    Disk whole;
    disk = &whole;
    {
        Store store;
        ASSERT_TRUE(store.open("/documents.db", {10000, "disk"}));
        for (const Step& s : steps) ASSERT_TRUE(take(store, s));
    }
    all = whole.operations;
}

}  // namespace

TEST(Power, what_was_acknowledged_is_there_once_wherever_the_power_went) {
    Memory memory;
    sqlite3_vfs_register(&vfs(), 0);
    int all = 0;
    count_operations(all);
    EXPECT_GT(all, 100);
    int cuts = 0, before = 0, after = 0;
    for (int at = 1; at <= all; at++)
        for (unsigned seed = 1; seed <= 3; seed++, cuts++) {
            Disk one;
            disk = &one;
            one.fails_at = at;
            State acknowledged, perhaps;
            {
                Store store;
                const auto opened = store.open("/documents.db", {10000, "disk"});
                for (const Step& s : steps) {
                    perhaps = acknowledged;
                    apply(perhaps, s);
                    if (!opened || !take(store, s)) break;
                    acknowledged = perhaps;
                }
            }
            one.recover(seed * 977 + static_cast<unsigned>(at), seed == 3);
            Store store;
            const auto opened = store.open("/documents.db", {10000, "disk"});
            ASSERT_TRUE(opened) << "cut at " << at << ": " << opened.error().text;
            ASSERT_FALSE(store.damaged()) << "cut at " << at;
            const std::string is_old = differs(store, acknowledged),
                              is_new = is_old.empty() ? "" : differs(store, perhaps);
            ASSERT_TRUE(is_old.empty() || is_new.empty())
                << "cut at " << at << " of " << all << ", seed " << seed << ": " << is_old << "; " << is_new;
            (is_old.empty() ? before : after)++;
        }
    EXPECT_EQ(before + after, cuts);
    EXPECT_GT(after, 0);  // written, and the power went before it was said
    printf("%d cuts at %d operations: %d without what was under way, %d with it\n", cuts, all, before, after);
}

TEST(Power, a_write_that_fails_is_said_and_the_next_one_is_good) {
    Memory memory;
    sqlite3_vfs_register(&vfs(), 0);
    int all = 0;
    count_operations(all);
    int refused = 0;
    for (const int code : {SQLITE_FULL, SQLITE_IOERR})
        for (int at = 1; at <= all; at++) {
            Disk one;
            disk = &one;
            Store store;
            one.once = true, one.code = code, one.fails_at = at;
            auto opened = store.open("/documents.db", {10000, "disk"});
            if (!opened) opened = store.open("/documents.db", {10000, "disk"});
            ASSERT_TRUE(opened) << at << ": " << opened.error().text;
            State state;
            for (const Step& s : steps) {
                auto done = take(store, s);
                if (!done) {
                    refused++;
                    EXPECT_EQ(done.error().code, Code::storage_failure);
                    State next = state;
                    apply(next, s);
                    // Of a step that failed at its very end nothing is known but that it is whole or not at all.
                    if (!differs(store, state).empty()) {
                        ASSERT_EQ(differs(store, next), "") << at;
                    } else if (s.part != 1) {
                        done = take(store, s);
                        ASSERT_TRUE(done) << at << ": " << done.error().text;
                    } else {
                        ASSERT_TRUE(take(store, {s.name, s.version, 1})) << at;
                    }
                }
                apply(state, s);
            }
            ASSERT_EQ(differs(store, state), "") << at;
        }
    EXPECT_GT(refused, all);
    printf("%d refusals\n", refused);
}
