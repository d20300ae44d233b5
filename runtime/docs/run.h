// One run of a prepared statement; it is reset at the end, whatever happens.
#pragma once
#include <sqlite3.h>

#include <initializer_list>

#include "docs/store.h"

namespace slmd::docs {

enum Store::Sql : unsigned char {
    sql_begin,
    sql_commit,
    sql_rollback,
    sql_find,
    sql_insert_document,
    sql_update_document,
    sql_delete_document,
    sql_insert_passage,
    sql_insert_words,
    sql_first_passage,
    sql_delete_words,
    sql_delete_passage,
    sql_delete_vector,
    sql_total,
    sql_list,
    sql_counts,
    sql_embedded_of,
    sql_unembedded,
    sql_put_vector,
    sql_words,
    sql_meaning,
    sql_passage,
    sql_count_word,
    sql_has_word,
};

class Store::Run {
  public:
    Run(Store& store, Sql sql) : store_(store), s_(store.prepared_[sql]) {}
    Run(const Run&) = delete;
    ~Run() {
        sqlite3_reset(s_);
        sqlite3_clear_bindings(s_);
    }
    // The texts must stay until the end.
    Run& bind(std::int64_t v) { return sqlite3_bind_int64(s_, ++bound_, v), *this; }
    Run& bind(double v) { return sqlite3_bind_double(s_, ++bound_, v), *this; }
    Run& bind(std::string_view v) {
        return sqlite3_bind_text(s_, ++bound_, v.data() == nullptr ? "" : v.data(), static_cast<int>(v.size()),
                                 SQLITE_STATIC),
               *this;
    }
    Run& bind(std::span<const std::int8_t> v) {
        return sqlite3_bind_blob(s_, ++bound_, v.data(), static_cast<int>(v.size()), SQLITE_STATIC), *this;
    }
    // True: there is a row.
    Result<bool> step() {
        const int e = sqlite3_step(s_);
        if (e == SQLITE_ROW) return true;
        if (e == SQLITE_DONE) return false;
        return store_.failed("documents");
    }
    Result<void> run() {
        TRY(step());
        return {};
    }
    std::int64_t number(int column) const { return sqlite3_column_int64(s_, column); }
    double real(int column) const { return sqlite3_column_double(s_, column); }
    std::string_view text(int column) const {
        const auto* const t = reinterpret_cast<const char*>(sqlite3_column_text(s_, column));
        return t == nullptr ? std::string_view{}
                            : std::string_view{t, static_cast<std::size_t>(sqlite3_column_bytes(s_, column))};
    }
    std::span<const std::int8_t> blob(int column) const {
        return {static_cast<const std::int8_t*>(sqlite3_column_blob(s_, column)),
                static_cast<std::size_t>(sqlite3_column_bytes(s_, column))};
    }

  private:
    Store& store_;
    sqlite3_stmt* s_;
    int bound_ = 0;
};

// Copies into a caller's buffer; "" for what does not fit, which its size rules out.
class Texts {
  public:
    explicit Texts(std::span<char> room) : room_(room) {}
    std::string_view keep(std::string_view s) {
        if (s.size() > room_.size()) return {};
        std::copy(s.begin(), s.end(), room_.begin());
        const std::string_view kept{room_.data(), s.size()};
        room_ = room_.subspan(s.size());
        return kept;
    }

  private:
    std::span<char> room_;
};

}  // namespace slmd::docs
