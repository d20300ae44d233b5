// Upstreams in one process, driven by lines on stdin, so that what lasts from one request to the next can be seen:
// sessions, breakers, memory. A line: [stream] [key=K] [cut=MS] [deadline=MS] [only=NAME]. Each gives a line of JSON.
#include <dlfcn.h>
#include <malloc.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "uplink/upstreams.h"

using namespace slmd;
using namespace slmd::uplink;

// A name server that does not answer.
extern "C" int getaddrinfo(const char* node, const char* service, const addrinfo* hints,
                           addrinfo** out) noexcept(noexcept(getaddrinfo(node, service, hints, out))) {
    if (strcmp(node, "silent.invalid") == 0 && (hints->ai_flags & AI_NUMERICHOST) == 0) sleep(60);
    using Real = int (*)(const char*, const char*, const addrinfo*, addrinfo**);
    return reinterpret_cast<Real>(dlsym(RTLD_NEXT, "getaddrinfo"))(node, service, hints, out);
}

namespace {

long peak_kib() {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;)
        if (word == "VmHWM:") {
            long kib = 0;
            status >> kib;
            return kib;
        }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    static Config config;
    if (argc != 2) return 64;
    const auto read = read_config(argv[1], nullptr, config);
    if (!read) return std::cerr << read.error().text << "\n", 78;
    auto all = Upstreams::open(config);
    if (!all) return std::cerr << all.error().text << "\n", 78;
    std::vector<char> out(65536);
    for (std::string line; std::getline(std::cin, line);) {
        Ask ask;
        ask.messages = R"([{"role":"user","content":"question"}])";
        std::string key, only;
        int cut_after = -1, deadline = 60000;
        std::istringstream words(line);
        for (std::string w; words >> w;) {
            if (w == "stream") ask.stream = true;
            if (w.starts_with("key=")) ask.key = key = w.substr(4);
            if (w.starts_with("only=")) only = w.substr(5);
            if (w.starts_with("cut=")) cut_after = std::stoi(w.substr(4));
            if (w.starts_with("deadline=")) deadline = std::stoi(w.substr(9));
        }
        std::atomic<bool> cut = cut_after == 0;
        std::thread cutter;
        if (cut_after > 0)
            cutter = std::thread([&] {
                std::this_thread::sleep_for(std::chrono::milliseconds(cut_after));
                cut = true;
            });
        std::string told;
        const OnText on_text{[](void* self, std::string_view p) { *static_cast<std::string*>(self) += p; }, &told};
        const Reply r = (*all)->complete(ask, out, on_text, now_ns() + std::int64_t{deadline} * 1'000'000, &cut, only);
        if (cutter.joinable()) cutter.join();
        nlohmann::json j = {{"ok", static_cast<bool>(r.outcome)},
                            {"error", r.outcome ? "" : r.outcome.error().text},
                            {"code", r.outcome ? 0 : static_cast<int>(r.outcome.error().code)},
                            {"text", std::string(r.text)},
                            {"told", told},
                            {"upstream", r.upstream != nullptr ? r.upstream->name : ""},
                            {"delivery", name_of(r.delivery)},
                            {"status", r.status},
                            {"tries", r.tries},
                            {"bytes_out", r.bytes_out},
                            {"bytes_in", r.bytes_in},
                            {"retry_after", r.retry_after},
                            {"heap", mallinfo2().uordblks},
                            {"peak", peak_kib()}};
        std::cout << j.dump() << std::endl;
    }
    return 0;
}
