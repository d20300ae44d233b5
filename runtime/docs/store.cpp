#include "docs/store.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "base/utf8.h"
#include "docs/run.h"

namespace slmd::docs {
namespace {

// In the order of Store::Sql.
constexpr const char* sql[] = {
    "BEGIN IMMEDIATE",
    "COMMIT",
    "ROLLBACK",
    "SELECT id, sha256, parts, passages FROM documents WHERE name = ? AND whole = ?",
    "INSERT INTO documents(name, sha256, bytes, passages, parts, whole) VALUES(?, ?, ?, 0, 0, 0)",
    "UPDATE documents SET passages = passages + ?, parts = parts + 1, whole = ? WHERE id = ?",
    "DELETE FROM documents WHERE id = ?",
    "INSERT INTO passages(document, begin, end, heading, text) VALUES(?, ?, ?, ?, ?)",
    "INSERT INTO words(rowid, heading, text) VALUES(?, ?, ?)",
    "SELECT id, heading, text FROM passages WHERE document = ? LIMIT 1",
    "INSERT INTO words(words, rowid, heading, text) VALUES('delete', ?, ?, ?)",
    "DELETE FROM passages WHERE id = ?",
    "DELETE FROM vectors WHERE passage = ?",
    "SELECT coalesce(sum(passages), 0) FROM documents WHERE id <> ?",
    "SELECT id, name, sha256, bytes, passages, whole FROM documents d WHERE name > ? AND "
    "(whole = 1 OR NOT EXISTS (SELECT 1 FROM documents w WHERE w.name = d.name AND w.whole = 1)) "
    "ORDER BY name LIMIT ?",
    "SELECT count(*), coalesce(sum(passages), 0) FROM documents WHERE whole = 1",
    "SELECT count(*) FROM passages p JOIN vectors v ON v.passage = p.id AND v.encoder = ? WHERE p.document = ?",
    "SELECT p.id, p.begin, p.end, d.name, p.heading, p.text FROM passages p JOIN documents d ON d.id = p.document "
    "WHERE p.id > ? AND d.whole = 1 AND NOT EXISTS (SELECT 1 FROM vectors v WHERE v.passage = p.id AND v.encoder = ?) "
    "ORDER BY p.id LIMIT ?",
    "INSERT OR REPLACE INTO vectors(passage, encoder, scale, numbers) SELECT id, ?, ?, ? FROM passages WHERE id = ?",
    // With LIMIT the sorter keeps so many rows and no more, which ORDER BY rank would not.
    "SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words, 2.0, 1.0), rowid LIMIT ?",
    "SELECT passage, scale, numbers FROM vectors WHERE encoder = ?",
    ("SELECT p.begin, p.end, d.name, p.heading, p.text FROM passages p JOIN documents d ON d.id = p.document "
     "WHERE p.id = ? AND d.whole = 1"),
    "SELECT count(*) FROM words WHERE words MATCH ?",
    "SELECT count(*) FROM words WHERE words MATCH ? AND rowid = ?",
};

// A number that is never used again: what an old answer cites is that passage or none.
constexpr char schema[] =
    "CREATE TABLE documents(id INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL,"
    " passages INTEGER NOT NULL, parts INTEGER NOT NULL, whole INTEGER NOT NULL, UNIQUE(name, whole));"
    "CREATE TABLE passages(id INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL, begin INTEGER NOT NULL,"
    " end INTEGER NOT NULL, heading TEXT NOT NULL, text TEXT NOT NULL);"
    "CREATE INDEX of_document ON passages(document);"
    "CREATE TABLE vectors(passage INTEGER PRIMARY KEY, encoder INTEGER NOT NULL, scale REAL NOT NULL,"
    " numbers BLOB NOT NULL);"
    "CREATE VIRTUAL TABLE words USING fts5(heading, text, content='passages', content_rowid='id',"
    " tokenize='porter unicode61 remove_diacritics 2');"
    "INSERT INTO words(words, rank) VALUES('hashsize', 262144);"
    "PRAGMA application_id = 1936485732;"  // "slmd"
    "PRAGMA user_version = 1";

constexpr char settings[] =
    "PRAGMA locking_mode = EXCLUSIVE;"
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = FULL;"
    "PRAGMA wal_autocheckpoint = 256;"
    "PRAGMA journal_size_limit = 2097152;"
    "PRAGMA cache_size = -1024;"
    "PRAGMA temp_store = MEMORY;"
    "PRAGMA secure_delete = FAST;"
    "PRAGMA trusted_schema = OFF";

constexpr std::int64_t max_checked_pages = 4096;  // 16 MiB

Result<void> check(const Part& part) {
    const auto size = [](std::string_view s) { return static_cast<int>(std::min<std::size_t>(s.size(), 80)); };
    if (part.name.empty() || part.name.size() > Store::name_bytes)
        return Error::make(Code::text_too_long, "a document's name is 1 to %zu bytes", Store::name_bytes);
    if (part.sha256.size() != 64 || part.sha256.find_first_not_of("0123456789abcdef") != std::string_view::npos)
        return Error::make(Code::incorrect_parameters, "sha256 is 64 hexadecimal digits in lower case");
    if (part.passages.size() > Store::max_part)
        return Error::make(Code::text_too_long, "%zu passages: at most %zu a part", part.passages.size(),
                           Store::max_part);
    // Lines tell them: two bytes a character are the most that they then take.
    const auto plain = [](std::string_view s) {
        return utf8_valid(s) && std::none_of(s.begin(), s.end(), [](char c) { return (c & 0xE0) == 0; });
    };
    if (!plain(part.name))
        return Error::make(Code::invalid_characters,
                           "the document's name is not UTF-8, or has control characters in it");
    for (const Passage& p : part.passages) {
        if (p.text.empty() || p.text.size() > Store::text_bytes || p.heading.size() > Store::heading_bytes)
            return Error::make(Code::text_too_long, "%.*s: a passage is 1 to %zu bytes, its heading at most %zu",
                               size(part.name), part.name.data(), Store::text_bytes, Store::heading_bytes);
        if (!utf8_valid(p.text) || !plain(p.heading))
            return Error::make(Code::invalid_characters, "%.*s: a passage is not UTF-8", size(part.name),
                               part.name.data());
        if (p.begin < 0 || p.end < p.begin)
            return Error::make(Code::incorrect_parameters, "%.*s: a passage ends before it begins", size(part.name),
                               part.name.data());
    }
    return {};
}

}  // namespace

Error Store::failed(const char* what) {
    const int e = db_ == nullptr ? SQLITE_NOMEM : sqlite3_errcode(db_), more = sqlite3_extended_errcode(db_);
    if (e == SQLITE_CORRUPT || e == SQLITE_NOTADB) {
        damaged_ = true;
        return Error::make(Code::storage_failure,
                           "%s is damaged: it is moved to %s.damaged, and the documents have to be added again", path_,
                           path_);
    }
    if (e == SQLITE_NOMEM)
        return Error::make(Code::memory_full, "%s: the %zu KiB that SQLite has are used up", what, memory_bytes >> 10);
    if (e == SQLITE_FULL) return Error::make(Code::storage_failure, "%s: there is no room for %s", what, path_);
    return Error::make(Code::storage_failure, "%s: %s: %s (%d)", what, path_,
                       db_ == nullptr ? sqlite3_errstr(e) : sqlite3_errmsg(db_), more);
}

void Store::close() {
    for (sqlite3_stmt*& s : prepared_) sqlite3_finalize(s), s = nullptr;
    sqlite3_close(db_);
    db_ = nullptr;
}

bool Store::damaged() { return std::exchange(damaged_, false); }

Result<void> Store::open_file() {
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path_, &db_, flags, options_.vfs) != SQLITE_OK) return failed("documents");
    sqlite3_db_config(db_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    const auto run = [&](const char* text) -> Result<void> {
        if (sqlite3_exec(db_, text, nullptr, nullptr, nullptr) != SQLITE_OK) return failed("documents");
        return {};
    };
    TRY(run(settings));
    // The first row: its number, and whether it says "ok".
    struct Said {
        std::int64_t number;
        bool ok;
    };
    const auto ask = [&](const char* text) -> Result<Said> {
        sqlite3_stmt* s = nullptr;
        int e = sqlite3_prepare_v2(db_, text, -1, &s, nullptr);
        if (e == SQLITE_OK) e = sqlite3_step(s);
        Said said{};
        if (e == SQLITE_ROW) {
            const auto* const words = reinterpret_cast<const char*>(sqlite3_column_text(s, 0));
            said = {sqlite3_column_int64(s, 0), words != nullptr && strcmp(words, "ok") == 0};
        }
        sqlite3_finalize(s);
        if (e != SQLITE_ROW) return failed("documents");
        return said;
    };
    const std::int64_t tables = TRY(ask("SELECT count(*) FROM sqlite_schema")).number,
                       owner = TRY(ask("PRAGMA application_id")).number,
                       version = TRY(ask("PRAGMA user_version")).number;
    if (tables == 0) {
        TRY(run("BEGIN IMMEDIATE"));
        if (auto made = run(schema); !made) {
            (void)run("ROLLBACK");
            return made;
        }
        TRY(run("COMMIT"));
    } else if (owner != 1936485732 || version != 1) {
        return Error::make(Code::storage_failure,
                           "%s is no index of this version of slmd: move it away, and add the documents again", path_);
    }
    // Not of a large one, which a card is read for many seconds for: there SQLite finds what is damaged when it is
    // used.
    const bool looks = TRY(ask("PRAGMA page_count")).number <= max_checked_pages;
    if (looks && !TRY(ask("PRAGMA quick_check(1)")).ok) {
        damaged_ = true;
        return Error::make(Code::storage_failure, "%s is damaged", path_);
    }
    return {};
}

Result<void> Store::prepare() {
    static_assert(std::size(sql) == sql_has_word + 1 && std::size(sql) == statements);
    for (std::size_t i = 0; i < std::size(sql); i++)
        if (sqlite3_prepare_v3(db_, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &prepared_[i], nullptr) != SQLITE_OK)
            return failed("documents");
    return {};
}

// What is damaged stays, for whoever wants to look; an empty one begins.
void Store::set_aside() {
    close();
    char other[sizeof path_ + 16];
    snprintf(other, sizeof other, "%s.damaged", path_);
    rename(path_, other);
    snprintf(other, sizeof other, "%s-wal", path_);
    unlink(other);
}

Result<void> Store::open(const char* path, const Options& options) {
    close();
    options_ = options;
    damaged_ = false;
    if (strlen(path) + 16 > sizeof path_)
        return Error::make(Code::text_too_long, "the path of the documents is longer than %zu bytes: %s",
                           sizeof path_ - 16, path);
    snprintf(path_, sizeof path_, "%s", path);
    auto opened = open_file();
    const bool damaged = damaged_;
    if (!opened && damaged) {
        set_aside();
        opened = open_file();
        damaged_ = true;
    }
    if (opened) opened = prepare();
    if (!opened) {
        close();
        return opened;
    }
    // What did not come whole before the last end.
    for (;;) {
        std::int64_t id = 0;
        {
            sqlite3_stmt* s = nullptr;
            if (sqlite3_prepare_v2(db_, "SELECT id FROM documents WHERE whole = 0 LIMIT 1", -1, &s, nullptr) !=
                SQLITE_OK)
                return failed("documents");
            if (sqlite3_step(s) == SQLITE_ROW) id = sqlite3_column_int64(s, 0);
            sqlite3_finalize(s);
        }
        if (id == 0) return {};
        if (auto dropped = write([&]() { return drop(id); }); !dropped) return dropped.error();
    }
}

// One transaction: all of it, or nothing.
template <class F>
auto Store::write(F&& work) -> decltype(work()) {
    if (db_ == nullptr) {
        if (auto again = open(path_, options_); !again) return again.error();
    }
    auto result = [&]() -> decltype(work()) {
        TRY(Run(*this, sql_begin).run());
        auto done = work();
        if (!done) return done;
        if (auto kept = Run(*this, sql_commit).run(); !kept) return kept.error();
        return done;
    }();
    if (!result) {
        const bool damaged = damaged_;
        if (sqlite3_get_autocommit(db_) == 0) (void)Run(*this, sql_rollback).run();
        if (damaged) {
            set_aside();
            (void)open(path_, options_);
            damaged_ = true;
        }
    }
    return result;
}

Result<int> Store::drop(std::int64_t document) {
    int count = 0;
    for (;; count++) {
        Run first(*this, sql_first_passage);
        first.bind(document);
        if (!TRY(first.step())) break;
        const std::int64_t id = first.number(0);
        TRY(Run(*this, sql_delete_words).bind(id).bind(first.text(1)).bind(first.text(2)).run());
        TRY(Run(*this, sql_delete_vector).bind(id).run());
        TRY(Run(*this, sql_delete_passage).bind(id).run());
    }
    TRY(Run(*this, sql_delete_document).bind(document).run());
    return count;
}

Result<void> Store::insert(std::int64_t document, const Passage& p) {
    TRY(Run(*this, sql_insert_passage).bind(document).bind(p.begin).bind(p.end).bind(p.heading).bind(p.text).run());
    TRY(Run(*this, sql_insert_words)
            .bind(std::int64_t{sqlite3_last_insert_rowid(db_)})
            .bind(p.heading)
            .bind(p.text)
            .run());
    return {};
}

Result<std::int64_t> Store::number(Sql which, std::int64_t argument) {
    Run q(*this, which);
    q.bind(argument);
    TRY(q.step());
    return q.number(0);
}

Result<Added> Store::add(const Part& part) {
    TRY(check(part));
    return write([&]() -> Result<Added> {
        std::int64_t old = 0, id = 0;
        int parts = 0;
        std::int64_t passages = 0;
        {
            Run q(*this, sql_find);
            q.bind(part.name).bind(std::int64_t{1});
            if (TRY(q.step())) {
                old = q.number(0);
                if (q.text(1) == part.sha256) return Added{true, static_cast<int>(q.number(3))};
            }
        }
        {
            Run q(*this, sql_find);
            q.bind(part.name).bind(std::int64_t{0});
            if (TRY(q.step())) {
                id = q.number(0);
                if (q.text(1) == part.sha256) parts = static_cast<int>(q.number(2)), passages = q.number(3);
            }
        }
        if (part.number == 0 && id != 0) {  // begun before, and given up
            TRY(drop(id));
            id = 0, parts = 0, passages = 0;
        }
        if (part.number != parts)
            return Error::make(Code::incorrect_parameters,
                               "part %d of a document of which there are %d: begin again with part 0", part.number,
                               parts);
        if (id == 0) {
            TRY(Run(*this, sql_insert_document).bind(part.name).bind(part.sha256).bind(part.bytes).run());
            id = sqlite3_last_insert_rowid(db_);
        }
        passages += static_cast<std::int64_t>(part.passages.size());
        if (const std::int64_t total = TRY(number(sql_total, old)) + static_cast<std::int64_t>(part.passages.size());
            total > options_.max_passages)
            return Error::make(Code::context_full,
                               "%lld passages would be there, and [limits] passages allows %d: remove documents, or "
                               "allow more",
                               static_cast<long long>(total), options_.max_passages);
        for (const Passage& p : part.passages) TRY(insert(id, p));
        if (part.last && old != 0) TRY(drop(old));
        TRY(Run(*this, sql_update_document)
                .bind(static_cast<std::int64_t>(part.passages.size()))
                .bind(std::int64_t{part.last})
                .bind(id)
                .run());
        return Added{false, static_cast<int>(passages)};
    });
}

Result<int> Store::remove(std::string_view name) {
    return write([&]() -> Result<int> {
        int count = 0;
        bool found = false;
        for (const std::int64_t whole : {0, 1}) {
            std::int64_t id = 0;
            {
                Run q(*this, sql_find);
                q.bind(name).bind(whole);
                if (TRY(q.step())) id = q.number(0);
            }
            if (id == 0) continue;
            found = true;
            count += TRY(drop(id));
        }
        if (!found)
            return Error::make(Code::not_found, "no document \"%.*s\"; slmctl docs list shows them",
                               static_cast<int>(std::min<std::size_t>(name.size(), 120)), name.data());
        return count;
    });
}

Result<std::size_t> Store::list(std::string_view behind, std::int64_t encoder, std::span<Document> out,
                                std::span<char> text) {
    Texts texts(text);
    std::size_t n = 0;
    {
        Run q(*this, sql_list);
        q.bind(behind).bind(static_cast<std::int64_t>(out.size()));
        while (n < out.size() && TRY(q.step()))
            out[n++] = {q.number(0),
                        q.number(3),
                        texts.keep(q.text(1)),
                        texts.keep(q.text(2)),
                        static_cast<int>(q.number(4)),
                        0,
                        q.number(5) != 0};
    }
    for (Document& d : out.first(n)) {
        Run q(*this, sql_embedded_of);
        q.bind(encoder).bind(d.id);
        TRY(q.step());
        d.embedded = static_cast<int>(q.number(0));
    }
    return n;
}

Result<Counts> Store::counts() {
    Run q(*this, sql_counts);
    TRY(q.step());
    return Counts{q.number(0), q.number(1)};
}

Result<std::size_t> Store::unembedded(std::int64_t encoder, std::int64_t behind, std::span<Hit> out,
                                      std::span<char> text) {
    Texts texts(text);
    Run q(*this, sql_unembedded);
    q.bind(behind).bind(encoder).bind(static_cast<std::int64_t>(out.size()));
    std::size_t n = 0;
    while (n < out.size() && TRY(q.step()))
        out[n++] = {q.number(0),
                    q.number(1),
                    q.number(2),
                    texts.keep(q.text(3)),
                    texts.keep(q.text(4)),
                    texts.keep(q.text(5)),
                    0,
                    0,
                    0,
                    0};
    return n;
}

Result<void> Store::put(std::int64_t encoder, std::span<const Vector> vectors) {
    TRY(write([&]() -> Result<int> {
        for (const Vector& v : vectors)
            TRY(Run(*this, sql_put_vector)
                    .bind(encoder)
                    .bind(static_cast<double>(v.scale))
                    .bind(v.numbers)
                    .bind(v.passage)
                    .run());
        return 0;
    }));
    return {};
}

}  // namespace slmd::docs
