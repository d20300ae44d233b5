// Documents, as passages, in an SQLite file: words for BM25 (FTS5), vectors for what they mean. Each call that changes
// something is one transaction, and what it returned is there after a kill or a power cut.
//
// Made for an SD card: a write-ahead log with synchronous=FULL, so that a transaction is written one behind the other
// and synced once, and pages that change often reach their place once in 256 pages of the log; one process holds the
// file (locking_mode=EXCLUSIVE: no shared memory); freed pages are used again, never compacted.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace slmd::docs {

struct Passage {
    std::string_view heading, text;  // heading: where in the document, "Pumps > Pump 2"; "": nowhere
    std::int64_t begin, end;         // bytes of the document that it is of
};

// A document comes in parts, in order, from 0 on. Until the last one it is not searched.
struct Part {
    std::string_view name;
    std::string_view sha256;  // of its bytes, in hex
    std::int64_t bytes;       // of the file
    int number;
    bool last;
    std::span<const Passage> passages;
};

struct Added {
    bool unchanged;  // it was there with this hash: nothing was done, the other parts are not needed
    int passages;    // of the document, so far
};

struct Document {
    std::int64_t id, bytes;
    std::string_view name, sha256;
    int passages, embedded;  // embedded: have a vector of the encoder that was asked for
    bool whole;              // false: a part is missing
};

struct Hit {
    std::int64_t passage, begin, end;
    std::string_view document, heading, text;
    float score;         // of the fusion
    int words, meaning;  // its ranks there, from 1; 0: not found so
    float coverage;      // part of the question's words that it has, by their weight (idf); 0 to 1
};

// A word of a question, and how much it tells: nothing when it only asks, more the rarer it is in the documents.
struct Word {
    std::string_view text;
    float weight;
};

struct Vector {
    std::int64_t passage;
    float scale;
    std::span<const std::int8_t> numbers;
};

struct Counts {
    std::int64_t documents, passages;
};

// encoder: a number for one; vectors of others are not compared.
class Store {
  public:
    static constexpr std::size_t name_bytes = 511, heading_bytes = 255, text_bytes = 1500, max_part = 64, max_hits = 16,
                                 max_candidates = 64, max_dim = 2048;
    // For max_hits of them, or as many passages or documents.
    static constexpr std::size_t hits_bytes = max_hits * (name_bytes + heading_bytes + text_bytes);
    // Measured: what SQLite takes at most, statements and its cache of pages included.
    static constexpr std::size_t memory_bytes = 6u << 20;

    Store() = default;
    Store(const Store&) = delete;
    ~Store() { close(); }

    struct Options {
        int max_passages;
        const char* vfs = nullptr;  // of tests
    };
    // Makes the file where there is none; removes what is left of documents that did not come whole. A damaged one is
    // moved aside, to path.damaged, and said by damaged(). Errors: storage_failure, memory_full.
    Result<void> open(const char* path, const Options& options);
    void close();
    // The file was damaged, since the last call; an empty one is in its place.
    bool damaged();

    // Errors: text_too_long, invalid_characters, incorrect_parameters (order of the parts), context_full (too many
    // passages), storage_failure, memory_full.
    Result<Added> add(const Part& part);
    // How many passages it had. Errors: not_found, storage_failure.
    Result<int> remove(std::string_view name);
    // Those behind a name, in the order of their names. text: for their names and hashes, hits_bytes.
    Result<std::size_t> list(std::string_view behind, std::int64_t encoder, std::span<Document> out,
                             std::span<char> text);
    Result<Counts> counts();

    // Passages that have no vector of this encoder, behind a number. Returns how many.
    Result<std::size_t> unembedded(std::int64_t encoder, std::int64_t behind, std::span<Hit> out, std::span<char> text);
    Result<void> put(std::int64_t encoder, std::span<const Vector> vectors);

    // The best passages for a question: by its words, by its vector (of length 1; none: by words alone), by both fused.
    enum class By : unsigned char { both, words, meaning };
    Result<std::size_t> search(std::string_view question, std::int64_t encoder, std::span<const float> vector, By by,
                               std::span<Hit> out, std::span<char> text);
    // Of the last search: the question's words, which are the caller's.
    std::span<const Word> words() const { return {words_, word_count_}; }

  private:
    enum Sql : unsigned char;
    class Run;
    Result<void> open_file();
    Result<void> prepare();
    Error failed(const char* what);
    void set_aside();
    template <class F>
    auto write(F&& work) -> decltype(work());
    Result<int> drop(std::int64_t document);
    Result<void> insert(std::int64_t document, const Passage& passage);
    Result<std::size_t> by_words(std::string_view text, std::span<std::int64_t> out);
    Result<std::size_t> by_meaning(std::int64_t encoder, std::span<const float> vector, std::span<std::int64_t> out);
    Result<void> cover(std::string_view question, std::span<Hit> hits);
    Result<std::int64_t> number(Sql sql, std::int64_t argument);

    static constexpr int statements = 24;
    sqlite3* db_ = nullptr;
    sqlite3_stmt* prepared_[statements] = {};
    char path_[300] = "";
    Options options_{};
    bool damaged_ = false;
    Word words_[48];
    std::size_t word_count_ = 0;
};

}  // namespace slmd::docs
