#include <random>
#include <set>
#include <thread>

#include "../wire/mcu.h"
#include "harness.h"

using namespace slmd::testing;
using slmd::wire::Mcu;

namespace {

// The texts of all #TOK lines of an AT reply.
std::string tokens_of(const std::string& reply) {
    std::string text;
    for (std::size_t at = reply.find("#TOK: \""); at != std::string::npos; at = reply.find("#TOK: \"", at + 1)) {
        const std::size_t end = reply.find("\"\r\n", at);
        text += Mcu::unescape(reply.substr(at + 7, end - at - 7));
    }
    return text;
}

void wait_until_idle(const Daemon& d) {
    Wire w = d.connect();
    for (int i = 0; i < 2000; i++) {
        const json s = w.call("stat")["result"];
        if (s["state"] == "idle" && s["queue"] == 0) return;
        usleep(5000);
    }
    ADD_FAILURE() << "never idle";
}

constexpr const char* france = "What is the capital of France?";

// An engine that needs 20 ms more for each pass, so that a long answer lasts while others ask, on a fast machine too.
std::vector<std::string> slow_engine() {
    return {"LD_PRELOAD=" SLMD_HOOKS, "HOOK_SLOW=/", "ASAN_OPTIONS=verify_asan_link_order=0"};
}

// 200 tokens on the serial line, begun.
void generate_long(Daemon& d) {
    d.tty.send("AT#SET=\"bias\",\"" + endless() + "\"\r");
    d.tty.until("\r\nOK\r\n");
    d.tty.send("AT#GEN=\"count\",200\r");
    d.tty.until("#TOK: ");
}

}  // namespace

TEST(Answers, tty_and_socket_say_the_same) {
    Daemon d;
    const std::string expected = d.answer(france);
    EXPECT_NE(expected.find("Paris"), std::string::npos) << expected;
    d.tty.send(std::string("AT#GEN=\"") + france + "\"\r");
    EXPECT_EQ(tokens_of(d.tty.until("\r\nOK\r\n")), expected);
    // and streamed
    Wire w = d.connect();
    w.send(json{{"jsonrpc", "2.0"},
                {"id", "a"},
                {"method", "gen"},
                {"params", {{"prompt", france}, {"stream", true}, {"progress", true}}}}
               .dump() +
           "\n");
    std::string text;
    const json r = w.reply("a", &text);
    EXPECT_EQ(text, expected);
    EXPECT_EQ(r["result"]["finish"], "stop");
    EXPECT_GT(r["result"]["probability"], 0.5);
}

// A choice between labels is the same number on every wire, alone and while others are answered, and again.
TEST(Labels, tty_and_socket_choose_the_same_whatever_else_runs) {
    Daemon d({.arguments = {"--slots", "2", "--threads", "2"}});
    json labels = json::array();
    std::string list;
    for (const char* city : {"Rome.", "Madrid.", "Paris.", "Berlin.", "Paris. I think."}) {
        labels.push_back(std::string("The capital of France is ") + city);
        list += (list.empty() ? "" : "|") + labels.back().get<std::string>();
    }
    const json asked = {{"prompt", france}, {"labels", labels}, {"top", 16}};
    Wire w = d.connect();
    const json r = w.call("cls", asked)["result"];
    EXPECT_EQ(r["label"], labels[2]) << r;
    EXPECT_GT(r["probability"], 0.9);
    EXPECT_EQ(r["calibrated"], false);
    EXPECT_EQ(r["labels"].size(), 5u);
    double sum = 0, last = 1;
    for (const json& l : r["labels"]) {
        EXPECT_LE(l["probability"], last);
        sum += last = l["probability"].get<double>();
    }
    EXPECT_NEAR(sum, 1, 1e-3);
    EXPECT_NEAR(r["margin"].get<double>(),
                r["labels"][0]["probability"].get<double>() - r["labels"][1]["probability"].get<double>(), 2e-4);
    d.tty.send(std::string("ATE0\rAT#W=200\rAT#CLS=\"") + france + "\",\"" + list + "\"\r");
    d.tty.until("\r\nOK\r\n"), d.tty.until("\r\nOK\r\n");
    // the same numbers with fewer digits
    const std::string reply = d.tty.until("\r\nOK\r\n"), before = "#CLS: " + labels[2].dump() + ',';
    const std::size_t numbers = reply.find(before);
    ASSERT_NE(numbers, std::string::npos) << reply;
    double probability = 0, margin = 0;
    ASSERT_EQ(sscanf(reply.c_str() + numbers + before.size(), "%lf,%lf\r\n", &probability, &margin), 2) << reply;
    EXPECT_NEAR(probability, r["probability"].get<double>(), 6e-5);
    EXPECT_NEAR(margin, r["margin"].get<double>(), 6e-5);
    // while another is answered
    Wire other = d.connect();
    const json long_one = {{"prompt", "Say something."}, {"max", 200}, {"bias", endless()}, {"stream", true}};
    other.send(json{{"jsonrpc", "2.0"}, {"id", 1}, {"method", "gen"}, {"params", long_one}}.dump() + "\n");
    other.line();
    for (int i = 0; i < 5; i++) EXPECT_EQ(w.call("cls", asked)["result"]["labels"], r["labels"]);
    other.close();
    // what a text was generated from before is a prefix like any, and after
    const std::string answer = d.answer(france);
    EXPECT_EQ(w.call("cls", asked)["result"]["labels"], r["labels"]);
    EXPECT_EQ(d.answer(france), answer);
    wait_until_idle(d);
}

TEST(Labels, many_priors_deadline_cancel_and_refusals) {
    Daemon d;
    Wire w = d.connect();
    json many = json::array(), priors = json::array();
    for (int i = 0; i < 512; i++)
        many.push_back("label " + std::to_string(i)), priors.push_back(i == 300 ? 1e20 : 1e-10);
    json r = w.call("cls", {{"prompt", "Which?"}, {"labels", many}, {"priors", priors}, {"progress", true}})["result"];
    EXPECT_EQ(r["label"], "label 300") << r;
    EXPECT_GT(r["probability"], 0.99);
    r = w.call("cls", {{"prompt", "Which?"}, {"labels", {"a", "a b"}}, {"none", true}, {"top", 3}})["result"];
    EXPECT_EQ(r["labels"].size(), 3u);
    // found by the tokenizer only, on the engine's thread
    r = w.call("cls", {{"prompt", "Which?"}, {"labels", {"a", "!@#$%^&*()!@#$%^&*()!@#$%^&*()!@#$%^&*()"}}})["error"];
    EXPECT_EQ(r["code"], -32602);
    EXPECT_NE(r["message"].get<std::string>().find("label 2, "), std::string::npos) << r;
    r = w.call("cls", {{"prompt", std::string(9000, 'z')}, {"labels", {"a", "b"}}})["error"];
    EXPECT_EQ(r["code"], 263) << r;
    // a deadline that passes while a longer request has the only slot
    Daemon one({.arguments = {"--slots", "1"}, .environment = slow_engine()});
    Wire a = one.connect(), b = one.connect();
    const json long_one = {{"prompt", "Say something."}, {"max", 200}, {"bias", endless()}, {"stream", true}};
    a.send(json{{"jsonrpc", "2.0"}, {"id", 1}, {"method", "gen"}, {"params", long_one}}.dump() + "\n");
    a.line();
    r = b.call("cls", {{"prompt", "x"}, {"labels", many}, {"deadline_ms", 1}});
    EXPECT_EQ(r["error"]["code"], 264) << r;
    b.send(
        json{{"jsonrpc", "2.0"}, {"id", 2}, {"method", "cls"}, {"params", {{"prompt", "x"}, {"labels", many}}}}.dump() +
        "\n");
    b.send("{\"jsonrpc\":\"2.0\",\"method\":\"$/cancelRequest\",\"params\":{\"id\":2}}\n");
    EXPECT_EQ(b.reply(2)["error"]["code"], -32800);
    a.close();
    EXPECT_TRUE(b.call("cls", {{"prompt", "x"}, {"labels", {"a", "b"}}}).contains("result"));
    wait_until_idle(one);
}

// As in minicom: every character is echoed, mistakes are erased, ESC ends an answer, the prompt takes several lines.
TEST(Answers, a_person_types) {
    Daemon d;
    const std::string expected = d.answer(france);
    std::string echo;
    const auto type = [&](const std::string& keys) {
        for (const char c : keys) {
            d.tty.send({c});
            if (c == '\x7f')
                echo += d.tty.until("\b \b");
            else if (c != '\r')
                echo += d.tty.until({c});
        }
    };
    type(
        "AT#GEN=\"What is the capitol\x7f\x7f"
        "al of Frence\x7f\x7f\x7f"
        "ance?\"\r");
    EXPECT_EQ(tokens_of(d.tty.until("\r\nOK\r\n")), expected);
    type("at#mdoel?\r");
    EXPECT_NE(d.tty.until("+CME ERROR: 4\r\n").size(), 0u);
    type("AT#GEN\r");
    d.tty.until("\r\n> ");
    d.tty.send(std::string(france) + "\x1a");
    EXPECT_EQ(tokens_of(d.tty.until("\r\nOK\r\n")), expected);
    // ESC in the middle of an answer that would not end by itself for a while
    d.tty.send("AT#SET=\"bias\",\"" + endless() + "\"\r");
    d.tty.until("\r\nOK\r\n");
    // On a busy machine it may end before ESC is typed, which then means nothing.
    bool ended = false;
    for (int tries = 0; tries < 50 && !ended; tries++) {
        d.tty.send("AT#GEN=\"count\",200\r");
        d.tty.until("#TOK: ");
        d.tty.send("\x1b");
        for (std::string line; line != "OK\r\n" && !ended; ended = line == "+CME ERROR: 52\r\n")
            line = d.tty.until("\n");
    }
    EXPECT_TRUE(ended);
    d.tty.send("ATZ\r");
    d.tty.until("\r\nOK\r\n");
    wait_until_idle(d);
    d.tty.send("AT#CHAT\r");
    d.tty.until("CONNECT\r\n");
    d.tty.send(std::string(france) + "\r");
    EXPECT_NE(d.tty.until(expected + "\r\n").size(), 0u);
    d.tty.send("\x1a");
    d.tty.until("\r\nOK\r\n");
}

// An 8-bit microcontroller with checks and a window, on a line that flips bits both ways.
TEST(Answers, a_microcontroller_on_a_noisy_line_accepts_only_what_the_socket_says) {
    Daemon d;
    const char* const prompts[] = {france, "What is the capital of Italy?", "Turn on the pump in the garden.",
                                   "What is 3 plus 4?"};
    std::vector<std::string> expected;
    for (const char* p : prompts) expected.push_back(d.answer(p, {{"max", 24}}));
    std::mt19937 random(11);
    int accepted = 0, damaged = 0, refused = 0;
    for (const double rate : {0.0, 2e-4, 1e-3}) {
        std::bernoulli_distribution flip(rate);
        const auto noisy = [&](std::string s) {
            for (char& c : s)
                for (int bit = 0; bit < 8; bit++)
                    if (flip(random)) c ^= static_cast<char>(1 << bit);
            return s;
        };
        Mcu mcu;
        // Setting up is repeated until each command has its OK, as a client would.
        for (const std::string& command : {std::string("AT#CRC=1"), std::string("AT#WIN=2"), std::string("AT#W=56")}) {
            for (bool ok = false; !ok;) {
                mcu.out.clear();
                mcu.command(command);
                d.tty.send(noisy(mcu.out));
                for (std::string s = d.tty.some(300); !s.empty() && !ok; s = ok ? s : d.tty.some(300))
                    for (const char c : noisy(s)) ok |= mcu.byte(c) == Mcu::Got::ok;
            }
        }
        for (int round = 0; round < 12; round++) {
            const std::size_t which = static_cast<std::size_t>(round) % std::size(prompts);
            bool done = false;
            for (int attempt = 0; attempt < 30 && !done; attempt++) {
                mcu.out.clear();
                mcu.generate(prompts[which], 24);
                for (int silence = 0; silence < 5 && !done;) {
                    if (!mcu.out.empty()) d.tty.send(noisy(std::exchange(mcu.out, {})));
                    const std::string s = noisy(d.tty.some(200));
                    for (const char c : s) {
                        const auto got = mcu.byte(c);
                        done |= got == Mcu::Got::generated;
                        if (got == Mcu::Got::error && mcu.generating) refused++, silence = 9;
                    }
                    silence = s.empty() ? silence + 1 : silence;
                    if (s.empty() && mcu.generating && mcu.expected > 1) mcu.nak();
                }
            }
            ASSERT_TRUE(done) << "rate " << rate << ", round " << round;
            EXPECT_EQ(mcu.text, expected[which]) << "rate " << rate;
            accepted++;
        }
        damaged += mcu.damaged;
        // leave: without noise, so that the next rate starts clean
        d.tty.send("\x1b\r");
        d.tty.send("AT#CRC=0\r");
        d.tty.until("OK");
        while (!d.tty.some(300).empty()) {
        }
    }
    EXPECT_EQ(accepted, 36);
    EXPECT_GT(damaged, 5);
    ::testing::Test::RecordProperty("refused", refused);
}

TEST(Many, two_clients_at_once_get_what_each_gets_alone) {
    for (const char* slots : {"1", "2"}) {
        Daemon d({.arguments = {"--slots", slots}});
        const json params = {{"prompt", "Say something."}, {"max", 120}, {"bias", endless()}, {"stream", true}};
        json other = params;
        other["prompt"] = "Count to ten, please.";
        const std::string a_alone = [&] {
            json p = params;
            p.erase("stream");
            return d.answer(params["prompt"], p);
        }();
        const std::string b_alone = [&] {
            json p = other;
            p.erase("stream");
            return d.answer(other["prompt"], p);
        }();
        ASSERT_NE(a_alone, b_alone);
        // On a busy machine the first answer may be over before slmd's event loop hands in the second: every try must
        // give the right texts, one of them must interleave.
        const auto gen = [](int id, const json& p) {
            return json{{"jsonrpc", "2.0"}, {"id", id}, {"method", "gen"}, {"params", p}}.dump() + "\n";
        };
        bool interleaved = false;
        for (int tries = 0; tries < 20 && !interleaved; tries++) {
            Wire w = d.connect(), v = d.connect();
            w.send(gen(1, params) + gen(2, other));
            v.send(gen(3, params));
            std::string a, b, order;
            for (int finished = 0; finished < 2;) {
                const json l = w.line();
                ASSERT_FALSE(l.is_null());
                if (l.contains("method")) {
                    (l["params"]["id"] == 1 ? a : b) += l["params"]["text"];
                    order += l["params"]["id"] == 1 ? 'a' : 'b';
                } else {
                    EXPECT_TRUE(l.contains("result")) << l;
                    finished++;
                }
            }
            std::string c;
            v.reply(3, &c);
            EXPECT_EQ(a, a_alone);
            EXPECT_EQ(b, b_alone);
            EXPECT_EQ(c, a_alone);
            interleaved = std::string(slots) == "1" ||
                          (order.find("ab") != std::string::npos && order.find("ba") != std::string::npos);
        }
        EXPECT_TRUE(interleaved) << "the streams do not interleave";
    }
}

TEST(Many, a_client_that_never_reads_hurts_nobody) {
    Daemon d({.arguments = {"--slots", "1"}});
    Wire deaf = d.connect();
    const int flags = fcntl(deaf.fd(), F_GETFL);
    fcntl(deaf.fd(), F_SETFL, flags | O_NONBLOCK);
    std::string flood;
    for (int i = 0; i < 2000; i++) flood += "AT#HELP\r";
    std::size_t sent = 0;
    for (int i = 0; i < 50; i++) {
        const ssize_t n = write(deaf.fd(), flood.data() + sent, flood.size() - sent);
        if (n > 0) sent += static_cast<std::size_t>(n);
        usleep(2000);
    }
    EXPECT_NE(d.answer(france).find("Paris"), std::string::npos);
    deaf.close();
    // Streaming to one that does not read: its decode pauses with the slot; the other takes the slot and finishes, then
    // the first goes on where it was.
    const json params = {{"prompt", "Say something."}, {"max", 120}, {"bias", endless()}};
    const std::string alone = d.answer("Say something.", params);
    Wire slow = d.connect();
    const int small = 1;
    setsockopt(slow.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    std::string request;
    for (int i = 1; i <= 4; i++) {
        json p = params;
        p["stream"] = true;
        request += json{{"jsonrpc", "2.0"}, {"id", i}, {"method", "gen"}, {"params", p}}.dump() + "\n";
    }
    slow.send(request);
    EXPECT_NE(d.answer(france).find("Paris"), std::string::npos);
    std::string texts[5];
    for (int finished = 0; finished < 4;) {
        const json l = slow.line();
        ASSERT_FALSE(l.is_null());
        if (l.contains("method"))
            texts[l["params"]["id"].get<int>()] += l["params"]["text"];
        else
            finished++;
    }
    for (int i = 1; i <= 4; i++) EXPECT_EQ(texts[i], alone);
}

TEST(Many, the_queue_is_bounded_and_tells_the_place) {
    Daemon d({.arguments = {"--slots", "1", "--queue", "2"}, .environment = slow_engine()});
    const std::string ask = std::string("AT#GEN=\"") + france + "\"\r";
    Wire first = d.connect(), second = d.connect(), third = d.connect();
    generate_long(d);
    first.send(ask);
    first.until("#Q: 1\r\n");
    second.send(ask);
    second.until("#Q: 2\r\n");
    EXPECT_EQ(third.call("gen", {{"prompt", "x"}})["error"]["code"], 262);
    d.tty.send("\x1b");
    for (Wire* w : {&first, &second}) EXPECT_NE(tokens_of(w->until("\r\nOK\r\n")).find("Paris"), std::string::npos);
    wait_until_idle(d);
}

TEST(Many, more_clients_than_places_are_told) {
    Daemon d({.arguments = {"--clients", "3"}});
    Wire a = d.connect(), b = d.connect();
    a.call("stat"), b.call("stat");
    Wire c = d.connect();
    EXPECT_EQ(c.until("\r\n"), "+CME ERROR: 262\r\n");
    a.close();
    for (int i = 0; i < 500; i++) {
        Wire again = d.connect();
        again.send("AT\r");
        if (again.some().find("OK") != std::string::npos) return;
        usleep(5000);
    }
    FAIL() << "a place that was left is not given again";
}

TEST(Ends, cancel_deadline_and_a_closed_socket) {
    Daemon d({.arguments = {"--slots", "1"}});
    const json params = {{"prompt", "Say something."}, {"max", 200}, {"bias", endless()}, {"stream", true}};
    Wire w = d.connect();
    json r;
    for (int tries = 0; tries < 20 && !r.contains("error"); tries++) {  // on a busy machine it may be done before
        w.send(json{{"jsonrpc", "2.0"}, {"id", 7}, {"method", "gen"}, {"params", params}}.dump() + "\n");
        w.line();
        w.send(R"({"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":7}})"
               "\n");
        r = w.reply(7);
    }
    EXPECT_EQ(r["error"]["code"], -32800);
    EXPECT_GT(r["error"]["data"]["tokens"], 0);
    json soon = params;
    soon["deadline_ms"] = 1;
    const json late = w.call("gen", soon);
    EXPECT_TRUE(late.contains("error") ? late["error"]["code"] == 264 : late["result"]["finish"] == "deadline") << late;
    w.send(json{{"jsonrpc", "2.0"}, {"id", 8}, {"method", "gen"}, {"params", params}}.dump() + "\n");
    w.line();
    w.close();
    wait_until_idle(d);
    EXPECT_NE(d.answer(france).find("Paris"), std::string::npos);
}

TEST(Ends, stop_texts_and_length) {
    Daemon d;
    const std::string whole = d.answer(france);
    const std::string stop = whole.substr(whole.size() / 2, 3);
    EXPECT_EQ(d.answer(france, {{"stop", stop}}), whole.substr(0, whole.find(stop)));
    EXPECT_EQ(d.answer(france, {{"stop", {"never there", stop}}}), whole.substr(0, whole.find(stop)));
    Wire w = d.connect();
    const json r = w.call("gen", {{"prompt", france}, {"max", 2}});
    EXPECT_EQ(r["result"]["finish"], "length");
    EXPECT_EQ(r["result"]["tokens"], 2);
    EXPECT_EQ(whole.rfind(r["result"]["text"].get<std::string>(), 0), 0u);
    EXPECT_EQ(w.call("gen", {{"prompt", std::string(4000, 'x')}})["error"]["code"], 263);
}

TEST(Ends, sigterm_in_the_middle_of_an_answer) {
    Daemon d({.environment = slow_engine()});
    const json params = {{"prompt", "Say something."}, {"max", 200}, {"bias", endless()}, {"stream", true}};
    generate_long(d);
    Wire w = d.connect();
    for (int id = 4; id <= 7; id++)
        w.send(json{{"jsonrpc", "2.0"}, {"id", id}, {"method", "gen"}, {"params", params}}.dump() + "\n");
    w.line();
    kill(d.pid(), SIGTERM);
    const json r = w.reply(7);
    EXPECT_TRUE(r.contains("error") && r["error"]["code"] == 269) << r;
    const std::string rest = d.tty.until("\r\n+CME ERROR: 269\r\n");
    EXPECT_NE(rest.size(), 0u);
    EXPECT_EQ(d.wait(), 0) << slurp(d.log);
    EXPECT_NE(access(d.socket.c_str(), F_OK), 0) << "the socket file stays behind";
}

TEST(Noise, random_bytes_on_both_wires) {
    Daemon d;
    std::mt19937 random(5);
    for (int round = 0; round < 30; round++) {
        std::string s(500, 0);
        for (char& c : s) c = static_cast<char>(random());
        Wire w = d.connect();
        fcntl(w.fd(), F_SETFL, fcntl(w.fd(), F_GETFL) | O_NONBLOCK);
        (void)!write(w.fd(), s.data(), s.size());
        (void)!write(d.tty.fd(), s.data(), 200);
        while (!d.tty.some(5).empty()) {
        }
    }
    d.tty.send("\x1a\x1b\r");
    d.tty.send("ATZ\r");
    while (!d.tty.some(300).empty()) {
    }
    for (int i = 0; i < 20; i++) {
        d.tty.send("\x1b\rATZ\r");
        if (d.tty.some(300).find("OK") != std::string::npos) break;
    }
    while (!d.tty.some(300).empty()) {
    }
    d.tty.send(std::string("AT#CRC=0\r"));
    d.tty.until("OK\r\n");
    d.tty.send(std::string("AT#GEN=\"") + france + "\"\r");
    EXPECT_NE(tokens_of(d.tty.until("\r\nOK\r\n")).find("Paris"), std::string::npos);
}

TEST(Start, notification_watchdog_and_stopping) {
    const std::string path = folder() + "/notify";
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    path.copy(a.sun_path, sizeof a.sun_path - 1);
    ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
    Daemon d({.environment = {"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=90000"}});
    const auto next = [&] {
        pollfd p{fd, POLLIN, 0};
        char b[512];
        if (poll(&p, 1, patience_ms) <= 0) return std::string();
        const ssize_t n = recv(fd, b, sizeof b, 0);
        return std::string(b, static_cast<std::size_t>(n > 0 ? n : 0));
    };
    const auto seek = [&](const std::string& what) {
        for (std::string s = next(); !s.empty(); s = next())
            if (s.find(what) != std::string::npos) return true;
        return false;
    };
    EXPECT_TRUE(seek("READY=1"));
    EXPECT_TRUE(seek("WATCHDOG=1"));
    EXPECT_TRUE(seek("WATCHDOG=1"));
    EXPECT_EQ(d.stop(), 0);
    EXPECT_TRUE(seek("STOPPING=1"));
    close(fd);
}

TEST(Start, a_socket_handed_over_by_systemd) {
    const std::string path = folder() + "/handed";
    const Ran r = shell("command -v systemd-socket-activate");
    if (r.code != 0) GTEST_SKIP() << "systemd-socket-activate is not installed";
    const pid_t pid = fork();
    if (pid == 0) {
        const int null = open("/dev/null", O_RDWR);
        dup2(null, 0), dup2(null, 1), dup2(null, 2);
        execlp("systemd-socket-activate", "systemd-socket-activate", "-l", path.c_str(), slmd_path().c_str(), "--model",
               tiny_image().c_str(), nullptr);
        _exit(127);
    }
    std::string got;
    for (int i = 0; i < 1000 && got.empty(); i++) {
        const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_un a{};
        a.sun_family = AF_UNIX;
        path.copy(a.sun_path, sizeof a.sun_path - 1);
        Wire w(fd);
        if (connect(fd, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0) {
            usleep(10'000);
            continue;
        }
        w.send("AT\r");
        got = w.some(10000);
    }
    EXPECT_EQ(got, "\r\nOK\r\n");
    kill(pid, SIGTERM);
    int status;
    waitpid(pid, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(Start, the_socket_file) {
    {
        Daemon d;
        const Ran second = shell(slmd_path() + " --model " + tiny_image() + " --socket " + d.socket);
        EXPECT_EQ(second.code, 1);
        EXPECT_NE(second.err.find("another slmd answers there"), std::string::npos) << second.err;
        EXPECT_NE(d.answer(france).find("Paris"), std::string::npos);
        struct stat st;
        ASSERT_EQ(stat(d.socket.c_str(), &st), 0);
        EXPECT_EQ(st.st_mode & 0777, 0660u);
        kill(d.pid(), SIGKILL);  // leaves its file
        d.wait();
        EXPECT_EQ(access(d.socket.c_str(), F_OK), 0);
        const pid_t pid = fork();
        if (pid == 0) {
            execl(slmd_path().c_str(), "slmd", "--model", tiny_image().c_str(), "--socket", d.socket.c_str(), nullptr);
            _exit(127);
        }
        Ran r{1, "", ""};
        for (int i = 0; i < 500 && r.code != 0; i++)
            usleep(10'000), r = shell(slmctl_path() + " -s " + d.socket + " status");
        EXPECT_EQ(r.code, 0) << r.err;
        kill(pid, SIGTERM);
        waitpid(pid, nullptr, 0);
    }
    const std::string file = folder() + "/precious";
    std::ofstream(file) << "data";
    const Ran r = shell(slmd_path() + " --model " + tiny_image() + " --socket " + file);
    EXPECT_EQ(r.code, 1);
    EXPECT_NE(r.err.find("not a socket"), std::string::npos) << r.err;
    EXPECT_EQ(slurp(file), "data");
}

TEST(Start, what_is_wrong_is_said_with_its_place) {
    const struct {
        const char *text, *expected;
        int code;
    } cases[] = {// too long a list for the folders before the file's name
                 {"modle = \"x\"\n", " slmd.toml:1: unknown key \"modle\"; known: model, ", 78},
                 {"modle = \"x\"\n", " [[output]]\n", 78},
                 {"model = 3\n", ":1: model is a text", 78},
                 {"\n[engine]\nslots = 99\n", ":3: slots = 99: use 1 to 16", 78},
                 {"[engine]\nslots = \"2\"\n", ":2: slots is a whole number", 78},
                 {"[engine]\nspeed = 1\n", ":2: unknown key \"speed\"", 78},
                 {"[[tty]]\nbaud = 9600\n", ":1: this [[tty]] has no path", 78},
                 {"[[tty]]\npath = \"/dev/x\"\nbaud = 12345\n", ":3: baud is a standard rate", 78},
                 {"[socket]\npath = \"/tmp/x\"\nmode = \"0999\"\n", ":3: mode is an octal text", 78},
                 {"[generate]\ntemp = 7\n", ":2: temp is a number from 0 to 2", 78},
                 {"[generate]\ntempo = 7\n", ":2: unknown key \"tempo\"", 78},
                 {"engine = 3\n", ":1: engine is a table", 78},
                 {"tty = \"/dev/x\"\n", ":1: tty is a list", 78},
                 {"model = \n", ":1:", 78},
                 {"[socket]\npath = \"/tmp/x\"\n", "no model", 78},
                 {"model = \"x\"\n", "no wire", 78},
                 {"model = \"/nowhere/x.slm\"\n[socket]\npath=\"/tmp/x\"\n", "/nowhere/x.slm", 1}};
    const std::string file = folder() + "/slmd.toml";
    for (const auto& c : cases) {
        std::ofstream(file) << c.text;
        const Ran r = shell(slmd_path() + " --config " + file);
        EXPECT_EQ(r.code, c.code) << c.text << r.err;
        EXPECT_NE(r.err.find(c.expected[0] == ':' ? file + c.expected : c.expected), std::string::npos)
            << c.text << "-> " << r.err;
    }
    EXPECT_EQ(shell(slmd_path() + " --nonsense").code, 64);
    EXPECT_EQ(shell(slmd_path() + " stray").code, 64);
    Ran r = shell(slmd_path() + " --model " + tiny_image() + " --tty /dev/nowhere@9600");
    EXPECT_EQ(r.code, 1);
    EXPECT_NE(r.err.find("/dev/nowhere: cannot open"), std::string::npos) << r.err;
    r = shell(slmd_path() + " --model " + tiny_image() + " --tty /dev/null");
    EXPECT_NE(r.err.find("not a terminal"), std::string::npos) << r.err;
    r = shell(slmd_path() + " --model " + tiny_image() + " --tty /dev/x@300");
    EXPECT_EQ(r.code, 78);
    // a damaged image: named, and a clean end
    std::string image = slurp(tiny_image());
    image[image.size() / 2] = static_cast<char>(image[image.size() / 2] ^ 4);
    const std::string bad = folder() + "/bad.slm";
    std::ofstream(bad, std::ios::binary) << image;
    r = shell(slmd_path() + " --model " + bad + " --socket " + folder() + "/bad.sock");
    EXPECT_EQ(r.code, 1);
    EXPECT_NE(r.err.find("slmd: "), std::string::npos);
    EXPECT_GT(r.err.size(), 30u) << r.err;
}

// Everything that can be known without starting, each with the line that says it.
TEST(Check, what_is_wrong_is_found_without_starting) {
    const std::string dir = folder() + "/check", file = dir + "/slmd.toml";
    std::filesystem::create_directory(dir);
    std::ofstream(dir + "/damaged.slm") << "not an image";
    std::ofstream(dir + "/plain") << "x";
    const std::string model = "model = \"" + tiny_image() + "\"\n", wire = "[socket]\npath = \"" + dir + "/s\"\n";
    const struct {
        std::string text, expected;
    } cases[] = {
        {"model = \"/nowhere/x.slm\"\n" + wire, ":1: model /nowhere/x.slm: No such file"},
        {"\nmodel = \"" + dir + "/damaged.slm\"\n" + wire, ":2: model " + dir + "/damaged.slm: not a model image"},
        {model + wire + "[engine]\ndraft_model = \"/nowhere/y.slm\"\n", ":5: draft model /nowhere/y.slm: No such"},
        {model + wire + "[engine]\nlevel = \"sse9\"\n", ":5: level \"sse9\" is not available"},
        {model + wire + "[engine]\nslots = 16\ncontext = 1048576\n", ": "},
        {model + "[socket]\npath = \"/nowhere/s\"\n", ":3: socket /nowhere/s: cannot write in /nowhere: No such"},
        {model + "[socket]\npath = \"" + dir + "/plain\"\n", ":3: socket " + dir + "/plain: there is a file"},
        {model + wire + "group = \"nobody-has-this\"\n", ":4: no group \"nobody-has-this\"; groupadd"},
        {model + "[[tty]]\nbaud = 9600\npath = \"/dev/nowhere\"\n", ":4: serial line /dev/nowhere: No such file"},
        {model + "[[tty]]\npath = \"" + dir + "/plain\"\n", ":3: serial line " + dir + "/plain: not a device"},
        {wire, ": no model: give"},
        {model + wire + "[[tty]]\npath = \"/dev/null\"\n[limits]\nclients = 1\n", ": clients = 1, and 1 serial"},
        {model + wire + "[limits]\nclientz = 1\n", ":5: unknown key \"clientz\""},
        {model + wire + "mode = \n", ":4: "}};
    for (const auto& c : cases) {
        std::ofstream(file) << c.text;
        const Ran r = shell(slmd_path() + " --config " + file + " --check-config");
        EXPECT_EQ(r.code, 78) << c.text << r.err;
        EXPECT_EQ(r.err.rfind(file + c.expected, 0), 0u) << c.text << "-> " << r.err;
        EXPECT_EQ(std::count(r.err.begin(), r.err.end(), '\n'), 1) << r.err;
        EXPECT_EQ(r.out, "");
    }
    EXPECT_EQ(shell(slmd_path() + " --check-config --nonsense").code, 64);
    // options have no line, whatever the file says
    std::ofstream(file) << model + wire;
    Ran r = shell(slmd_path() + " --check-config --config " + file + " --model /nowhere/z.slm");
    EXPECT_EQ(r.code, 78);
    EXPECT_EQ(r.err.rfind(file + ": model /nowhere/z.slm", 0), 0u) << r.err;
    // what is right
    if (getuid() == 0) {  // a socket that systemd made, in a folder of root's
        const std::string closed = folder() + "/closed", path = closed + "/s";
        std::filesystem::create_directory(closed);
        std::filesystem::permissions(folder(), std::filesystem::perms(0755));
        const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_un a{};
        a.sun_family = AF_UNIX;
        path.copy(a.sun_path, sizeof a.sun_path - 1);
        ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
        for (const bool exists : {true, false}) {
            if (!exists) unlink(path.c_str());
            const pid_t pid = fork();
            if (pid == 0) {
                if (setgid(65534) != 0 || setuid(65534) != 0) _exit(126);
                execl(slmd_path().c_str(), "slmd", "--check-config", "--model", tiny_image().c_str(), "--socket",
                      path.c_str(), nullptr);
                _exit(127);
            }
            int status;
            waitpid(pid, &status, 0);
            if (WEXITSTATUS(status) == 127) break;  // this build lies where only root can go
            EXPECT_EQ(WEXITSTATUS(status), exists ? 0 : 78);
        }
        close(fd);
    }
    EXPECT_NE(shell(slmd_path() + " --check-config --config /nowhere.toml").err.find("/nowhere.toml: No such file"),
              std::string::npos);
    EXPECT_NE(shell(slmd_path() + " --check-config --config " + dir).err.find("a folder, not a file"),
              std::string::npos);
    r = shell(slmd_path() + " --check-config --config " + file + " --tty /dev/null@9600 --state /proc/nowhere");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out.rfind(tiny_image() + ": 2 slots of ", 0), 0u) << r.out;
    for (const std::string& part : {dir + "/s", std::string("/dev/null@9600"), std::string("/proc/nowhere: No such")})
        EXPECT_NE(r.out.find(part), std::string::npos) << part << " in " << r.out;
    EXPECT_EQ(std::count(r.out.begin(), r.out.end(), '\n'), 1);
    EXPECT_FALSE(std::filesystem::exists(dir + "/s"));
    // sockets that systemd hands over are not there when the check is run
    std::ofstream(file) << model;
    EXPECT_EQ(shell(slmd_path() + " --check-config --config " + file).code, 0);
}

// What the unit's limit must leave room for: more than the plan, and more than slmd ever held while it loaded.
TEST(Check, memory_max_follows_the_plan) {
    const std::string base = " --model " + tiny_image() + " --threads 2";
    const auto bytes = [&](const std::string& options) {
        const Ran limit = shell(slmd_path() + base + options + " --memory-max"),
                  plan = shell(slmd_path() + base + options + " --plan");
        EXPECT_EQ(limit.code, 0) << limit.err;
        EXPECT_EQ(limit.out, std::to_string(std::stoull(limit.out)) + "\n");
        const std::size_t total = plan.out.rfind('\n', plan.out.find("  total"));
        return std::pair{std::stoull(limit.out), std::stoull(plan.out.substr(total))};
    };
    const auto [limit, plan] = bytes("");
    const auto [larger, larger_plan] = bytes(" --slots 4");
    ASSERT_GT(larger_plan, plan);
    EXPECT_EQ(larger - limit, larger_plan - plan + (larger_plan / 256 - plan / 256));
    EXPECT_GT(limit, plan + (16u << 20));
    EXPECT_NE(shell(slmd_path() + " --memory-max --model /nowhere/x.slm").code, 0);
    Daemon d({.arguments = {"--threads", "2"}});
    EXPECT_FALSE(d.answer(france).empty());
    std::ifstream status("/proc/" + std::to_string(d.pid()) + "/status");
    std::uint64_t peak = 0;
    for (std::string l; std::getline(status, l);)
        if (l.rfind("VmHWM:", 0) == 0) peak = std::stoull(l.substr(6)) << 10;
    EXPECT_GT(peak, 0u);
#if !defined(SLMD_SANITIZED)
    EXPECT_LT(peak, limit);
#endif
}

// A drafter changes no answer; one that reads other tokens is refused.
TEST(Start, a_draft_model) {
    const json params = {{"max", 60}, {"bias", endless()}, {"temp", 0.7}, {"seed", 5}};
    std::string alone;
    {
        Daemon d;
        alone = d.answer("Say something.", params);
    }
    Daemon d({.arguments = {"--draft-model", tiny_image()}});
    EXPECT_EQ(d.answer("Say something.", params), alone);
    EXPECT_EQ(d.answer("Say something.", params), alone);
    Wire w = d.connect();
    const json plan = w.call("plan")["result"]["items"];
    EXPECT_TRUE(
        std::any_of(plan.begin(), plan.end(), [](const json& i) { return i["name"] == "draft model: KV cache"; }));
    EXPECT_EQ(shell(slmd_path() + " --model " + tiny_image() + " --draft-model /nowhere/x.slm --socket /tmp/x").code,
              1);
    const std::string source = SLMD_SHARED "/models/stories260K/stories260K.bin", other = folder() + "/other.slm";
    if (!std::filesystem::exists(source)) GTEST_SKIP() << "needs " << source << ", a model with another tokenizer";
    ASSERT_EQ(shell(std::string(SLMD_BUILD) + "/slmpack import " + source + " -o " + other).code, 0);
    const Ran r = shell(slmd_path() + " --model " + tiny_image() + " --draft-model " + other + " --socket " + folder() +
                        "/draft.sock");
    EXPECT_EQ(r.code, 1);
    EXPECT_NE(r.err.find("its tokenizer is not that of"), std::string::npos) << r.err;
}

// Thread counts are measured at the first start and read at the next; what cannot be read or written costs that only.
TEST(Start, thread_counts_are_measured_once) {
    const std::string state = folder() + "/state", file = state + "/threads";
    std::filesystem::create_directory(state);
    std::string measured;
    {
        Daemon d({.arguments = {"--state", state}});
        measured = slurp(file);
        EXPECT_NE(measured.find("model \"tiny\" of "), std::string::npos) << measured;
        EXPECT_NE(d.answer(france).find("Paris"), std::string::npos);
    }
    const auto written = std::filesystem::last_write_time(file);
    { Daemon d({.environment = {"STATE_DIRECTORY=" + state + ":/other"}}); }
    EXPECT_EQ(std::filesystem::last_write_time(file), written);
    EXPECT_EQ(slurp(file), measured);
    std::ofstream(file) << "model \"another\"\n";
    { Daemon d({.arguments = {"--state", state}}); }
    EXPECT_NE(slurp(file).find("model \"tiny\" of "), std::string::npos);
    Daemon d({.arguments = {"--state", "/proc/nowhere"}});
    EXPECT_NE(d.answer(france).find("Paris"), std::string::npos);
    EXPECT_NE(slurp(d.log).find("measured at each start"), std::string::npos) << slurp(d.log);
}

// Flash is small: what an update of slmd costs, besides shared libraries.
TEST(Start, the_program_is_small) {
#if defined(SLMD_SANITIZED)
    GTEST_SKIP() << "sanitizers make it larger";
#endif
    const std::string stripped = folder() + "/slmd-stripped";
    ASSERT_EQ(shell("strip -o " + stripped + " " + slmd_path()).code, 0);
    EXPECT_LT(std::filesystem::file_size(stripped), 1'350'000u);
}

TEST(Start, a_complete_configuration) {
    const std::string file = folder() + "/good.toml", sock = folder() + "/good.sock";
    std::ofstream(file)
        << "model = \"" << tiny_image() << "\"\nstate = \"" << folder()
        << "\"\n[engine]\ncontext = 128\nslots = 1\nthreads = 1\ndecode_threads = 1\nbatch = 8\ndraft = 2\ndraft_model "
           "= \""
        << tiny_image()
        << "\"\nlevel = \"scalar\"\n[socket]\npath = "
           "\"/nowhere/x\"\nmode = \"0600\"\n"
           "[limits]\nclients = 4\nqueue = 2\n[generate]\nmax = 3\ntemp = 0.5\nseed = 9\nstop = [\"x\"]\n";
    Daemon d({.arguments = {"--config", file}});  // --socket and --model override
    Wire w = d.connect();
    const json set = w.call("set")["result"];
    EXPECT_EQ(set["max"], 3);
    EXPECT_EQ(set["temp"], 0.5);
    EXPECT_EQ(set["stop"], json::array({"x"}));
    EXPECT_EQ(w.call("ctx")["result"]["context"], 128);
    EXPECT_NE(slurp(d.log).find("1 slots of 128 tokens, 1 threads, level scalar"), std::string::npos) << slurp(d.log);
}

// What obeys a grammar obeys it drawn at random, cut short, streamed, on both wires, and beside others.
TEST(Bound, answers_obey_their_schema_whatever_is_drawn) {
    Daemon d({.arguments = {"--slots", "2"}});
    const json schema = {
        {"type", "object"},
        {"properties",
         {{"city", {{"enum", {"Paris", "Rome", "New York"}}}},
          {"people", {{"type", "integer"}, {"minimum", 0}, {"maximum", 99}}},
          {"tags", {{"type", "array"}, {"items", {{"type", "string"}, {"maxLength", 6}}}, {"maxItems", 3}}}}},
        {"required", {"city", "people"}},
        {"additionalProperties", false}};
    Wire w = d.connect();
    int cut = 0, whole = 0;
    for (int i = 0; i < 40; i++) {
        const json r = w.call("gen", {{"prompt", france},
                                      {"schema", i % 2 ? json(schema.dump()) : schema},
                                      {"temp", 1.5},
                                      {"topp", 1},
                                      {"seed", i},
                                      {"max", 40 + i % 50}})["result"];
        ASSERT_TRUE(r.contains("text")) << r.dump();
        const json v = json::parse(std::string(r["text"]));
        EXPECT_TRUE(v["city"] == "Paris" || v["city"] == "Rome" || v["city"] == "New York") << v.dump();
        EXPECT_TRUE(v["people"].is_number_integer() && v["people"] >= 0 && v["people"] <= 99) << v.dump();
        EXPECT_LE(v.size(), 3u);
        EXPECT_LE(int(r["tokens"]), 40 + i % 50);
        (r["finish"] == "length" ? cut : whole)++;
    }
    EXPECT_GT(whole, 5);
    std::printf("%d whole, %d cut short\n", whole, cut);
    // Greedy, the model knows which.
    const std::string expected = d.answer(france, {{"schema", {{"enum", {"Paris", "Rome", "New York"}}}}});
    EXPECT_EQ(expected, "\"Paris\"");
    d.tty.send(std::string("AT#GEN=\"") + france + R"(",20,"{\"enum\":[\"Paris\",\"Rome\"]}")" + "\r");
    EXPECT_EQ(tokens_of(d.tty.until("\r\nOK\r\n")), expected);
    EXPECT_EQ(d.answer(france, {{"regex", "[0-9]{4}-[0-9]{2}"}, {"temp", 1}}).size(), 7u);
    // In one conversation with what binds nothing.
    w.call("chat", {{"prompt", france}});
    EXPECT_EQ(
        w.call("chat", {{"prompt", "And what is the capital of Italy?"}, {"regex", "(Rome|Paris)!"}})["result"]["text"]
            .get<std::string>()
            .back(),
        '!');
}

// Values that have to stand in the text do, however they are drawn.
TEST(Bound, values_from_the_source_stand_in_it) {
    Daemon d;
    Wire w = d.connect();
    const json schema = {
        {"type", "object"},
        {"properties",
         {{"what", {{"type", "string"}, {"from", "source"}, {"minLength", 1}, {"maxLength", 20}}},
          {"number", {{"type", {"string", "array"}}, {"maxItems", 0}, {"from", "source"}, {"pattern", "^[0-9]+$"}}}}},
        {"required", {"what", "number"}},
        {"additionalProperties", false}};
    const std::string text = "Order 4711: two \"pumps\" for \xC3\x89pernay,\nby Friday";
    std::set<json> numbers;
    for (int i = 0; i < 30; i++) {
        json params = {{"prompt", "What is ordered? " + text},
                       {"schema", schema},
                       {"temp", 1.5},
                       {"topp", 1},
                       {"seed", i},
                       {"max", 20 + 2 * i}};
        if (i % 2) params["source"] = text;
        const json r = w.call("gen", params)["result"];
        ASSERT_TRUE(r.contains("text")) << r.dump();
        const json said = json::parse(std::string(r["text"]));
        numbers.insert(said.at("number"));
        const std::string what = said.at("what");
        EXPECT_NE((i % 2 ? text : std::string(params["prompt"])).find(what), std::string::npos) << what;
        EXPECT_FALSE(what.empty());
    }
    EXPECT_EQ(numbers, (std::set<json>{json::array(), "4711"}));
}

// Whatever is drawn, it is an answer in words or calls of what there is, with arguments as described.
TEST(Bound, tools_are_called_as_they_are_described) {
    Daemon d({.image = roomy_image()});
    Wire w = d.connect();
    const json tools = {
        {{"type", "function"},
         {"function",
          {{"name", "switch"},
           {"description", "Switches a relay"},
           {"parameters",
            {{"type", "object"},
             {"properties",
              {{"relay", {{"type", "integer"}, {"minimum", 1}, {"maximum", 8}}}, {"on", {{"type", "boolean"}}}}},
             {"required", {"relay", "on"}}}}}}},
        {{"name", "beep"}}};
    // Of "text" nothing can begin: it could answer in words, and calls.
    const json vocabulary =
        json::parse(slurp(std::string(SLMD_SOURCE) + "/models/tiny/tokenizer.json"))["model"]["vocab"];
    std::string no_words;
    for (const char* begins : {"t", "te"}) no_words += std::to_string(vocabulary.at(begins).get<int>()) + ":-100,";
    no_words.pop_back();
    int called = 0, said = 0;
    for (int i = 0; i < 40; i++) {
        json params = {{"prompt", "Switch relay 2 on."},
                       {"tools", tools},
                       {"temp", 1.5},
                       {"topp", 1},
                       {"seed", i},
                       {"max", 60 + i}};
        if (i % 4 == 1) params["tool_choice"] = "required";
        if (i % 4 == 2) params["bias"] = no_words;
        const json reply = w.call(i == 3 ? "chat" : "gen", params);
        ASSERT_TRUE(reply.contains("result")) << reply.dump();
        const json r = reply["result"];
        if (r.contains("text")) {
            EXPECT_FALSE(params.contains("tool_choice")) << reply.dump();
            said++;
            continue;
        }
        ASSERT_TRUE(r.contains("calls")) << reply.dump();
        called++;
        for (const json& c : r["calls"]) {
            const json& a = c["arguments"];
            if (c["name"] == "beep")
                EXPECT_TRUE(a.empty()) << r.dump();
            else
                EXPECT_TRUE(c["name"] == "switch" && a.size() == 2 && a["relay"] >= 1 && a["relay"] <= 8 &&
                            a["on"].is_boolean())
                    << r.dump();
        }
    }
    EXPECT_GT(called, 10);
    std::printf("%d called, %d in words\n", called, said);
    EXPECT_TRUE(
        w.call("gen", {{"prompt", "x"}, {"tools", tools}, {"tool_choice", "none"}, {"max", 4}})["result"].contains(
            "text"));
    EXPECT_NE(std::string(
                  w.call("gen",
                         {{"prompt", "x"},
                          {"tools", json::array({{{"name", "f"}, {"parameters", {{"typ", 1}}}}})}})["error"]["message"])
                  .find("typ: this keyword is not supported"),
              std::string::npos);
    EXPECT_EQ(w.call("gen", {{"prompt", "x"}, {"tools", json::array()}})["error"]["message"],
              "tools is an array of functions");
    EXPECT_EQ(w.call("gen", {{"prompt", "x"}, {"tools", tools}, {"raw", 1}})["error"]["message"],
              "tools are told by the chat template: leave out raw");
}

TEST(Bound, what_cannot_be_obeyed_is_refused_with_its_place) {
    Daemon d;
    Wire w = d.connect();
    const auto error = [&](json params) {
        params["prompt"] = "x";
        const json r = w.call("gen", params);
        return r.contains("error") ? std::string(r["error"]["message"]) : "answered: " + r.dump();
    };
    EXPECT_EQ(error({{"schema", {{"properties", {{"a", {{"typ", "string"}}}}}}}}),
              "schema, #/properties/a/typ: this keyword is not supported");
    EXPECT_EQ(error({{"schema", "{\"type\":"}}).substr(0, 17), "JSON, column 9: a");
    EXPECT_EQ(error({{"schema", json::array({1})}}), "schema, #: a schema is an object or a boolean");
    EXPECT_EQ(error({{"regex", "(a"}}).substr(0, 7), "pattern");
    EXPECT_EQ(error({{"schema", json::object()}, {"regex", "a"}}), "either a schema or a regex or tools");
    EXPECT_EQ(error({{"schema", {{"type", "string"}}}, {"stop", "x"}}),
              "an answer under a schema ends by itself: leave out \"stop\"");
    EXPECT_EQ(error({{"schema", {{"type", "string"}, {"minLength", 30}}}, {"max", 5}}),
              "the shortest answer that the schema allows is longer than the 5 tokens of the limit");
    EXPECT_NE(error({{"schema", 5}}).find("schema"), std::string::npos);
    // The next one is answered as ever.
    EXPECT_EQ(d.answer(france, {{"regex", "yes"}}), "yes");
}

TEST(Slmctl, binds_answers) {
    Daemon d;
    const std::string on_socket = slmctl_path() + " -s " + d.socket, file = folder() + "/schema.json";
    std::ofstream(file) << "{\n  \"enum\": [\"Paris\", \"Rome\"]\n}\n";
    EXPECT_EQ(shell(on_socket + " --schema " + file + " ask '" + france + "'").out, "\"Paris\"\n");
    EXPECT_EQ(shell(on_socket + " --regex 'yes|no' ask 'Yes or no?'").out.size(),
              3u + (shell(on_socket + " --regex 'yes|no' ask 'Yes or no?'").out[0] == 'y'));
    EXPECT_EQ(shell(on_socket + " --schema /nowhere ask x").code, 64);
    std::ofstream(file) << "{\n  \"enum\": [\"Paris\",\n}";
    const Ran r = shell(on_socket + " --schema " + file + " ask x");
    EXPECT_EQ(r.code, 1);
    EXPECT_NE(r.err.find("JSON, line 3, column 1: not a JSON value"), std::string::npos) << r.err;
}

TEST(Slmctl, asks_on_both_wires) {
    Daemon d({.tty = true});
    const std::string expected = d.answer(france);
    const std::string on_socket = slmctl_path() + " -s " + d.socket;
    Ran r = shell(on_socket + " ask '" + france + "'");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out, expected + "\n");
    r = shell("echo '" + std::string(france) + "' | tr -d '\\n' | " + slmctl_path() + " -s " + d.socket + " ask -");
    EXPECT_EQ(r.out, expected + "\n") << r.err;
    r = shell("printf 'What is the capital of Italy?\\n" + std::string(france) + "\\n' | SLMD_SOCKET=" + d.socket +
              " " + slmctl_path() + " chat");
    EXPECT_EQ(r.code, 0);
    EXPECT_NE(r.out.find("Rome"), std::string::npos) << r.out;
    r = shell(on_socket + " status");
    EXPECT_NE(r.out.find("state idle\n"), std::string::npos) << r.out;
    const Ran running = shell(on_socket + " plan"), offline = shell(slmctl_path() + " --tty x plan " + tiny_image()),
              itself = shell(slmd_path() + " --plan --tty x --model " + tiny_image());
    EXPECT_EQ(running.code, 0);
    EXPECT_NE(running.out.find("KV cache"), std::string::npos);
    EXPECT_EQ(offline.code, 0) << offline.err;
    EXPECT_EQ(itself.out.substr(itself.out.find('\n') + 1), offline.out.substr(offline.out.find('\n') + 1));
    EXPECT_EQ(shell(slmctl_path() + " -s /nowhere ask x").code, 2);
    EXPECT_NE(shell(slmctl_path() + " -s /nowhere ask x").err.find("is slmd running? systemctl status slmd"),
              std::string::npos);
    EXPECT_EQ(shell(slmctl_path() + " frobnicate").code, 64);
    EXPECT_EQ(shell(on_socket + " --set temp=9 ask x").code, 64);
    EXPECT_EQ(shell(on_socket + " -n 3 ask '" + std::string(6000, 'x') + "'").code, 1);
    EXPECT_NE(shell(slmctl_path() + " help gen").out.find("AT#GEN"), std::string::npos);
}

TEST(Slmctl, classifies) {
    Daemon d;
    const std::string on_socket = slmctl_path() + " -s " + d.socket, paris = "The capital of France is Paris.";
    const std::string labels = " --label 'The capital of France is Rome.' --label '" + paris + "'";
    Ran r = shell(on_socket + labels + " classify '" + france + "'");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out.substr(0, paris.size() + 3), paris + "\t0.") << r.out;
    EXPECT_EQ(std::count(r.out.begin(), r.out.end(), '\n'), 1);
    const std::string file = folder() + "/labels";
    std::ofstream(file) << "The capital of France is Rome.\r\n\nThe capital of France is \xC3\xA9.\n" << paris;
    const Ran piped =
        shell("printf '" + std::string(france) + "' | " + on_socket + " --labels " + file + " --none --top 9 classify");
    EXPECT_EQ(piped.code, 0) << piped.err;
    EXPECT_EQ(std::count(piped.out.begin(), piped.out.end(), '\n'), 4) << piped.out;
    EXPECT_EQ(piped.out.substr(0, paris.size()), paris);
    EXPECT_NE(piped.out.find("\nnone\t"), std::string::npos);
    r = shell(on_socket + labels + " --json classify '" + france + "'");
    EXPECT_EQ(json::parse(r.out)["result"]["label"], paris) << r.out;
    EXPECT_EQ(shell(on_socket + " classify x").code, 64);
    EXPECT_EQ(shell(on_socket + " --label a classify x").code, 64);
    EXPECT_EQ(shell(on_socket + " --labels /nowhere classify x").code, 64);
    EXPECT_EQ(shell(on_socket + " --top 17 --label a --label b classify x").code, 64);
    r = shell(on_socket + " --label a --label a classify x");
    EXPECT_EQ(r.code, 1);
    EXPECT_NE(r.err.find("labels 1 and 2 are both \"a\""), std::string::npos) << r.err;
}

TEST(Slmctl, over_a_serial_line) {
    // Two ptys back to back: what slmctl opens, and slmd's; this thread is the cable.
    Daemon d;
    Wire mine(posix_openpt(O_RDWR | O_NOCTTY));
    grantpt(mine.fd());
    unlockpt(mine.fd());
    char name[64];
    ptsname_r(mine.fd(), name, sizeof name);
    const int keep = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    // Ends with the test, however that ends.
    std::jthread cable([&](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            if (const std::string s = mine.some(5); !s.empty()) d.tty.send(s);
            if (const std::string s = d.tty.some(5); !s.empty()) mine.send(s);
        }
    });
    const std::string expected = d.answer(france);
    Ran r = shell(slmctl_path() + " --tty " + name + "@9600 ask '" + france + "'");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out, expected + "\n");
    int exclusive = -1;  // root may open a line in any case, others only when it was given back
    EXPECT_EQ(ioctl(keep, TIOCGEXCL, &exclusive), 0);
    EXPECT_EQ(exclusive, 0);
    const std::string longer = std::string(france) + std::string(40, ' ') + "Please answer: " + std::string(80, '.') +
                               " what is the capital of France? " + std::string(40, ' ') + "Yes?";
    r = shell(slmctl_path() + " --tty " + name + " ask '" + longer + "'");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out, d.answer(longer) + "\n");
    r = shell(slmctl_path() + " --tty " + name + " plan");
    EXPECT_NE(r.out.find("total"), std::string::npos) << r.err;
    cable.request_stop();
    cable.join();
    ::close(keep);
}

// The request waits behind four others, so that it is there when the signal comes.
TEST(Slmctl, interrupting_it_ends_the_request) {
    Daemon d({.arguments = {"--slots", "1"}});
    Wire watcher = d.connect();
    // running and waiting together: the holder's, and one more
    const auto requests = [&] {
        const json s = watcher.call("stat")["result"];
        return s["queue"].get<int>() + (s["state"] == "busy");
    };
    // On a busy machine the holder's may be done before slmctl has asked.
    int most = 0, status = 0, left = 0;
    for (int tries = 0; tries < 20 && most < 5; tries++) {
        Wire holder = d.connect();
        const json params = {{"prompt", "Say something."}, {"max", 200}, {"bias", endless()}};
        for (int i = 1; i <= 4; i++)
            holder.send(json{{"jsonrpc", "2.0"}, {"id", i}, {"method", "gen"}, {"params", params}}.dump() + "\n");
        for (int i = 0; i < 200 && watcher.call("stat")["result"]["queue"] != 3; i++) usleep(1000);
        const pid_t pid = fork();
        if (pid == 0) {
            const int null = open("/dev/null", O_RDWR);
            dup2(null, 0), dup2(null, 1), dup2(null, 2);
            execl(slmctl_path().c_str(), "slmctl", "-s", d.socket.c_str(), "ask", france, nullptr);
            _exit(127);
        }
        for (int i = 0; i < 1000 && most < 5; i++) most = std::max(most, requests());
        kill(pid, SIGINT);
        waitpid(pid, &status, 0);
        left = requests();
        holder.close();
        wait_until_idle(d);
    }
    ASSERT_EQ(most, 5) << "the request did not come in time to wait";
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 130) << status;
    EXPECT_LT(left, 5);
}
