#include "docs/pool.h"

#include <sqlite3.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace slmd::docs {
namespace {

int order_of(std::size_t bytes) {
    return static_cast<int>(std::bit_width(std::max<std::size_t>(bytes, 1) - 1)) > 6
               ? static_cast<int>(std::bit_width(bytes - 1)) - 6
               : 0;
}

Pool the_pool;

}  // namespace

Pool::Pool(std::span<std::byte> memory) : begin_(memory.data()) {
    blocks_ = memory.size() / (least + 1);
    orders_ = reinterpret_cast<std::uint8_t*>(begin_ + blocks_ * least);
    std::fill(orders_, orders_ + blocks_, inside);
    for (std::size_t block = 0; block < blocks_;) {  // pieces as large as can be, each at a multiple of its size
        int order = orders - 1;
        while ((block & ((std::size_t{1} << order) - 1)) != 0 || block + (std::size_t{1} << order) > blocks_) order--;
        put(block, order);
        block += std::size_t{1} << order;
    }
}

std::size_t Pool::round(std::size_t bytes) { return least << order_of(bytes); }

std::size_t Pool::size(const void* piece) const {
    return least << (orders_[block(piece)] & static_cast<std::uint8_t>(~taken));
}

void Pool::put(std::size_t block, int order) {
    orders_[block] = static_cast<std::uint8_t>(order);
    Free* const f = at(block);
    *f = {nullptr, free_[order]};
    if (f->after != nullptr) f->after->before = f;
    free_[order] = f;
}

void Pool::drop(std::size_t block, int order) {
    const Free* const f = at(block);
    (f->before != nullptr ? f->before->after : free_[order]) = f->after;
    if (f->after != nullptr) f->after->before = f->before;
    orders_[block] = inside;
}

void* Pool::take(std::size_t bytes) {
    if (bytes > blocks_ * least) return nullptr;
    const int wanted = order_of(bytes);
    int order = wanted;
    while (order < orders && free_[order] == nullptr) order++;
    if (order == orders) return nullptr;
    const std::size_t found = block(free_[order]);
    drop(found, order);
    while (order > wanted) order--, put(found + (std::size_t{1} << order), order);
    orders_[found] = static_cast<std::uint8_t>(taken | wanted);
    used_ += least << wanted;
    most_ = std::max(most_, used_);
    return at(found);
}

void Pool::give(void* piece) {
    std::size_t b = block(piece);
    int order = orders_[b] & static_cast<std::uint8_t>(~taken);
    used_ -= least << order;
    orders_[b] = inside;
    for (; order < orders - 1; order++) {
        const std::size_t other = b ^ (std::size_t{1} << order);
        if (other + (std::size_t{1} << order) > blocks_ || orders_[other] != order) break;
        drop(other, order);
        b = std::min(b, other);
    }
    put(b, order);
}

const Pool& memory() { return the_pool; }

Result<void> give_memory(std::span<std::byte> memory) {
    static constexpr sqlite3_mem_methods methods{
        [](int n) { return the_pool.take(static_cast<std::size_t>(n)); },
        [](void* p) {
            if (p != nullptr) the_pool.give(p);
        },
        [](void* p, int n) -> void* {
            const std::size_t had = the_pool.size(p);
            if (Pool::round(static_cast<std::size_t>(n)) == had) return p;
            void* const other = the_pool.take(static_cast<std::size_t>(n));
            if (other == nullptr) return nullptr;
            std::memcpy(other, p, std::min(had, static_cast<std::size_t>(n)));
            the_pool.give(p);
            return other;
        },
        [](void* p) { return p == nullptr ? 0 : static_cast<int>(the_pool.size(p)); },
        [](int n) { return static_cast<int>(Pool::round(static_cast<std::size_t>(n))); },
        [](void*) { return SQLITE_OK; },
        [](void*) {},
        nullptr};
    sqlite3_shutdown();
    if (the_pool.used() != 0)
        return Error::make(Code::not_allowed, "SQLite still holds %zu bytes of its memory", the_pool.used());
    the_pool = Pool(memory);
    int e = sqlite3_config(SQLITE_CONFIG_MALLOC, &methods);
    if (e == SQLITE_OK) e = sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
    if (e == SQLITE_OK) e = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    if (e == SQLITE_OK) e = sqlite3_initialize();
    if (e != SQLITE_OK) return Error::make(Code::unknown, "SQLite cannot be set up: %s", sqlite3_errstr(e));
    return {};
}

}  // namespace slmd::docs
