// A folder in memory that counts what is written, loses its power at any operation, in the middle of a write too, and
// can be full.
#pragma once
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "route/disk.h"

namespace slmd::route::testing {

class MemoryDisk final : public Disk {
  public:
    struct Write {
        std::size_t at;
        std::string bytes;
        bool truncates;
    };
    struct File {
        std::string now, durable;
        std::vector<Write> pending;
        std::set<std::size_t> touched;  // blocks, since the last sync
    };
    std::map<std::string, File> files;
    int operations = 0, fails_at = 0;
    std::size_t torn = 0;         // bytes of the write that fails that come to the card
    std::size_t room = 1u << 30;  // bytes of all files
    bool off = false;
    // Whole blocks of 4096 bytes, each once a sync; and three for each change of the folder or of a file's size.
    std::uint64_t block_bytes = 0, metadata_bytes = 0, syncs = 0;
    std::vector<std::pair<int, std::size_t>> writes;  // operation, bytes

    std::uint64_t written() const { return block_bytes + metadata_bytes; }
    std::uint64_t total() const {
        std::uint64_t n = 0;
        for (const auto& [name, f] : files) n += f.now.size();
        return n;
    }

    Result<void> list(Look look, void* context) override {
        if (off) return gone();
        for (const auto& [name, f] : files)
            if (!look(context, name.c_str())) break;
        return {};
    }
    Result<int> open(const char* name, How how) override {
        if (how == How::emptied || (how == How::either && files.count(name) == 0)) {
            TRY(operation());
            files[name] = {};
            metadata_bytes += 3 * 4096;
        } else if (off || files.count(name) == 0) {
            return gone();
        }
        handles.push_back(name);
        return static_cast<int>(handles.size()) - 1;
    }
    void close(int) override {}
    Result<std::uint64_t> size(int f) override { return file(f).now.size(); }
    Result<std::size_t> read(int f, std::uint64_t at, std::span<std::byte> out) override {
        if (off) return gone();
        const std::string& now = file(f).now;
        const std::size_t begin = std::min<std::size_t>(at, now.size()), n = std::min(out.size(), now.size() - begin);
        std::memcpy(out.data(), now.data() + begin, n);
        return n;
    }
    Result<void> write(int f, std::uint64_t at, std::span<const std::byte> bytes) override {
        Write w{at, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), false};
        const bool was_off = off;
        const auto can = operation();
        writes.push_back({operations, bytes.size()});
        if (!can && !was_off) {
            w.bytes.resize(std::min(torn, w.bytes.size()));
            put(file(f), w);
        }
        if (!can) return can.error();
        const std::size_t more = at + bytes.size() > file(f).now.size() ? at + bytes.size() - file(f).now.size() : 0;
        if (total() + more > room) return Error::make(Code::storage_failure, "No space left on device");
        put(file(f), w);
        return {};
    }
    Result<void> truncate(int f, std::uint64_t size) override {
        TRY(operation());
        put(file(f), {size, "", true});
        return {};
    }
    Result<void> sync(int f) override {
        TRY(operation());
        File& one = file(f);
        if (one.durable.size() != one.now.size()) metadata_bytes += 3 * 4096;
        block_bytes += one.touched.size() * 4096;
        one.durable = one.now;
        one.pending.clear(), one.touched.clear();
        syncs++;
        return {};
    }
    Result<void> rename(const char* from, const char* to) override {
        TRY(operation());
        metadata_bytes += 3 * 4096;
        for (std::string& h : handles)
            if (h == from) h = to;
        auto node = files.extract(from);
        node.key() = to;
        files.erase(to);
        files.insert(std::move(node));
        return {};
    }
    Result<void> remove(const char* name) override {
        if (files.count(name) == 0) return {};
        TRY(operation());
        metadata_bytes += 3 * 4096;
        files.erase(name);
        return {};
    }

    Result<void> sync_names() override { return operation(); }

    // The power is back: of what was not synced, each write is lost, kept or torn, as the seed has it; 0: all is kept.
    void recover(unsigned seed) {
        for (auto& [name, f] : files) {
            for (Write w : f.pending) {
                const unsigned chance = seed == 0 ? 2 : (seed = seed * 1664525 + 1013904223) >> 20;
                if (chance % 3 == 0) continue;
                if (chance % 3 == 1) w.bytes.resize(w.bytes.size() / 2);
                apply(f.durable, w);
            }
            f.now = f.durable;
            f.pending.clear(), f.touched.clear();
        }
        off = false, fails_at = 0;
    }

  private:
    static Error gone() { return Error::make(Code::storage_failure, "the disk is gone, or has no such file"); }
    static void apply(std::string& to, const Write& w) {
        if (w.truncates) return to.resize(w.at);
        if (w.bytes.empty()) return;
        if (to.size() < w.at + w.bytes.size()) to.resize(w.at + w.bytes.size());
        to.replace(w.at, w.bytes.size(), w.bytes);
    }
    static void put(File& f, const Write& w) {
        apply(f.now, w);
        f.pending.push_back(w);
        if (!w.bytes.empty())
            for (std::size_t b = w.at / 4096; b <= (w.at + w.bytes.size() - 1) / 4096; b++) f.touched.insert(b);
    }
    Result<void> operation() {
        if (off) return gone();
        if (++operations != fails_at) return {};
        off = true;
        return gone();
    }
    File& file(int f) { return files.at(handles[static_cast<std::size_t>(f)]); }
    std::vector<std::string> handles;
};

}  // namespace slmd::route::testing
