// A grammar with the memory that it lives in, and a matcher for it.
#pragma once
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/matcher.h"

namespace slmd::grammar {

struct Block {
    explicit Block(std::size_t bytes)
        : memory(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{64}))), size(bytes) {
        std::memset(memory, 0, size);
    }
    ~Block() { ::operator delete (memory, std::align_val_t{64}); }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    std::span<std::byte> view() { return {memory, size}; }
    std::byte* memory;
    std::size_t size;
};

struct TestMatcher : Matcher {
    TestMatcher() : block(bytes()) {
        Arena arena(block.view());
        lay_out(arena);
    }
    static std::size_t bytes() {
        Arena counting;
        Matcher m;
        m.lay_out(counting);
        return counting.used();
    }
    Block block;
};

struct TestSource : Source {
    TestSource() : block(2 * max_bytes + Arena::align) {
        Arena arena(block.view());
        lay_out(arena);
    }
    Block block;
};

struct Compiled {
    explicit Compiled(std::size_t bytes = 16u << 20)
        : heap_block(bytes), scratch_block(64u << 20), heap(heap_block.view()), scratch(scratch_block.view()) {}
    Result<void> schema(std::string source, const CompileOptions& options = {}) {
        text = std::move(source);
        heap.release(0);
        grammar = TRY(compile_schema(text, options, heap, scratch));
        return {};
    }
    Block heap_block, scratch_block;
    Heap heap, scratch;
    std::string text;
    Grammar grammar;
};

// The whole text is taken, and may end there.
inline bool accepts(Matcher& matcher, const Grammar& grammar, std::string_view text, const Source* source = nullptr) {
    matcher.open(grammar, source);
    return matcher.take(text) && matcher.accepting();
}

}  // namespace slmd::grammar
