#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "base/bytes.h"
#include "fake_host.h"
#include "mcu.h"

using namespace slmd;
using namespace slmd::wire;
using nlohmann::json;

namespace {

std::string unescape(const std::string& s) {
    std::string r;
    for (std::size_t i = 0; i < s.size(); i++) {
        if (s[i] != '\\')
            r += s[i];
        else
            switch (s[++i]) {
                case 'r': r += '\r'; break;
                case 'n': r += '\n'; break;
                case 'b': r += '\b'; break;
                case 'x': r += static_cast<char>(std::stoi(s.substr(i + 1, 2), nullptr, 16)), i += 2; break;
                default: r += s[i];
            }
    }
    return r;
}

// Replaces each "*{}" by the check of what stands before it in its line.
std::string with_checks(std::string s) {
    for (std::size_t at = s.find("*{}"); at != std::string::npos; at = s.find("*{}")) {
        std::size_t begin = s.find_last_of("\r\n", at);
        begin = begin == std::string::npos ? 0 : begin + 1;
        char check[8];
        std::snprintf(check, sizeof check, "*%04X", crc16_xmodem(std::string_view(s).substr(begin, at - begin)));
        s.replace(at, 3, check);
    }
    return s;
}

void replay(const char* name, bool tty) {
    std::ifstream file(std::string(SLMD_TESTS) + "/transcripts/" + name);
    ASSERT_TRUE(file) << name;
    Bench bench(tty);
    std::string line, typed;
    int steps = 0;
    for (int n = 1; std::getline(file, line); n++) {
        if (line.starts_with("> ")) typed = with_checks(unescape(line.substr(2)));
        if (!line.starts_with("< ") && line != "<") continue;
        const std::string expected = with_checks(unescape(line.substr(std::min<std::size_t>(2, line.size()))));
        EXPECT_EQ(bench.say(typed), expected) << name << ":" << n;
        bench.now += 10;
        steps++;
    }
    EXPECT_GT(steps, 9);
}

std::string crc(const std::string& s) { return Mcu::checked(s); }

}  // namespace

TEST(Transcript, person) { replay("person.txt", true); }
TEST(Transcript, program) { replay("program.txt", false); }
TEST(Transcript, microcontroller) { replay("mcu.txt", true); }

TEST(Conformance, every_command_answers_its_test_form_and_refuses_bad_parameters) {
    int tested = 0;
    for (const Command& c : commands()) {
        if (c.name == nullptr || (c.name[0] != '+' && c.name[0] != '#')) continue;
        const std::string name = c.name;
        Bench b(true);
        b.say("ATE0\r");
        std::string r = b.say("AT" + name + "=?\r");
        EXPECT_TRUE(r.ends_with("\r\nOK\r\n")) << name << ": " << r;
        if (!c.params.empty()) {
            EXPECT_NE(r.find(name + ": "), std::string::npos) << r;
        }
        tested++;
        // too many parameters
        std::string many = "1";
        for (std::size_t i = 0; i < c.params.size() + 1; i++) many += ",1";
        EXPECT_NE(b.say("AT" + name + "=" + many + "\r")
                      .find((c.forms & slmd::wire::write) != 0 ? "+CME ERROR: 50" : "+CME ERROR: 4"),
                  std::string::npos)
            << name;
        // help names every parameter
        r = b.say("AT#HELP=\"" + name + "\"\r");
        for (const Param& p : c.params) EXPECT_NE(r.find(p.name), std::string::npos) << name;
        EXPECT_NE(r.find(c.example), std::string::npos);
        if ((c.forms & slmd::wire::write) == 0) continue;
        for (std::size_t i = 0; i < c.params.size(); i++) {
            const Param& p = c.params[i];
            std::string before;
            for (std::size_t k = 0; k < i; k++) before += c.params[k].type == ParamType::integer ? "1," : "\"a\",";
            std::vector<std::string> bad = {"x", "\"", "\"\\q\"", "1.", "--1", "\"a\"b", "1 2"};
            if (p.type == ParamType::integer) {
                bad.push_back("\"a\"");
                bad.push_back(std::to_string(static_cast<long long>(p.max) + 1));
                bad.push_back(std::to_string(static_cast<long long>(p.min) - 1));
                bad.push_back("0.5");
                bad.push_back("99999999999999999999999999999999999999999");
            }
            if (p.type == ParamType::text) bad.push_back("1");
            for (const std::string& v : bad) {
                r = b.say("AT" + name + "=" + before + v + "\r");
                EXPECT_NE(r.find("+CME ERROR: "), std::string::npos) << name << "=" << before << v << " -> " << r;
                EXPECT_EQ(r.find("OK"), std::string::npos) << name << "=" << before << v;
            }
        }
        EXPECT_TRUE(b.host.submitted.empty());
        EXPECT_EQ(b.host.live(), 0);
    }
    EXPECT_GT(tested, 12);
}

TEST(Conformance, every_example_runs) {
    for (const Command& c : commands()) {
        Bench b(true);
        const std::string r = b.say(std::string(c.verb == Verb::window ? "AT#CRC=1\r" : "") + "\x1b" +
                                    (c.verb == Verb::window ? crc(c.example) : c.example) + "\r");
        if (c.example[0] == '{') continue;
        EXPECT_EQ(r.find("ERROR"), std::string::npos) << c.example << " -> " << r;
        EXPECT_TRUE(r.find("OK") != std::string::npos || r.find("CONNECT") != std::string::npos ||
                    c.verb == Verb::quiet)
            << r;
    }
}

TEST(Documents, are_told_on_both_wires) {
    Bench b(true);
    b.say("ATE0\rAT+CMEE=2\r");
    EXPECT_EQ(b.say("AT#DOCS?\r"),
              "\r\n#DOCS: 12,11,1000,1,\"a \\\"b\\\".md\"\r\n#DOCS: 1,0,5,0,\"c.md\"\r\n\r\nOK\r\n");
    b.say("AT#DOCS=\"c\"\r");
    EXPECT_EQ(b.host.last_documents, "c||0|0|last");
    const std::string found = b.say("AT#FIND=\"oil\",2,\"words\"\r");
    EXPECT_EQ(b.host.last_documents, "|words|2|0|last");
    EXPECT_TRUE(found.starts_with("\r\n#FIND: 7,10,20,0.75,\"a \\\"b\\\".md\",\"He said \\\"no\\\".\\nxxx")) << found;
    EXPECT_NE(found.find("\r\n#FIND: 9,0,5,0.5,\"c.md\",\"short\"\r\n"), std::string::npos) << found;
    EXPECT_EQ(b.say("AT#ASK=\"When?\"\r"),
              "\r\n#TOK: \"12 \"\r\n#TOK: \"May\"\r\n#CITE: 7,10,20,\"a \\\"b\\\".md\"\r\n#ASK: "
              "1,\"\",9,11,1120\r\n\r\nOK\r\n");
    EXPECT_EQ(b.say("AT#ASK=\"nothing\"\r"), "\r\n#ASK: 0,\"nothing was found\",9,11,1120\r\n\r\nOK\r\n");
    EXPECT_NE(b.say("AT#FIND=\"oil\",2,\"luck\"\r").find("+CME ERROR: incorrect parameters: by is"), std::string::npos);

    Bench j(false), untrusted(false, 4096, false);
    const auto call = [](Bench& to, const char* method, const json& params) {
        return json::parse(
            to.say(json{{"jsonrpc", "2.0"}, {"id", 1}, {"method", method}, {"params", params}}.dump() + "\n"));
    };
    const json hits = call(j, "docs.search", {{"query", "oil"}})["result"];
    EXPECT_EQ(hits["passages"][0]["text"], "He said \"no\".\n" + std::string(1400, 'x'));
    EXPECT_EQ(hits["passages"][0]["document"], "a \"b\".md");
    EXPECT_EQ(hits["passages"][1], (json{{"passage", 9},
                                         {"document", "c.md"},
                                         {"begin", 0},
                                         {"end", 5},
                                         {"score", 0.015625},
                                         {"coverage", 0.5},
                                         {"words", 0},
                                         {"meaning", 1},
                                         {"heading", ""},
                                         {"text", "short"}}));
    const json list = call(j, "docs", json::object())["result"];
    EXPECT_EQ(list["all"], 2);
    EXPECT_EQ(
        list["documents"][1],
        (json{{"name", "c.md"}, {"passages", 1}, {"embedded", 0}, {"bytes", 5}, {"whole", false}, {"sha256", "1f"}}));
    json answer = call(j, "ask", {{"question", "When?"}, {"top", 2}})["result"];
    EXPECT_EQ(j.host.last_documents, "|both|2|0|last");
    EXPECT_EQ(answer["answer"], "12 May");
    EXPECT_EQ(answer["citations"][0]["passage"], 7);
    EXPECT_EQ(answer["citations"][0]["quote"].get<std::string>().size(), 1414u);
    answer = call(j, "ask", {{"question", "nothing"}})["result"];
    EXPECT_EQ(answer["answer"], nullptr);
    EXPECT_EQ(answer["why"], "nothing was found");
    EXPECT_TRUE(answer["citations"].empty());
    const json one = {{"name", "n"},           {"sha256", std::string(64, 'a')}, {"bytes", 9}, {"texts", {"x", "y"}},
                      {"headings", {"h", ""}}, {"spans", {0, 1, 2, 3}},          {"part", 4},  {"last", false}};
    EXPECT_TRUE(call(j, "docs.add", one).contains("result"));
    EXPECT_EQ(j.host.last_documents, "n||0|4|more|h:x@0-1|:y@2-3");
    EXPECT_EQ(call(untrusted, "docs.add", one)["error"]["code"], 268);
    EXPECT_EQ(call(untrusted, "docs.remove", {{"name", "n"}})["error"]["code"], 268);
    EXPECT_TRUE(call(untrusted, "docs", json::object()).contains("result"));
    json wrong = one;
    wrong["spans"] = {0, 1, 2};
    EXPECT_EQ(call(j, "docs.add", wrong)["error"]["code"], -32602);
}

TEST(Hardware, is_shown_and_driven_on_trusted_ports_only) {
    Bench b(true), u(true, 4096, false);
    b.say("ATE0\r"), u.say("ATE0\r");
    EXPECT_EQ(b.say("AT#HW?\r"),
              "\r\n#HW: \"board\",\"pi-5\"\r\n#HW: \"temperature\",61.5,77\r\n#HW: \"admit\",1\r\n\r\nOK\r\n");
    EXPECT_EQ(b.say("AT#GPIO?\r"), "\r\n#GPIO: \"relay\",\"out\",1\r\n#GPIO: \"door\",\"trigger\",\r\n\r\nOK\r\n");
    EXPECT_EQ(b.say("AT#GPIO=\"relay\",1,250\r"), "\r\nOK\r\n");
    EXPECT_EQ(b.say("AT#GPIO=\"relay\",0\r"), "\r\nOK\r\n");
    EXPECT_EQ(b.say("AT#GPIO=\"relay\"\r"), "\r\n+CME ERROR: 50\r\n");
    EXPECT_EQ(b.say("AT#GPIO=\"lamp\",1\r"), "\r\n+CME ERROR: 22\r\n");
    EXPECT_EQ(b.host.driven, (std::vector<std::pair<bool, int>>{{true, 250}, {false, 0}}));
    for (const char* const line : {"AT#HW?\r", "AT#GPIO?\r", "AT#GPIO=\"relay\",1,250\r"})
        EXPECT_EQ(u.say(line), "\r\n+CME ERROR: 268\r\n") << line;
    EXPECT_TRUE(u.host.driven.empty());

    Bench j(false);
    const auto call = [&](const char* method, const json& params) {
        return json::parse(
            j.say(json{{"jsonrpc", "2.0"}, {"id", 1}, {"method", method}, {"params", params}}.dump() + "\n"));
    };
    EXPECT_EQ(call("hw", json::object())["result"],
              (json{{"board", "pi-5"}, {"temperature", {61.5, 77}}, {"admit", 1}}));
    EXPECT_EQ(call("gpio", json::object())["result"],
              (json{{"lines",
                     {{{"name", "relay"}, {"use", "out"}, {"active", true}},
                      {{"name", "door"}, {"use", "trigger"}, {"active", nullptr}}}}}));
    EXPECT_TRUE(call("gpio", {{"name", "relay"}, {"value", 1}, {"ms", 20}}).contains("result"));
    EXPECT_EQ(call("gpio", {{"name", "relay"}})["error"]["code"], -32602);
    EXPECT_EQ(j.host.driven, (std::vector<std::pair<bool, int>>{{true, 20}}));
    j.host.hardware_items.clear();
    EXPECT_EQ(call("hw", json::object())["result"], json::object());
}

TEST(Agents, answer_on_a_serial_line) {
    Bench b(true);
    b.host.step = 100;
    b.say("ATE0\r");
    EXPECT_EQ(b.say("AT#RUN=\"sentiment\",\"Fine\"\r"),
              "\r\n#CLS: \"good\",0.5,0.25\r\n#CLS: \"bad\",0.25\r\n#CHK: \"iban /iban\",\"pass\"\r\n"
              "#CHK: \"sum\",\"fail\",\"1.00, not \\\"2.00\\\"\"\r\n"
              "#RUN: \"fail\",0.75,1,\"keep\",\"stop\",9,11,390,1120\r\n\r\nOK\r\n");
    EXPECT_EQ(b.host.last_agent, "sentiment");
    EXPECT_EQ(b.host.submitted.back(), "Fine");
    EXPECT_EQ(b.host.last.deadline_ms, -1);  // the agent's own
    EXPECT_NE(b.say("AT#RUN=\"switcher\",\"x\"\r")
                  .find("#CALL: \"light\",1,\"{\\\"on\\\":true}\",\"on for 500 ms\"\r\n#CALL: "
                        "\"warm\",0,\"{}\",\"this board"),
              std::string::npos);
    EXPECT_TRUE(b.host.last_trusted);
    EXPECT_EQ(b.say("AT#RUN=\"invoice\",\"x\",500\r").substr(0, 40),
              "\r\n#TOK: \"{\\\"a\\\":12,\\\"b/c\\\":[\\\"x\\\"]}\"\r\n#C");
    EXPECT_EQ(b.host.last.deadline_ms, 500);
    EXPECT_EQ(b.say("AT#EXT=\"12\",\"{}\",7,\"the source\"\r"),
              "\r\n#TOK: \"{\\\"a\\\":12,\\\"b/c\\\":[\\\"x\\\"]}\"\r\n#SPAN: \"/a\",3,5\r\n#SPAN: \"/b~1c/0\"\r\n"
              "#EXT: \"stop\",9,11,390,1120\r\n\r\nOK\r\n");
    EXPECT_EQ(b.host.last_schema, "{}");
    EXPECT_EQ(b.host.last_source, "the source");
    EXPECT_EQ(b.host.last.max, 7);
    EXPECT_EQ(b.say("AT#AGENT?\r"),
              "\r\n#AGENT: \"sentiment\",\"choice\",1,7,0.125,\"glad or not\"\r\n"
              "#AGENT: \"torn\",\"bad\",0,0,0,\"agents/torn.toml:3: what\"\r\n\r\nOK\r\n");
    EXPECT_EQ(b.say("AT#AGENT=\"sentiment\"\r"),
              "\r\n#AGENT: \"sentiment\",\"choice\",1,7,0.125,\"glad or not\"\r\n\r\nOK\r\n");
    b.say("AT+CMEE=2\r");
    EXPECT_NE(b.say("AT#AGENT=\"nobody\"\r").find("no agent \"nobody\""), std::string::npos);
    EXPECT_NE(b.say("AT#RUN=\"sentiment\"\r").find("input is missing"), std::string::npos);
    EXPECT_NE(b.say("AT#EXT=\"x\"\r").find("schema is missing"), std::string::npos);
    EXPECT_NE(b.say("AT#RUN=\"sentiment\",\"x\",-5\r").find("deadline_ms is 0 to"), std::string::npos);
    // a narrow client gets no line that is too long for it
    b.say("AT#W=48\r");
    const std::string narrow = b.say("AT#RUN=\"invoice\",\"x\"\r") + b.say("AT#AGENT?\r");
    for (std::size_t at = 0; at < narrow.size();) {
        const std::size_t end = std::min(narrow.find('\n', at), narrow.size());
        EXPECT_LE(end - at, 49u) << narrow.substr(at, end - at);
        at = end + 1;
    }
}

TEST(Adapters, are_listed_and_named_on_a_serial_line) {
    Bench b(true);
    b.host.step = 100;
    b.say("ATE0\rAT+CMEE=2\r");
    EXPECT_EQ(b.say("AT#ADAPTER?\r"),
              "\r\n#ADAPTER: \"polite\",8,335296,\"Polite \\\"1\\\"\"\r\n"
              "#ADAPTER: \"terse\",64,1048576,\"terse-lora\"\r\n\r\nOK\r\n");
    b.say("AT#GEN=\"x\"\r");
    EXPECT_STREQ(b.host.last.adapter, "");
    EXPECT_EQ(b.say("AT#SET=\"adapter\",\"polite\"\r"), "\r\nOK\r\n");
    EXPECT_NE(b.say("AT#SET?\r").find("#SET: \"adapter\",\"polite\"\r\n"), std::string::npos);
    for (const char* line : {"AT#GEN=\"x\"\r", "AT#CLS=\"x\",\"a|b\"\r", "AT#EXT=\"x\",\"{}\"\r"}) {
        b.host.last = {};
        b.say(line);
        EXPECT_STREQ(b.host.last.adapter, "polite") << line;
    }
    b.say("AT#CLS=\"x\",\"a|b\",,,,,,\"terse\"\r");
    EXPECT_STREQ(b.host.last.adapter, "terse");
    b.say("AT#CLS=\"x\",\"a|b\",,,,,,\"\"\r");
    EXPECT_STREQ(b.host.last.adapter, "");
    // an agent has its own, whatever the session's is
    b.say("AT#RUN=\"sentiment\",\"x\"\r");
    EXPECT_EQ(b.host.last_adapter, "(the agent's)");
    b.say("AT#RUN=\"sentiment\",\"x\",,\"terse\"\r");
    EXPECT_EQ(b.host.last_adapter, "terse");
    b.say("AT#RUN=\"sentiment\",\"x\",,\"\"\r");
    EXPECT_EQ(b.host.last_adapter, "");
    EXPECT_NE(b.say("AT#SET=\"adapter\",3\r").find("adapter is a name in quotes"), std::string::npos);
    EXPECT_NE(
        b.say("AT#SET=\"adapter\",\"" + std::string(24, 'x') + "\"\r").find("adapter: a name is at most 23 bytes"),
        std::string::npos);
    b.say("AT#SET=\"adapter\",\"\"\r");
    b.say("AT#GEN=\"x\"\r");
    EXPECT_STREQ(b.host.last.adapter, "");
    b.host.adapter_list[1].title = "a title that is longer than a line of 48 bytes can be, by far";
    b.say("AT#W=48\r");
    const std::string narrow = b.say("AT#ADAPTER?\r");
    for (std::size_t at = 0; at < narrow.size();) {
        const std::size_t end = std::min(narrow.find('\n', at), narrow.size());
        EXPECT_LE(end - at, 49u) << narrow.substr(at, end - at);
        at = end + 1;
    }
    b.host.adapter_list.clear();
    EXPECT_EQ(b.say("AT#ADAPTER?\r"), "\r\nOK\r\n");
}

TEST(Uplink, what_left_and_what_waits_is_told_on_a_serial_line) {
    Bench b(true);
    b.host.step = 100;
    b.say("ATE0\rAT+CMEE=2\rAT#W=200\r");
    EXPECT_NE(b.say("AT#RUN=\"mail\",\"x\"\r")
                  .find("#ROUTE: \"escalate\",\"a check of the local answer failed\",\"cloud\","
                        "0.000300,100,20,1234\r\n#RUN: \"fail\",0.75,1,\"escalate\","),
              std::string::npos);
    const std::string queued = b.say("AT#RUN=\"later\",\"x\",,,\"remote\"\r");
    EXPECT_NE(queued.find("#KEY: \"0123456789abcdef0123456789abcdef\"\r\n#ROUTE: \"queue\",\"there is no link\","),
              std::string::npos)
        << queued;
    EXPECT_EQ(b.host.last_wish, Wish::remote);
    EXPECT_EQ(b.say("AT#RUN=\"later\",\"x\",,,\"clouds\"\r"),
              "\r\n+CME ERROR: incorrect parameters: route is \"local\" or \"remote\"; without it the agent's file "
              "decides\r\n");
    EXPECT_EQ(b.say("AT#QUEUE?\r"),
              "\r\n#QUEUE: \"0123456789abcdef0123456789abcdef\",0,2,1764000000,\"mail\"\r\n"
              "#QUEUE: \"fedcba9876543210fedcba9876543210\",1,0,1764000001,\"mail\"\r\n\r\nOK\r\n");
    EXPECT_NE(b.say("AT#QUEUE=\"fedcba9876543210fedcba9876543210\"\r").find("#TOK: \"late\""), std::string::npos);
    EXPECT_EQ(b.say("AT#DROP=\"0123456789abcdef0123456789abcdef\"\r"), "\r\nOK\r\n");
    EXPECT_EQ(b.host.dropped.size(), 1u);
    EXPECT_EQ(b.say("AT#DROP=\"fedcba9876543210fedcba9876543210\"\r"),
              "\r\n+CME ERROR: not found: nothing was queued by that key\r\n");
    EXPECT_EQ(b.say("AT#BUDGET?\r"),
              "\r\n#BUDGET: \"\",\"day\",\"money\",0.000300,0.500000\r\n#BUDGET: \"\",\"day\",\"tokens\",120\r\n"
              "#BUDGET: \"\",\"day\",\"bytes\",4096,2000000\r\n#BUDGET: \"mail\",\"month\",\"money\",1.234567\r\n"
              "#BUDGET: \"mail\",\"month\",\"tokens\",7\r\n#BUDGET: \"mail\",\"month\",\"bytes\",8\r\n\r\nOK\r\n");
    b.say("AT#W=48\r");
    for (const char* line : {"AT#RUN=\"later\",\"x\"\r", "AT#RUN=\"mail\",\"x\"\r", "AT#QUEUE?\r", "AT#BUDGET?\r"}) {
        const std::string narrow = b.say(line);
        for (std::size_t at = 0; at < narrow.size();) {
            const std::size_t end = std::min(narrow.find('\n', at), narrow.size());
            if (narrow.compare(at, 4, "#RUN") != 0) {
                EXPECT_LE(end - at, 49u) << narrow.substr(at, end - at);
            }
            at = end + 1;
        }
    }
}

TEST(Uplink, what_left_and_what_waits_is_told_in_json) {
    Bench b(false);
    const auto call = [&](const char* method, json params) {
        return json::parse(
            b.say(json{{"jsonrpc", "2.0"}, {"id", 1}, {"method", method}, {"params", params}}.dump() + "\n"));
    };
    const json r = call("run", {{"agent", "mail"}, {"input", "x"}, {"route", "local"}})["result"];
    EXPECT_EQ(b.host.last_wish, Wish::local);
    EXPECT_EQ(r["reason"], "a check of the local answer failed");
    EXPECT_EQ(r["remote"], (json{{"upstream", "cloud"},
                                 {"model", "large-1"},
                                 {"prompt_tokens", 100},
                                 {"tokens", 20},
                                 {"cost", 0.0003},
                                 {"bytes_out", 512},
                                 {"bytes_in", 640},
                                 {"tries", 1},
                                 {"ms", 1234}}));
    EXPECT_FALSE(r.contains("key"));
    EXPECT_EQ(call("run", {{"agent", "later"}, {"input", "x"}})["result"]["key"], "0123456789abcdef0123456789abcdef");
    EXPECT_EQ(call("queue", json::object())["result"]["queue"][1], (json{{"key", "fedcba9876543210fedcba9876543210"},
                                                                         {"agent", "mail"},
                                                                         {"state", "answered"},
                                                                         {"priority", 0},
                                                                         {"queued", 1764000001},
                                                                         {"deadline", 0}}));
    EXPECT_EQ(call("queue.show", {{"key", "fedcba9876543210fedcba9876543210"}})["result"]["text"], "late");
    EXPECT_EQ(call("queue.show", {{"key", "fedcba"}})["error"]["message"],
              "key is 32 bytes: a request that was queued; queue lists them");
    EXPECT_EQ(call("queue.drop", {{"key", "0123456789abcdef0123456789abcdef"}})["result"], json::object());
    EXPECT_TRUE(call("queue.drop", {{"key", "fedcba9876543210fedcba9876543210"}}).contains("error"));
    EXPECT_EQ(call("budget", json::object())["result"]["budget"][0], (json{{"agent", ""},
                                                                           {"period", "day"},
                                                                           {"money", 0.0003},
                                                                           {"money_limit", 0.5},
                                                                           {"tokens", 120},
                                                                           {"tokens_limit", nullptr},
                                                                           {"bytes", 4096},
                                                                           {"bytes_limit", 2000000}}));
}

TEST(Adapters, are_listed_and_named_in_json) {
    Bench b(false);
    const auto call = [&](const char* method, json params) {
        return json::parse(
            b.say(json{{"jsonrpc", "2.0"}, {"id", 1}, {"method", method}, {"params", params}}.dump() + "\n"));
    };
    EXPECT_EQ(call("adapter", json::object())["result"]["adapters"],
              (json{{{"name", "polite"}, {"title", "Polite \"1\""}, {"rank", 8}, {"bytes", 335296}},
                    {{"name", "terse"}, {"title", "terse-lora"}, {"rank", 64}, {"bytes", 1 << 20}}}));
    const json labels = {"a", "b"};
    for (const auto& [method, params] : {std::pair{"gen", json{{"prompt", "x"}}},
                                         {"chat", json{{"prompt", "x"}}},
                                         {"cls", json{{"prompt", "x"}, {"labels", labels}}},
                                         {"ext", json{{"prompt", "x"}, {"schema", json::object()}}}}) {
        json with = params;
        with["adapter"] = "terse";
        b.host.last = {};
        EXPECT_TRUE(call(method, with).contains("result")) << method;
        EXPECT_STREQ(b.host.last.adapter, "terse") << method;
        EXPECT_TRUE(call(method, params).contains("result")) << method;
        EXPECT_STREQ(b.host.last.adapter, "") << method;
        with["adapter"] = std::string(24, 'x');
        EXPECT_TRUE(call(method, with).contains("error")) << method;
        with["adapter"] = 7;
        EXPECT_EQ(call(method, with)["error"]["code"], -32602) << method;
    }
    EXPECT_TRUE(call("run", {{"agent", "writer"}, {"input", "x"}, {"adapter", "polite"}}).contains("result"));
    EXPECT_EQ(b.host.last_adapter, "polite");
    EXPECT_EQ(call("set", {{"adapter", "polite"}})["result"]["adapter"], "polite");
    b.host.agent_list[0].adapter = "terse", b.host.agent_list[0].adapter_sha256 = "ab";
    const json agent = call("agent", {{"name", "sentiment"}})["result"];
    EXPECT_EQ(agent["adapter"], "terse");
    EXPECT_EQ(agent["adapter_sha256"], "ab");
    b.host.adapter_list.clear();
    EXPECT_EQ(call("adapter", json::object())["result"]["adapters"], json::array());
}

TEST(Tools, are_handed_on_and_what_is_called_stands_in_the_result) {
    Bench b(false);
    const auto call = [&](json params) {
        params["prompt"] = "x";
        return json::parse(
            b.say(json{{"jsonrpc", "2.0"}, {"id", 1}, {"method", "gen"}, {"params", params}}.dump() + "\n"));
    };
    const json tools = {{{"type", "function"}, {"function", {{"name", "f"}, {"parameters", {{"type", "object"}}}}}}};
    for (const std::size_t step : {1u, 100u}) {
        b.host.step = step;
        const json r = call({{"tools", tools}})["result"];
        EXPECT_EQ(json::parse(b.host.last_tools), tools);
        EXPECT_EQ(b.host.last_tool_choice, "");
        EXPECT_EQ(r["calls"], json::parse("[{}]")) << r.dump();
        EXPECT_FALSE(r.contains("text") || r.contains("value"));
        EXPECT_EQ(r["finish"], "stop");
    }
    EXPECT_EQ(call({{"tools", tools}, {"tool_choice", "none"}})["result"]["text"], "{\"calls\":[{}]}");
    EXPECT_EQ(b.host.last_tool_choice, "none");
    EXPECT_EQ(call({{"tool_choice", "none"}})["error"]["message"], "tool_choice without tools");
    EXPECT_EQ(call({{"tools", tools}, {"regex", "x"}})["error"]["message"], "either a schema or a regex or tools");
    EXPECT_EQ(call({{"tools", 5}})["error"]["code"], -32602);
    // the host's answers have 0.5
    EXPECT_EQ(call({{"tools", tools}, {"doubt", 0.6}})["result"]["doubtful"], true);
    EXPECT_FALSE(call({{"tools", tools}, {"doubt", 0.5}})["result"].contains("doubtful"));
    EXPECT_EQ(call({{"tools", tools}, {"doubt", 2}})["error"]["message"], "doubt is a number from 0 to 1");
}

TEST(Agents, answer_in_json) {
    Bench b(false);
    const auto call = [&](const char* method, json params) {
        return json::parse(
            b.say(json{{"jsonrpc", "2.0"}, {"id", 1}, {"method", method}, {"params", params}}.dump() + "\n"));
    };
    json r = call("run", {{"agent", "sentiment"}, {"input", "Fine"}})["result"];
    EXPECT_EQ(r["label"], "good");
    EXPECT_EQ(r["labels"].size(), 2u);
    EXPECT_EQ(r["verdict"], "fail");
    EXPECT_EQ(r["route"], "keep");
    EXPECT_EQ(r["confidence"], 0.75);
    EXPECT_EQ(r["calibrated"], true);
    EXPECT_EQ(r["features"], (json{{"min", 0.999999881}, {"mean", 1}, {"margin", 1}, {"entropy", 1}}));
    EXPECT_EQ(r["checks"], (json{{{"name", "iban /iban"}, {"verdict", "pass"}},
                                 {{"name", "sum"}, {"verdict", "fail"}, {"why", "1.00, not \"2.00\""}}}));
    EXPECT_FALSE(r.contains("spans"));
    EXPECT_FALSE(b.host.last_fields);
    // an input of fields goes through as it was written
    r = call("run",
             {{"agent", "invoice"}, {"input", {{"text", "a \"b\""}, {"n", {1, {2}}}}}, {"deadline_ms", 9}})["result"];
    EXPECT_TRUE(b.host.last_fields);
    EXPECT_EQ(json::parse(b.host.submitted.back()), (json{{"text", "a \"b\""}, {"n", {1, {2}}}}));
    EXPECT_EQ(b.host.last.deadline_ms, 9);
    EXPECT_EQ(r["value"], (json{{"a", 12}, {"b/c", {"x"}}}));
    EXPECT_EQ(r["spans"], (json{{{"at", "/a"}, {"begin", 3}, {"end", 5}}, {{"at", "/b~1c/0"}}}));
    EXPECT_EQ(r["verdict"], "fail");
    r = call("run", {{"agent", "writer"}, {"input", "x"}})["result"];
    EXPECT_EQ(r["text"], FakeHost::answer_to("x"));

    EXPECT_FALSE(r.contains("calls"));
    r = call("run", {{"agent", "switcher"}, {"input", "x"}})["result"];
    EXPECT_EQ(r["calls"],
              (json{{{"name", "light"}, {"arguments", {{"on", true}}}, {"result", "on for 500 ms"}},
                    {{"name", "warm"}, {"arguments", json::object()}, {"error", "this board says \"nothing\""}}}));
    EXPECT_EQ(r["text"], FakeHost::answer_to("x"));

    r = call("ext", {{"prompt", "12"}, {"schema", {{"type", "object"}}}, {"temp", 0.5}})["result"];
    EXPECT_EQ(r["value"], (json{{"a", 12}, {"b/c", {"x"}}}));
    EXPECT_EQ(r["spans"].size(), 2u);
    EXPECT_FALSE(r.contains("verdict"));
    EXPECT_EQ(b.host.last.temp, 0.5);

    r = call("agent", json::object())["result"];
    EXPECT_EQ(r["agents"][0], (json{{"name", "sentiment"},
                                    {"file", "agents/sentiment.toml"},
                                    {"answer", "choice"},
                                    {"calibrated", true},
                                    {"answers", 7},
                                    {"drift", 0.125},
                                    {"sha256", "aa"},
                                    {"description", "glad or not"}}));
    EXPECT_EQ(r["agents"][1]["error"], "agents/torn.toml:3: what");
    EXPECT_EQ(call("agent", {{"name", "sentiment"}})["result"]["name"], "sentiment");
    EXPECT_EQ(call("agent", {{"name", "nobody"}})["error"]["code"], 22);
    EXPECT_EQ(call("run", {{"agent", "sentiment"}})["error"]["code"], -32602);
    EXPECT_EQ(call("run", {{"agent", "sentiment"}, {"input", 5}})["error"]["code"], -32602);
    EXPECT_EQ(call("run", {{"agent", "sentiment"}, {"input", "x"}, {"stream", true}})["error"]["code"], -32602);
    EXPECT_EQ(call("ext", {{"prompt", "x"}})["error"]["code"], -32602);
    b.host.agent_list.clear();
    EXPECT_EQ(call("agent", json::object())["result"], (json{{"agents", json::array()}}));
}

TEST(Labels, are_chosen_on_a_serial_line) {
    Bench b(true);
    b.say("ATE0\r");
    EXPECT_EQ(b.say("AT#CLS=\"Where to?\",\"left|right|straight on\"\r"),
              "\r\n#CLS: \"straight on\",0.5,0.25\r\n\r\nOK\r\n");
    EXPECT_EQ(b.host.submitted.back(), "Where to?");
    EXPECT_EQ(b.host.last_labels, (std::vector<std::string>{"left", "right", "straight on"}));
    EXPECT_TRUE(b.host.last_priors.empty());
    EXPECT_FALSE(b.host.last.raw);
    EXPECT_EQ(b.say("AT#CLS=\"Where to?\",\"left|right\",1,2\r"),
              "\r\n#CLS: \"none\",0.5,0.25\r\n#CLS: \"right\",0.25\r\n\r\nOK\r\n");
    // more than there are; priors; raw and the deadline, of AT#SET or of this one
    b.say("AT#SET=\"raw\",1\r");
    EXPECT_EQ(b.say("AT#CLS=\"x\",\"a|b\",,16,\"0.25|3\",,5000\r"),
              "\r\n#CLS: \"b\",0.5,0.25\r\n#CLS: \"a\",0.25\r\n\r\nOK\r\n");
    EXPECT_EQ(b.host.last_priors, (std::vector<float>{0.25f, 3}));
    EXPECT_EQ(b.host.last_top, 2);
    EXPECT_TRUE(b.host.last.raw);
    EXPECT_EQ(b.host.last.deadline_ms, 5000);
    b.say("AT#CLS=\"x\",\"a|b\",,,,0\r");
    EXPECT_FALSE(b.host.last.raw);
    // quotes and other letters come back as they were
    EXPECT_EQ(b.say("AT#CLS=\"x\",\"a|\\\"b\\\" \xC3\xA9\"\r"),
              "\r\n#CLS: \"\\\"b\\\" \xC3\xA9\",0.5,0.25\r\n\r\nOK\r\n");

    b.say("AT+CMEE=2\r");
    const auto refused = [&](const std::string& command, const char* part) {
        const auto before = b.host.submitted.size();
        const std::string r = b.say("AT#CLS=" + command + "\r");
        EXPECT_NE(r.find("+CME ERROR: "), std::string::npos) << r;
        EXPECT_NE(r.find(part), std::string::npos) << r;
        EXPECT_EQ(b.host.submitted.size(), before);
    };
    refused("\"x\"", "labels is missing");
    refused("\"x\",1", "a text with | between");
    refused("\"x\",\"one\"", "labels: 2 to 512");
    refused("\"x\",\"\"", "labels: 2 to 512");
    refused("\"x\",\"a||b\"", "label 2 is empty");
    refused("\"x\",\"a|b|\"", "label 3 is empty");
    refused("\"x\",\"a|b|a\"", "labels 1 and 3 are both \"a\"");
    refused("\"x\",\"a|none\",1", "labels 2 and 3 are both \"none\"");
    refused("\"x\",\"a|b\\x07\"", "label 2 holds a control character");
    refused("\"x\",\"a|" + std::string(65, 'b') + "\"", "is 65 bytes: at most 64");
    refused("\"x\",\"a|b\",,17", "top is 1 to 16");
    refused("\"x\",\"a|b\",,,\"1\"", "1 priors for 2 labels");
    refused("\"x\",\"a|b\",,,\"1|0\"", "prior 2 is a number above 0");
    refused("\"x\",\"a|b\",,,\"1|1e99\"", "prior 2 is a number above 0");
    refused("\"x\",\"a|b\",,,\"1|nan\"", "prior 2 is a number above 0");
    refused("\"x\",\"a|b\",,,\"1||1\"", "prior 2 is a number above 0");
    refused("\"x\",\"a|b\",1,,\"1|1\"", "2 priors for 3 labels");
    // A label goes into one line of the client's width or is refused at once.
    const std::string label(52, 'l');
    EXPECT_NE(b.say("AT#CLS=\"x\",\"a|" + label + "\"\r").find(label), std::string::npos);
    refused("\"x\",\"a|" + label + "l\"", "does not fit a line of 80 bytes");
    b.say("AT#W=100\r");
    EXPECT_NE(b.say("AT#CLS=\"x\",\"a|" + label + "l\"\r").find(label), std::string::npos);
    // with checks, of every line
    b.say("AT#CRC=1\r");
    EXPECT_EQ(b.say(crc("AT#CLS=\"x\",\"a|b\"") + "\r"),
              "\r\n" + crc("#CLS: \"b\",0.5,0.25") + "\r\n\r\n" + crc("OK") + "\r\n");
    EXPECT_EQ(b.host.live(), 0);
}

TEST(Labels, are_chosen_in_json) {
    Bench b(false, 65536);
    const auto call = [&](json params) {
        return json::parse(
            b.say(json{{"jsonrpc", "2.0"}, {"id", 1}, {"method", "cls"}, {"params", std::move(params)}}.dump() + "\n"));
    };
    json r =
        call({{"prompt", "Where to?"}, {"labels", {"left", "right|up", "\"on\"", "back"}}, {"none", true}})["result"];
    EXPECT_EQ(b.host.last_labels, (std::vector<std::string>{"left", "right|up", "\"on\"", "back", "none"}));
    EXPECT_EQ(r["label"], "none");
    EXPECT_EQ(r["probability"], 0.5);
    EXPECT_EQ(r["margin"], 0.25);
    EXPECT_EQ(r["calibrated"], false);
    EXPECT_EQ(r["finish"], "stop");
    EXPECT_EQ(r["prompt_tokens"], 9);
    EXPECT_EQ(r["total_ms"], 1120);
    EXPECT_EQ(r["labels"], (json{{{"label", "none"}, {"probability", 0.5}},
                                 {{"label", "back"}, {"probability", 0.25}},
                                 {{"label", "\"on\""}, {"probability", 0.125}}}));
    r = call({{"prompt", "x"},
              {"labels", {"a", "b"}},
              {"priors", {1, 2.5e-1}},
              {"top", 1},
              {"raw", true},
              {"deadline_ms", 70}});
    EXPECT_EQ(r["result"]["labels"].size(), 1u);
    EXPECT_EQ(b.host.last_priors, (std::vector<float>{1, 0.25f}));
    EXPECT_TRUE(b.host.last.raw);
    EXPECT_EQ(b.host.last.deadline_ms, 70);
    // as many as there may be
    json many = json::array(), priors = json::array();
    for (int i = 0; i < 512; i++) many.push_back(std::string(50, 'l') + std::to_string(i)), priors.push_back(i + 1);
    r = call({{"prompt", "x"}, {"labels", many}, {"priors", priors}, {"top", 16}});
    EXPECT_EQ(r["result"]["labels"].size(), 16u) << r;
    EXPECT_EQ(b.host.last_labels.size(), 512u);
    EXPECT_EQ(b.host.last_priors.size(), 512u);
    many.push_back("one more");
    const auto refused = [&](json params, int code, const char* part) {
        const auto before = b.host.submitted.size();
        const json e = call(std::move(params))["error"];
        EXPECT_EQ(e["code"], code) << e;
        EXPECT_NE(e["message"].get<std::string>().find(part), std::string::npos) << e;
        EXPECT_EQ(b.host.submitted.size(), before);
    };
    refused({{"prompt", "x"}, {"labels", many}}, -32602, "labels: 2 to 512");
    many.erase(512);
    refused({{"prompt", "x"}, {"labels", many}, {"none", true}}, -32602, "labels: 2 to 512");
    refused({{"prompt", "x"}}, -32602, "labels is missing");
    refused({{"labels", {"a", "b"}}}, -32602, "prompt is missing");
    refused({{"prompt", "x"}, {"labels", "a|b"}}, -32602, "labels is an array");
    refused({{"prompt", "x"}, {"labels", {"a", 1}}}, -32602, "labels is an array of texts");
    refused({{"prompt", "x"}, {"labels", {"a", {"b"}}}}, -32602, "labels is an array of texts");
    refused({{"prompt", "x"}, {"labels", {"a", "b"}}, {"priors", {"1", "2"}}}, -32602, "priors is an array of numbers");
    refused({{"prompt", "x"}, {"labels", {"a", "b"}}, {"priors", {1, -2}}}, -32602, "prior 2 is a number above 0");
    refused({{"prompt", "x"}, {"labels", {"a", "b"}}, {"priors", {1}}}, -32602, "1 priors for 2 labels");
    refused({{"prompt", "x"}, {"labels", {"a", "b"}}, {"temp", 1}}, -32602, "no parameter \"temp\"");
    refused({{"prompt", "x"}, {"labels", {"a", "b"}}, {"stream", true}}, -32602, "no parameter \"stream\"");
    refused({{"prompt", "x"}, {"labels", {"a", std::string(65, 'b')}}}, 24, "is 65 bytes");
    EXPECT_EQ(b.host.live(), 0);
    // What went wrong with the host is told as for any request.
    b.host.refusal = Error::make(Code::busy, "16 requests wait already");
    EXPECT_EQ(call({{"prompt", "x"}, {"labels", {"a", "b"}}})["error"]["code"], 262);
}

TEST(Labels, a_request_is_cancelled_like_any) {
    Bench b(false);
    b.host.waits = true;
    EXPECT_EQ(b.say(R"({"jsonrpc":"2.0","id":7,"method":"cls","params":{"prompt":"x","labels":["a","b"]}})"
                    "\n"),
              "");
    EXPECT_EQ(b.host.live(), 1);
    json r = json::parse(b.say("{\"jsonrpc\":\"2.0\",\"method\":\"$/cancelRequest\",\"params\":{\"id\":7}}\n"));
    EXPECT_EQ(r["error"]["code"], -32800);
    EXPECT_EQ(b.host.live(), 0);
    Bench t(true);
    t.host.waits = true;
    t.say("ATE0\rAT#CLS=\"x\",\"a|b\"\r");
    EXPECT_EQ(t.host.live(), 1);
    EXPECT_EQ(t.say("\x1b"), "\r\n+CME ERROR: 52\r\n");
    EXPECT_EQ(t.host.live(), 0);
}

// What base64 says in a line, or in a string.
std::string decoded(std::string_view text) {
    std::string out;
    unsigned bits = 0;
    int count = 0;
    for (const char c : text) {
        const auto digit = std::string_view("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/").find(c);
        if (digit == std::string_view::npos) break;
        bits = bits << 6 | static_cast<unsigned>(digit);
        if ((count += 6) >= 8) out += static_cast<char>(bits >> (count -= 8) & 255);
    }
    return out;
}

TEST(Vectors, are_told_on_a_serial_line) {
    Bench b;
    b.say("ATE0\r");
    EXPECT_EQ(b.say("AT#EMB=\"12345678\",\"f32\"\r"),
              "\r\n#VEC: 0,8,-0.125,0,0.125,0.25\r\n#VEC: 5,-0.25,-0.125,0\r\n#EMB: 8,10,0,,1120\r\n\r\nOK\r\n");
    EXPECT_EQ(b.say("AT#EMB=\"long\"\r"), "\r\n#VEC: 0,\"f/wABAj4/AA=\"\r\n#EMB: 8,6,1,0.031496063,1120\r\n\r\nOK\r\n");
    EXPECT_EQ(b.say("AT#EMB=\"\",\"i8\"\r").substr(0, 10), "\r\n#VEC: 0,");
    // Long ones in lines of whole groups, which follow each other.
    b.host.dim = 100;
    for (const int width : {48, 80, 1024}) {
        b.say("AT#W=" + std::to_string(width) + "\r");
        const std::string said = b.say("AT#EMB=\"abc\"\r");
        std::string bytes;
        for (std::size_t at = 0; (at = said.find("#VEC: ", at)) != said.npos; at++) {
            EXPECT_EQ(std::stoul(said.substr(at + 6)), bytes.size()) << said;
            EXPECT_LE(said.find('\r', at) - at, static_cast<std::size_t>(width));
            bytes += decoded(said.substr(said.find('"', at) + 1));
        }
        ASSERT_EQ(bytes.size(), 100u) << said;
        EXPECT_EQ(bytes[0], 127);
        EXPECT_EQ(static_cast<signed char>(bytes[1]), -5);  // -0.125 / (3 / 127)
    }
    EXPECT_EQ(b.say("AT#EMB=\"a\",\"i4\"\r"), "\r\n+CME ERROR: 50\r\n");
    EXPECT_EQ(b.say("AT#EMB=\"a\",,\"b|c\"\r"), "\r\n+CME ERROR: 50\r\n");
    EXPECT_EQ(b.say("AT#EMB=,,\"b|c\"\r"), "\r\n+CME ERROR: 50\r\n");
    EXPECT_EQ(b.say("AT#EMB=\r"), "\r\n+CME ERROR: 50\r\n");
    EXPECT_EQ(b.say("AT#EMB\r"), "\r\n+CME ERROR: 4\r\n");
    b.say("AT#EMB=\"a\",,,5000\r");
    EXPECT_EQ(b.host.last.deadline_ms, 5000);
    b.host.dim = 8;
    b.say("AT#CRC=1\r");
    EXPECT_EQ(b.say(crc("AT#EMB=\"long\"") + "\r"), "\r\n" + crc("#VEC: 0,\"f/wABAj4/AA=\"") + "\r\n" +
                                                        crc("#EMB: 8,6,1,0.031496063,1120") + "\r\n\r\n" + crc("OK") +
                                                        "\r\n");
    EXPECT_EQ(b.host.live(), 0);
}

TEST(Vectors, are_told_in_json) {
    Bench b(false);
    const auto call = [&](const json& params) {
        return json::parse(
            b.say(json{{"jsonrpc", "2.0"}, {"id", 1}, {"method", "emb"}, {"params", params}}.dump() + "\n"));
    };
    b.host.dim = 1500;
    const json r = call({{"texts", {"one", "long one", ""}}})["result"];
    EXPECT_EQ(r["dim"], 1500);
    EXPECT_EQ(r["finish"], "stop");
    ASSERT_EQ(r["embeddings"].size(), 3u);
    const std::size_t sizes[] = {3, 8, 0};
    for (std::size_t i = 0; i < 3; i++) {
        const json& e = r["embeddings"][i];
        EXPECT_EQ(e["tokens"], sizes[i] + 2);
        EXPECT_EQ(e["cut"], i == 1);
        ASSERT_EQ(e["vector"].size(), 1500u);
        EXPECT_EQ(e["vector"][0], sizes[i]);
        EXPECT_EQ(e["vector"][1499], 0.25);
        EXPECT_EQ(e["vector"][91], -0.125);
    }
    const json bytes = call({{"text", "seven77"}, {"format", "i8"}})["result"]["embeddings"][0];
    const std::string q = decoded(bytes["i8"].get<std::string>());
    ASSERT_EQ(q.size(), 1500u);
    EXPECT_EQ(q[0], 127);
    EXPECT_NEAR(bytes["scale"].get<double>(), 7.0 / 127, 1e-9);
    for (const std::size_t i : {719, 720, 1499})
        EXPECT_NEAR(static_cast<signed char>(q[i]) * 7.0 / 127, static_cast<double>(static_cast<int>(i) % 5 - 2) / 8,
                    3.6 / 127)
            << i;
    const auto message = [&](const json& params) { return call(params)["error"].value("message", "none"); };
    EXPECT_EQ(message({{"text", "a"}, {"texts", {"b"}}}), "either text or texts");
    EXPECT_EQ(message(json::object()), "text is missing: what to embed");
    EXPECT_EQ(message({{"texts", json::array()}}), "texts is an array of 1 to 64 texts");
    EXPECT_EQ(message({{"texts", {1, 2}}}), "texts is an array of 1 to 64 texts");
    EXPECT_EQ(message({{"texts", std::vector<std::string>(65, "x")}}), "texts is an array of 1 to 64 texts");
    EXPECT_EQ(message({{"texts", "x"}}), "texts is an array");
    EXPECT_EQ(message({{"text", "a"}, {"format", "f16"}}), "format is \"i8\" or \"f32\"");
    EXPECT_EQ(message({{"text", 5}}), "text is a text in quotes");
    EXPECT_EQ(b.host.live(), 0);
}

TEST(Events, come_when_asked_for_and_never_inside_a_command) {
    Bench b(true);
    b.say("ATE0\r");
    Event hot;
    hot.name = "THERM", hot.value = 81.25, hot.number = 2;
    b.session.notify(hot);
    EXPECT_EQ(b.say(""), "");  // off by default
    b.say("AT#EVT=1\r");
    EXPECT_EQ(b.say("AT#EVT?\r"), "\r\n#EVT: 1\r\n\r\nOK\r\n");
    b.session.notify(hot);
    EXPECT_EQ(b.say(""), "\r\n#EVT: \"THERM\",81.25,2\r\n");
    Event pin;
    pin.kind = Event::pins, pin.name = "PIN", pin.value = 1;
    strcpy(pin.subject, "door");
    b.session.notify(pin);
    EXPECT_EQ(b.say(""), "");  // not among those asked for
    b.session.notify(pin, true);
    EXPECT_EQ(b.say(""), "\r\n#EVT: \"PIN\",\"door\",1\r\n");
    // half a line is being typed
    EXPECT_EQ(b.say("AT"), "");
    b.session.notify(hot);
    EXPECT_EQ(b.say(""), "");
    EXPECT_EQ(b.say("\r"), "\r\nOK\r\n\r\n#EVT: \"THERM\",81.25,2\r\n");
    // an answer, cut to the line's width
    b.say("AT#W=64\r");
    Event answer = pin;
    answer.name = "TRIG";
    strcpy(answer.text, "The door is open since 12 minutes and nobody closed it.");
    b.session.notify(answer, true);
    const std::string told = b.say("");
    EXPECT_EQ(told,
              "\r\n#TRIG: \"door\",1,\"The door is open since\"\r\n#TRIG: \"door\",1,\" 12 minutes and "
              "nobody\"\r\n#TRIG: \"door\",0,\" closed it.\"\r\n");
    // more than the queue holds: the newest stay, and the loss is counted
    b.say("AT");
    for (int i = 0; i < 6; i++) hot.value = i, b.session.notify(hot);
    EXPECT_EQ(b.say("\r"),
              "\r\nOK\r\n\r\n#EVT: \"THERM\",2,2\r\n\r\n#EVT: \"THERM\",3,2\r\n\r\n#EVT: \"THERM\",4,2\r\n"
              "\r\n#EVT: \"THERM\",5,2\r\n");
    EXPECT_EQ(b.session.dropped(), 2u);
    b.say("ATZ\r");
    b.session.notify(hot);
    EXPECT_EQ(b.say(""), "");

    Bench j(false);
    j.say("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"evt\",\"params\":{\"mask\":7}}\n");
    j.session.notify(hot);
    EXPECT_EQ(
        json::parse(j.say("")),
        (json{{"jsonrpc", "2.0"}, {"method", "evt"}, {"params", {{"name", "THERM"}, {"value", 5}, {"threads", 2}}}}));
    j.session.notify(answer);
    EXPECT_EQ(json::parse(j.say(""))["params"], (json{{"name", "TRIG"}, {"subject", "door"}, {"text", answer.text}}));
}

TEST(Conformance, every_setting_has_a_range_and_a_default) {
    for (const Setting& s : settings_table()) {
        Settings v;
        Line shown;
        show(shown, v, s, false);
        const bool text = s.type == SettingType::texts || s.type == SettingType::bias || s.type == SettingType::name;
        const std::string fallback = text ? "\"\"" : s.fallback;
        EXPECT_EQ(shown.view(), fallback) << s.name;
        if (text) continue;
        const auto put = [&](double x) {
            const Arg a{Arg::number, {}, x};
            return bool(assign(v, s, {&a, 1}));
        };
        EXPECT_TRUE(put(s.min) && put(s.max)) << s.name;
        EXPECT_FALSE(put(s.max + 1) || put(s.min - 1) || put(std::nan(""))) << s.name;
        if (s.type != SettingType::real) {
            EXPECT_FALSE(put(s.min + 0.5)) << s.name;
        }
    }
}

TEST(Rpc, discover_describes_every_method) {
    Bench b(false);
    const std::string r = b.say("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.discover\"}\n");
    ASSERT_EQ(r.find('\n'), r.size() - 1);
    const json j = json::parse(r);
    std::size_t methods = 0;
    for (const Command& c : commands()) methods += c.method != nullptr;
    EXPECT_EQ(j["result"]["methods"].size(), methods);
    for (const auto& m : j["result"]["methods"]) {
        const Command* c = find_method(m["name"].get<std::string>());
        ASSERT_NE(c, nullptr);
        std::set<std::string> names;
        for (const auto& p : m["params"]) {
            EXPECT_TRUE(names.insert(p["name"]).second) << p["name"];
            EXPECT_TRUE(p["schema"].contains("type"));
            EXPECT_FALSE(p["description"].get<std::string>().empty());
        }
        if (c->settings) {
            EXPECT_TRUE(names.contains("temp") && names.contains("stop"));
        }
        if (c->verb == Verb::generate) {
            EXPECT_TRUE(names.contains("prompt") && names.contains("stream") && names.contains("max"));
        }
    }
    EXPECT_TRUE(json::accept(b.say("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"help\"}\n")));
    EXPECT_TRUE(
        json::accept(b.say("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"help\",\"params\":{\"verb\":\"gen\"}}\n")));
}

// A schema is handed on as it was written, an object or a text, and not read here.
TEST(Rpc, a_schema_is_handed_on_as_it_is_written) {
    Bench b(false);
    b.say(R"({"jsonrpc":"2.0","id":1,"method":"gen","params":{"schema": {"a":[1, "\"}]"]} ,"prompt":"a"}})"
          "\n");
    EXPECT_EQ(b.host.last_schema, R"({"a":[1, "\"}]"]})");
    EXPECT_EQ(b.host.last_regex, "");
    b.say(R"({"jsonrpc":"2.0","id":2,"method":"chat","params":{"schema":"{\"a\":1}","prompt":"a"}})"
          "\n");
    EXPECT_EQ(b.host.last_schema, R"({"a":1})");
    b.say(R"({"jsonrpc":"2.0","id":3,"method":"gen","params":{"regex":"a|b","source":"x y","prompt":"a"}})"
          "\n");
    EXPECT_EQ(b.host.last_regex, "a|b");
    EXPECT_EQ(b.host.last_source, "x y");
    EXPECT_EQ(b.host.last_schema, "");
    json j = json::parse(b.say(R"({"jsonrpc":"2.0","id":4,"method":"gen","params":{"schema":{"a":[}}})"
                               "\n"));
    EXPECT_EQ(j["error"]["code"], -32700);
    j = json::parse(b.say(R"({"jsonrpc":"2.0","id":5,"method":"gen","params":{"schema":[],"regex":"x","prompt":"a"}})"
                          "\n"));
    EXPECT_EQ(j["error"]["message"], "either a schema or a regex or tools");
    Bench tty;
    tty.say(R"(AT#GEN="a",9,"{\"a\":1}")"
            "\r");
    EXPECT_EQ(tty.host.last_schema, R"({"a":1})");
    EXPECT_EQ(tty.host.last.max, 9);
    tty.say(R"(AT#GEN="a",,,"x+")"
            "\r");
    EXPECT_EQ(tty.host.last_regex, "x+");
    EXPECT_EQ(tty.say("AT#GEN=\"a\"\r").find("#DOUBT"), std::string::npos);
    tty.say("AT#SET=\"doubt\",0.75\r");
    const std::string said = tty.say("AT#GEN=\"a\"\r");
    EXPECT_NE(said.find("\r\n#DOUBT: 0.5\r\n"), std::string::npos) << said;
}

TEST(Rpc, cancel_ends_one_request_and_not_the_other) {
    Bench b(false);
    b.host.step = 0;
    b.say(
        "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"gen\",\"params\":{\"prompt\":\"a\",\"stream\":true}}\n"
        "{\"jsonrpc\":\"2.0\",\"id\":\"7\",\"method\":\"gen\",\"params\":{\"prompt\":\"b\"}}\n");
    EXPECT_EQ(b.host.live(), 2);
    json j = json::parse(b.say("{\"jsonrpc\":\"2.0\",\"method\":\"$/cancelRequest\",\"params\":{\"id\":7}}\n"));
    EXPECT_EQ(j["error"]["code"], -32800);
    EXPECT_EQ(j["id"], 7);
    EXPECT_EQ(b.host.live(), 1);
    b.host.step = 5;
    j = json::parse(b.say(""));
    EXPECT_EQ(j["id"], "7");
    EXPECT_EQ(j["result"]["text"], FakeHost::answer_to("b"));
}

TEST(Rpc, five_at_once_are_refused_and_a_repeated_id_too) {
    Bench b(false);
    b.host.step = 0;
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(b.say("{\"jsonrpc\":\"2.0\",\"id\":" + std::to_string(i) +
                        ",\"method\":\"gen\",\"params\":{\"prompt\":\"a\"}}\n"),
                  "");
    EXPECT_EQ(
        json::parse(b.say(
            "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"gen\",\"params\":{\"prompt\":\"a\"}}\n"))["error"]["code"],
        262);
    EXPECT_EQ(
        json::parse(b.say(
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"gen\",\"params\":{\"prompt\":\"a\"}}\n"))["error"]["code"],
        3);
    b.session.close();
    EXPECT_EQ(b.host.live(), 0);
}

TEST(Rpc, errors_carry_the_same_number) {
    Bench b(false);
    b.host.refusal = Error::make(Code::busy, "16 requests wait already");
    const std::string r =
        b.say("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"gen\",\"params\":{\"prompt\":\"a\"}}\nAT#GEN=\"a\"\r");
    EXPECT_NE(r.find("\"code\":262,\"message\":\"16 requests wait already\""), std::string::npos) << r;
    EXPECT_NE(r.find("+CME ERROR: 262"), std::string::npos);
}

TEST(Chat, conversation_goes_on_and_can_be_forgotten) {
    Bench b(false);
    const auto turn = [&](const char* t) {
        return b.say(std::string("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"chat\",\"params\":{\"prompt\":\"") + t +
                     "\"}}\n");
    };
    b.host.step = 1000;
    turn("one");
    turn("two");
    EXPECT_EQ(b.host.submitted.back(), "one|A:" + FakeHost::answer_to("one") + "|U:two");
    b.say("AT#CTX=0\r");
    turn("three");
    EXPECT_EQ(b.host.submitted.back(), "three");
    // a conversation that outgrows its room says so and can go on after ctx
    b.say("AT#CTX=0\r");
    std::string last;
    for (int i = 0; i < 40 && last.find("263") == std::string::npos; i++) last = turn(std::string(1500, 'x').c_str());
    EXPECT_EQ(json::parse(last)["error"]["code"], 263);
    b.say("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ctx\",\"params\":{\"forget\":0}}\n");
    EXPECT_NE(turn("again").find("result"), std::string::npos);
}

TEST(Chat, plus_plus_plus_needs_silence_around_it) {
    Bench b(true);
    b.say("ATE0\rAT#CHAT\r");
    b.now += 500;
    EXPECT_NE(b.say("+++\r").find("+++"), std::string::npos);  // part of a turn: answered, not an escape
    b.now += 1500;
    EXPECT_EQ(b.say("+++"), "");
    b.now += 500;
    EXPECT_EQ(b.say(""), "");
    b.now += 600;
    EXPECT_EQ(b.say(""), "\r\nOK\r\n");
    EXPECT_EQ(b.say("AT\r"), "\r\nOK\r\n");
}

TEST(Line, half_a_line_dies_after_30_seconds) {
    Bench b(true);
    b.say("ATE0\r");
    b.say("AT#GE");
    b.now += 29999;
    b.say("");
    EXPECT_TRUE(b.session.wants_time());
    b.now += 1;
    b.say("");
    EXPECT_FALSE(b.session.wants_time());
    EXPECT_EQ(b.say("N=\"a\"\r"), "");
    EXPECT_EQ(b.say("AT\r"), "\r\nOK\r\n");
}

TEST(Line, too_long_is_swallowed_then_257) {
    for (const std::size_t n : {250u, 251u, 252u, 253u, 254u, 300u, 5000u}) {
        Bench b(true);
        b.say("ATE0\r");
        const std::string r = b.say("AT#GEN=\"" + std::string(n, 'x') + "\"\r");
        if (n + 9 <= 255) {
            EXPECT_EQ(b.host.submitted.size(), 1u) << n;
        } else
            EXPECT_EQ(r, "\r\n+CME ERROR: 257\r\n") << n;
        EXPECT_EQ(b.say("AT\r"), "\r\nOK\r\n");
    }
}

TEST(Line, escape_recovers_from_any_state) {
    const char* const states[] = {"AT#GEN\r",     "AT#GEN\rsome text", "AT#GEN=\"abc",  "{\"jsonrpc\":",
                                  "\x06\x09zzzz", "AT#CHAT\r",         "AT#GEN=\"a\"\r"};
    for (const char* s : states) {
        Bench b(true);
        b.host.step = 0;
        b.say("ATE0\r");
        b.say(s);
        if (std::string_view(s) == "AT#CHAT\r") b.say("\x1a");
        b.say("\x1b\r");
        EXPECT_TRUE(b.say("AT\r").ends_with("\r\nOK\r\n")) << s;
        EXPECT_EQ(b.host.live(), 0) << s;
    }
}

TEST(Line, a_command_typed_during_an_answer_waits_for_it) {
    Bench b(true);
    b.say("ATE0\r");
    const std::string r = b.say("AT#GEN=\"a\"\rAT#CTX?\r");
    EXPECT_LT(r.find("#GEN: "), r.find("#CTX: "));
    EXPECT_TRUE(r.ends_with("#CTX: 0,2048\r\n\r\nOK\r\n")) << r;
}

TEST(Line, cancel_keys_end_the_answer_with_52) {
    for (const char* key : {"\x1b", "\x03", "\x18"}) {
        Bench b(true);
        b.host.step = 0;
        b.say("ATE0\rAT#GEN=\"a\"\r");
        EXPECT_EQ(b.host.live(), 1);
        EXPECT_EQ(b.say(key), "\r\n+CME ERROR: 52\r\n");
        EXPECT_EQ(b.host.live(), 0);
    }
}

TEST(Line, queue_place_is_told) {
    Bench b(true);
    b.host.step = 0;
    b.host.queue_place = 2;
    EXPECT_NE(b.say("AT#GEN=\"a\"\r").find("#Q: 2\r\n"), std::string::npos);
    b.host.queue_place = 1;
    EXPECT_EQ(b.say(""), "#Q: 1\r\n");
}

TEST(Line, stop_answers_269_to_everyone) {
    Bench b(false);
    b.host.step = 0;
    b.say("AT#GEN=\"a\"\r{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"gen\",\"params\":{\"prompt\":\"b\"}}\n");
    b.session.stop();
    const std::string r = b.drain();
    EXPECT_NE(r.find("+CME ERROR: 269"), std::string::npos);
    EXPECT_NE(r.find("\"code\":269"), std::string::npos);
    EXPECT_EQ(b.host.live(), 0);
}

TEST(Slow, a_client_that_never_reads_stops_its_own_input_and_answer) {
    Bench b(false);
    b.host.step = 1000;
    std::string many;
    for (int i = 0; i < 500; i++) many += "AT#HELP\r";
    std::size_t taken = 0;
    for (int i = 0; i < 100; i++) {
        taken += b.session.feed(std::string_view(many).substr(taken), b.now);
        b.session.pump(b.now);
    }
    EXPECT_LT(taken, many.size() / 10);
    std::string all;
    for (int i = 0; i < 100000 && (taken < many.size() || !b.session.output().empty()); i++) {
        all += b.drain();
        b.session.pump(b.now);
        taken += b.session.feed(std::string_view(many).substr(taken), b.now);
        b.session.pump(b.now);
    }
    std::size_t oks = 0;
    for (std::size_t at = all.find("\r\nOK\r\n"); at != std::string::npos; at = all.find("\r\nOK\r\n", at + 1)) oks++;
    EXPECT_EQ(oks, 500u);  // nothing was lost
}

TEST(Check, a_command_with_any_flipped_bits_is_never_executed) {
    std::mt19937 random(1);
    int refused = 0;
    for (int round = 0; round < 20000; round++) {
        Bench b(true, 512);
        b.session.feed("AT#CRC=1\r", 0);
        b.drain();
        std::string command = crc("AT#GEN=\"pump pressure 3.1 bar, ok?\",16");
        const int flips = 1 + static_cast<int>(random() % 3);
        for (int i = 0; i < flips; i++) command[random() % command.size()] ^= static_cast<char>(1 << random() % 8);
        if (command == crc("AT#GEN=\"pump pressure 3.1 bar, ok?\",16")) continue;
        b.session.feed(command + "\r", 0);
        EXPECT_TRUE(b.host.submitted.empty()) << command;
        refused += b.drain().find("256") != std::string::npos;
    }
    EXPECT_GT(refused, 10000);
}

TEST(Check, garbage_before_a_checked_command_does_no_harm) {
    for (const char* garbage : {"", "xx", "AT", "AT#", "at+", "ATAT", "\xff\x01 AT#GEN=\"", "*1234"}) {
        Bench b(true);
        b.say("AT#CRC=1\r");
        b.say(garbage + crc("AT#GEN=\"hi\"") + "\r");
        ASSERT_EQ(b.host.submitted.size(), 1u) << garbage;
        EXPECT_EQ(b.host.submitted[0], "hi");
    }
}

// Bits flip both ways; the client's rules are in mcu.h. What it accepts must be the whole text.
TEST(Window, a_noisy_wire_delivers_the_whole_text_or_nothing) {
    std::mt19937 random(7);
    int accepted = 0, naks = 0, damaged = 0, tries = 0;
    for (int round = 0; round < 300; round++) {
        const double rate = round % 3 == 0 ? 0 : round % 3 == 1 ? 3e-4 : 2e-3;
        std::bernoulli_distribution flip(rate);
        const auto noisy = [&](std::string s) {
            for (char& c : s)
                for (int bit = 0; bit < 8; bit++)
                    if (flip(random)) c ^= static_cast<char>(1 << bit);
            return s;
        };
        Bench b(true);
        b.host.step = 4;
        Mcu mcu;
        b.say("ATE0\rAT#CRC=1\r" + crc("AT#WIN=" + std::to_string(1 + round % 4)) + "\r" + crc("AT#W=56") + "\r");
        const std::string prompt = "round " + std::to_string(round) + " says: the pump is fine, the valve too";
        bool done = false;
        for (int attempt = 0; attempt < 20 && !done; attempt++) {
            tries++;
            mcu.generate(prompt, 16);
            for (int idle = 0; idle < 40 && !done;) {
                const std::string in = noisy(std::exchange(mcu.out, {}));
                std::string_view rest = in;
                rest.remove_prefix(b.session.feed(rest, b.now));
                b.host.advance();
                b.session.pump(b.now);
                const std::string out = noisy(b.drain());
                for (const char c : out) done |= mcu.byte(c) == Mcu::Got::generated;
                b.now += 100;
                idle = in.empty() && out.empty() ? idle + 1 : 0;
                if (idle == 15 && mcu.generating && mcu.expected > 1) mcu.nak();  // nothing for 1.5 s
            }
        }
        if (rate == 0) {
            EXPECT_TRUE(done);
            EXPECT_EQ(mcu.naks, 0);
        }
        if (done) {
            accepted++;
            ASSERT_EQ(mcu.text, FakeHost::answer_to(prompt)) << "round " << round;
        }
        naks += mcu.naks, damaged += mcu.damaged;
    }
    EXPECT_GT(accepted, 290);
    EXPECT_GT(naks, 100);
    EXPECT_GT(damaged, 100);
}

TEST(Window, no_acknowledgement_for_8_seconds_ends_with_267) {
    Bench b(true);
    b.say("ATE0\rAT#CRC=1\r" + crc("AT#WIN=1") + "\r" + crc("AT#GEN=\"a\"") + "\r");
    int resent = 0;
    std::string r;
    for (int i = 0; i < 90 && r.find("267") == std::string::npos; i++) {
        b.now += 100;
        r = b.say("");
        resent += r.find("#TOK") != std::string::npos;
    }
    EXPECT_EQ(resent, 3);
    EXPECT_NE(r.find("+CME ERROR: 267"), std::string::npos);
    EXPECT_EQ(b.host.live(), 0);
}

TEST(Noise, random_bytes_never_break_a_session) {
    std::mt19937 random(3);
    const char* const words[] = {"AT",
                                 "AT#GEN=\"",
                                 "\"\r",
                                 "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"",
                                 "gen\",\"params\":{\"prompt\":\"x\"}}\n",
                                 "\x1b",
                                 "\x06",
                                 "\x15",
                                 "AT#CRC=1\r",
                                 "AT#CHAT\r",
                                 "\x1a",
                                 "+++",
                                 "AT#WIN=3*",
                                 "\\x",
                                 "AT#HELP\r",
                                 "rpc.discover\"}\n",
                                 "AT#SET=\"stop\",\"",
                                 "\xf0\x9f"};
    for (int round = 0; round < 400; round++) {
        Bench b(round % 2 == 0, 512 + random() % 4096);
        for (int i = 0; i < 300; i++) {
            std::string bytes = random() % 3 == 0 ? std::string(1 + random() % 20, static_cast<char>(random()))
                                                  : words[random() % std::size(words)];
            b.now += random() % 2000;
            std::string_view rest = bytes;
            for (int k = 0; k < 20 && !rest.empty(); k++) {
                rest.remove_prefix(b.session.feed(rest, b.now));
                b.host.advance();
                b.session.pump(b.now);
                if (random() % 2) b.drain();
            }
        }
        b.drain();
        b.session.close();
        EXPECT_EQ(b.host.live(), 0);
    }
}

TEST(Json, reads_what_is_json_and_nothing_else) {
    JsonLine reader;
    const auto parse = [&](std::string s) {
        std::string copy = s;
        const bool ok = bool(reader.parse(copy));
        EXPECT_EQ(ok, json::accept(s)) << s;
        return ok;
    };
    for (const char* s : {"1",
                          "-0.5e+10",
                          "01",
                          "1.",
                          ".5",
                          "+1",
                          "1e",
                          "\"\\u00e9\\ud83d\\ude00\"",
                          "\"\\ud83d\"",
                          "\"\\ude00\"",
                          "\"\\x\"",
                          "\"a",
                          "\"\t\"",
                          "[1,2,]",
                          "{\"a\":1,}",
                          "{\"a\" 1}",
                          "{a:1}",
                          "[",
                          "]",
                          "tru",
                          "true",
                          "null",
                          "nul",
                          "true false",
                          "{\"a\":{\"b\":[1,{\"c\":null}]}}",
                          "",
                          " ",
                          "\"\xff\"",
                          "\"\xc3\xa9\"",
                          "\"\xc3\"",
                          "[[[[[[[1]]]]]]]",
                          "\"\xed\xa0\x80\"",
                          "\"\xc0\x80\""})
        parse(s);
    std::string deep = "[[[[[[[[1]]]]]]]]", wide = "[0";
    EXPECT_FALSE(reader.parse(deep));
    for (int i = 0; i < JsonLine::max_nodes - 2; i++) wide += ",0";
    std::string widest = wide + "]";
    EXPECT_TRUE(reader.parse(widest));
    wide += ",0]";
    EXPECT_FALSE(reader.parse(wide));
    std::string s = R"({"a":"x\u00e9\ud83d\ude00\n\"","b":[1,2,{"c":3}],"d":-1.5e2,"a":"last"})";
    ASSERT_TRUE(reader.parse(s));
    EXPECT_EQ(reader.find(reader.root(), "a")->text, "last");
    EXPECT_EQ(reader.find(reader.root(), "d")->number, -150);
    EXPECT_EQ(reader.find(reader.root(), "d")->text, "-1.5e2");
    EXPECT_EQ(reader.find(reader.root(), "c"), nullptr);
    EXPECT_EQ(reader.node(reader.first(reader.root())).text, "x\xC3\xA9\xF0\x9F\x98\x80\n\"");
}

TEST(Json, mutated_requests_agree_with_a_full_parser) {
    std::mt19937 random(5);
    JsonLine reader;
    const std::string seed =
        R"({"jsonrpc":"2.0","id":"x\u00e9","method":"gen","params":{"prompt":"a\"b","stop":["\n","b"],"temp":0.5,"stream":true}})";
    int accepted = 0;
    for (int i = 0; i < 20000; i++) {
        std::string s = seed;
        for (unsigned k = 0; k <= random() % 3; k++) {
            const std::size_t at = random() % s.size();
            if (random() % 2)
                s.erase(at, 1 + random() % 3);
            else
                s.insert(at, 1, "{}[],:\"\\0123456789.eE-+truefalsn \t"[random() % 35]);
        }
        std::string copy = s;
        const bool ours = bool(reader.parse(copy)), theirs = json::accept(s);
        EXPECT_EQ(ours, theirs) << s;
        accepted += ours;
    }
    EXPECT_GT(accepted, 500);
}
