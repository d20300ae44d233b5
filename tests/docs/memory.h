// SQLite with the memory that slmd gives it.
#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "docs/pool.h"
#include "docs/store.h"

namespace slmd::docs::testing {

struct Memory {
    std::vector<std::byte> bytes = std::vector<std::byte>(Store::memory_bytes);
    Memory() {
        const auto given = give_memory(bytes);
        EXPECT_TRUE(given) << given.error().text;
    }
    // Everything that SQLite took came back.
    ~Memory() { EXPECT_EQ(memory().used(), 0u) << "with no store open"; }
};

inline std::string hash(int n) {
    std::string h(64, '0');
    for (std::size_t i = 63; n > 0; n /= 10, i--) h[i] = static_cast<char>('0' + n % 10);
    return h;
}

inline Result<Added> add(Store& store, const std::string& name, int hash_of, const std::vector<std::string>& texts,
                         int part = 0, bool last = true, const std::string& heading = "") {
    std::vector<Passage> passages;
    std::int64_t at = 0;
    for (const std::string& t : texts) {
        passages.push_back({heading, t, at, at + static_cast<std::int64_t>(t.size())});
        at += static_cast<std::int64_t>(t.size());
    }
    return store.add({name, hash(hash_of), at, part, last, passages});
}

struct Found {
    std::size_t count = 0;
    Hit hits[Store::max_hits];
    std::vector<char> text = std::vector<char>(Store::hits_bytes);
    std::string error;
};
inline Found search(Store& store, const std::string& question, std::span<const float> vector = {},
                    Store::By by = Store::By::both, std::int64_t encoder = 1) {
    Found f;
    const auto n = store.search(question, encoder, vector, by, f.hits, f.text);
    if (n)
        f.count = n.value();
    else
        f.error = n.error().text;
    return f;
}

}  // namespace slmd::docs::testing
