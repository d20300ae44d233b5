// Agents as slmd runs them: their answers, checks and verdicts, on both wires; files that are bad, and that change.
#include "../wire/mcu.h"
#include "harness.h"

using namespace slmd::testing;
using slmd::wire::Mcu;

namespace {

const std::string& agents_folder() {
    static const std::string path = [] {
        const std::string p = folder() + "/agents";
        std::filesystem::create_directory(p);
        return p;
    }();
    return path;
}

void write_agent(const std::string& name, const std::string& text) {
    std::ofstream(agents_folder() + "/" + name + ".toml") << text;
}

constexpr char yes_no[] = R"(
description = "Yes or no"
system = "You answer: {labels}."
prompt = "{question} Yes or no?"
input.question = { max = 100 }
output = { choice = ["yes", "no"], none = true }

[[example]]
input = "Is Paris in France?"
output = "yes"
show = true

[[example]]
input = "Is Rome in France?"
output = "no"
)";

constexpr char taker[] = R"(
description = "A word of a text"
prompt = "{text} ({n}) Which word?"
escalate = "fail"

[input.text]
max = 200
[input.n]
type = "integer"
min = 1
max = 9

[output]
schema = '{"type":"object","required":["word","n"],"additionalProperties":false,"properties":{"word":{"type":"string","from":"source","minLength":1,"maxLength":12},"n":{"type":"integer","minimum":0,"maximum":99}}}'
source = "text"

[limits]
max_tokens = 60

[[check]]
kind = "source"
at = "/word"

[[check]]
kind = "range"
at = "/n"
min = 100

[[check]]
kind = "agree"
at = "/n"
prompt = "Say a word of this: {text} {n}"
)";

constexpr char writer[] = "prompt = '{x}'\ninput.x = {}\noutput = { text = 10 }\n[[check]]\nkind = 'quotes'\n";

}  // namespace

TEST(Agents, choose_as_cls_does) {
    write_agent("yesno", yes_no);
    Daemon d({.arguments = {"--agents", agents_folder()}});
    Wire w = d.connect();
    const json r = w.call("run", {{"agent", "yesno"}, {"input", "Is Berlin in France?"}})["result"];
    ASSERT_TRUE(r.contains("label")) << r.dump();
    EXPECT_EQ(r["labels"].size(), 3u);
    EXPECT_EQ(r["confidence"], r["probability"]);
    EXPECT_EQ(r["calibrated"], false);
    EXPECT_EQ(r["verdict"], "pass");
    EXPECT_EQ(r["checks"], json::array());
    // the same again, from the cache: bit by bit
    const json again = w.call("run", {{"agent", "yesno"}, {"input", {{"question", "Is Berlin in France?"}}}})["result"];
    EXPECT_EQ(again["labels"], r["labels"]);
    d.tty.send("ATE0\r");
    d.tty.until("\r\nOK\r\n");
    d.tty.send("AT#RUN=\"yesno\",\"Is Berlin in France?\"\r");
    const std::string said = d.tty.until("\r\nOK\r\n");
    EXPECT_NE(said.find("#CLS: \"" + std::string(r["label"]) + "\","), std::string::npos) << said;
    EXPECT_NE(said.find("#RUN: \"pass\",0."), std::string::npos) << said;
    EXPECT_LT(said.size(), 255u) << said;

    EXPECT_EQ(w.call("run", {{"agent", "yesno"}, {"input", std::string(101, 'x')}})["error"]["message"],
              "question is 101 bytes; at most 100");
    EXPECT_EQ(w.call("run", {{"agent", "nobody"}, {"input", "x"}})["error"]["code"], 22);
    EXPECT_EQ(w.call("run", {{"agent", "yesno"}, {"input", {{"q", "x"}}}})["error"]["message"],
              "the agent has no field \"q\"");
    EXPECT_EQ(w.call("run", {{"agent", "yesno"}, {"input", "Slow?"}, {"deadline_ms", 0}})["result"]["finish"], "stop");
}

TEST(Agents, extract_check_and_compare) {
    write_agent("taker", taker);
    Daemon d({.arguments = {"--agents", agents_folder()}});
    Wire w = d.connect();
    for (int i = 1; i <= 5; i++) {
        const std::string text = "Paris and Rome are " + std::to_string(i * i) + " towns";
        const json r = w.call("run", {{"agent", "taker"}, {"input", {{"text", text}, {"n", i}}}})["result"];
        ASSERT_TRUE(r.contains("value")) << r.dump();
        const std::string word = r["value"]["word"];
        ASSERT_EQ(r["checks"].size(), 3u) << r.dump();
        EXPECT_EQ(r["checks"][1]["verdict"], "fail");                // nothing is above 99
        EXPECT_NE(r["checks"][2]["verdict"], "absent") << r.dump();  // the second prompt was asked
        EXPECT_EQ(r["verdict"], "fail");
        EXPECT_EQ(r["route"], "escalate");
        ASSERT_EQ(r["spans"].size(), 2u) << r.dump();
        EXPECT_EQ(r["spans"][0]["at"], "/word");
        const int begin = r["spans"][0]["begin"], end = r["spans"][0]["end"];
        EXPECT_EQ(text.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)), word);
    }
    d.tty.send("ATE0\r");
    d.tty.until("\r\nOK\r\n");
    d.tty.send(R"(AT#RUN="taker","{\"text\":\"Paris and Rome\",\"n\":2}")"
               "\r");
    const std::string said = d.tty.until("\r\nOK\r\n");
    EXPECT_NE(said.find("#TOK: \"{\\\"word\\\":"), std::string::npos) << said;
    EXPECT_NE(said.find("#CHK: \"range"), std::string::npos) << said;
    EXPECT_NE(said.find("#RUN: \"fail\","), std::string::npos) << said;
    d.tty.send(
        "AT#EXT=\"Paris and "
        "Rome\",\"{\\\"type\\\":\\\"string\\\",\\\"from\\\":\\\"source\\\",\\\"minLength\\\":1,\\\"maxLength\\\":9}"
        "\"\r");
    const std::string taken = d.tty.until("\r\nOK\r\n");
    EXPECT_NE(taken.find("#SPAN: \"\","), std::string::npos) << taken;
    const json e = w.call(
        "ext", {{"prompt", "Which? Paris and Rome"},
                {"source", "Paris and Rome"},
                {"schema", {{"type", "string"}, {"from", "source"}, {"minLength", 1}, {"maxLength", 9}}}})["result"];
    const std::string value = e["value"];
    EXPECT_EQ(std::string("Paris and Rome").find(value), e["spans"][0]["begin"]) << e.dump();
}

// Two agents in turn, as a microcontroller asks: every line checked, at 115200 bits a second, 255 bytes a reply.
TEST(Agents, answer_a_microcontroller_within_255_bytes) {
    write_agent("yesno", std::string(yes_no) + "[[check]]\nkind = 'lookup'\nname = 'known'\ntable = ['yes', 'no']\n" +
                             "[[check]]\nkind = 'agree'\nname = 'again'\nprompt = 'Yes or no: {question}'\n");
    write_agent("digits",
                "prompt = '{x}?'\ninput.x = { type = 'integer' }\noutput = { schema = "
                "'{\"type\":\"integer\",\"minimum\":0,\"maximum\":99}' }\n[[check]]\nkind = 'range'\nname = "
                "'small'\nmax = 50\n");
    Daemon d({.arguments = {"--agents", agents_folder()}});
    termios line;
    tcgetattr(d.tty.fd(), &line);
    EXPECT_EQ(cfgetospeed(&line), static_cast<speed_t>(B115200));
    Mcu mcu;
    std::size_t bytes = 0;
    const auto until = [&](Mcu::Got wanted) {
        d.tty.send(std::exchange(mcu.out, {}));
        for (int silence = 0; silence < 50;) {
            const std::string s = d.tty.some(200);
            silence += s.empty();
            bool got = false;
            for (const char c : s) got = mcu.byte(c) == wanted || got;
            if (mcu.fence.empty()) bytes += s.size();
            if (got) return true;
            d.tty.send(std::exchange(mcu.out, {}));
        }
        return false;
    };
    for (const char* setting : {"AT#CRC=1", "AT#WIN=2", "ATE0"}) {
        mcu.command(setting);
        ASSERT_TRUE(until(Mcu::Got::ok)) << setting;
    }
    for (int round = 0; round < 6; round++) {
        round % 2 == 0 ? mcu.run("yesno", "Is Berlin in France?") : mcu.run("digits", std::to_string(round));
        while (!mcu.fence.empty()) {
            d.tty.send(std::exchange(mcu.out, {}));
            for (const char c : d.tty.some()) mcu.byte(c);
        }
        bytes = 0;
        ASSERT_TRUE(until(Mcu::Got::generated)) << mcu.line;
        for (std::string rest; !(rest = d.tty.some(200)).empty();) bytes += rest.size();
        EXPECT_LE(bytes, 255u) << mcu.text << mcu.evidence << mcu.closing;
        EXPECT_EQ(mcu.closing.rfind("#RUN: \"", 0), 0u) << mcu.closing;
        if (round % 2 == 0) {
            EXPECT_EQ(mcu.evidence.rfind("#CLS: \"", 0), 0u) << mcu.evidence;
            EXPECT_NE(mcu.evidence.find("#CHK: \"known\",\""), std::string::npos) << mcu.evidence;
            EXPECT_NE(mcu.evidence.find("#CHK: \"again\",\""), std::string::npos) << mcu.evidence;
        } else {
            EXPECT_LE(std::stoi(mcu.text), 99);
            EXPECT_EQ(mcu.evidence.rfind("#CHK: \"small\",\"", 0), 0u) << mcu.evidence;
        }
    }
}

TEST(Agents, write_within_their_bytes) {
    write_agent("writer", writer);
    Daemon d({.arguments = {"--agents", agents_folder()}});
    Wire w = d.connect();
    bool cut = false;
    for (const char* x : {"Say something long.", "What is the capital of France?", "Count to one hundred."}) {
        const json r = w.call("run", {{"agent", "writer"}, {"input", x}})["result"];
        EXPECT_LE(std::string(r["text"]).size(), 10u) << r.dump();
        EXPECT_EQ(r["verdict"] == "unsure", r["finish"] == "length") << r.dump();
        cut = cut || r["finish"] == "length";
    }
    EXPECT_TRUE(cut);
}

TEST(Agents, that_are_bad_say_why_and_leave_the_others_alone) {
    write_agent("yesno", yes_no);
    write_agent("torn", "prompt = '{x}'\ninput.x = {}\noutput = { choices = [] }\n");
    write_agent("foreign", std::string("model = 'Another'\n") + writer);
    Daemon d({.arguments = {"--agents", agents_folder()}});
    Wire w = d.connect();
    const auto list = [&] {
        std::map<std::string, json> all;
        const json agents = w.call("agent")["result"]["agents"];
        for (const json& a : agents) all[a["name"]] = a;
        return all;
    };
    auto all = list();
    EXPECT_EQ(all["yesno"]["description"], "Yes or no");
    const std::string why =
        agents_folder() +
        "/torn.toml:3: unknown key \"choices\"; known: choice, none, schema, text, must_call, told, source";
    EXPECT_EQ(all["torn"]["error"], why);
    EXPECT_EQ(w.call("run", {{"agent", "torn"}, {"input", "x"}})["error"]["message"], why);
    EXPECT_NE(slurp(d.log).find(why), std::string::npos);
    EXPECT_EQ(w.call("run", {{"agent", "foreign"}, {"input", "x"}})["error"]["code"], 258);
    EXPECT_TRUE(w.call("run", {{"agent", "yesno"}, {"input", "x"}}).contains("result"));

    // --check-config says the same and goes on; a folder that cannot be read leaves slmd without agents, and up
    const Ran checked = shell(slmd_path() + " --check-config --model " + tiny_image() + " --socket " + folder() +
                              "/c.sock --agents " + agents_folder());
    EXPECT_EQ(checked.code, 0) << checked.err;
    EXPECT_NE(checked.out.find("agents; bad: " + why), std::string::npos) << checked.out;
    {
        Daemon none({.arguments = {"--agents", "/dev/null"}});
        EXPECT_EQ(none.connect().call("agent")["result"]["agents"], json::array());
        EXPECT_NE(slurp(none.log).find("agents in /dev/null: "), std::string::npos) << slurp(none.log);
    }

    // mended, changed, gone: from the next reload on, also while one is at work
    write_agent("torn", writer);
    write_agent("yesno", std::string(yes_no).replace(16, 9, "No or yes"));
    std::filesystem::remove(agents_folder() + "/foreign.toml");
    for (int i = 0; i < 4; i++) {
        w.send(
            json{{"jsonrpc", "2.0"}, {"id", "r"}, {"method", "run"}, {"params", {{"agent", "yesno"}, {"input", "x"}}}}
                .dump() +
            "\n");
        kill(d.pid(), SIGHUP);
        EXPECT_TRUE(w.reply("r").contains("result"));
        for (int k = 0; k < 600; k++) {
            all = list();
            if (!all.count("foreign") && all["yesno"]["description"] == "No or yes") break;
            usleep(100'000);
        }
        EXPECT_EQ(all["yesno"]["description"], "No or yes");
        EXPECT_EQ(all.count("foreign"), 0u);
        EXPECT_TRUE(w.call("run", {{"agent", "torn"}, {"input", "x"}}).contains("result"));
    }
}

TEST(Slmctl, runs_agents) {
    write_agent("yesno", yes_no);
    write_agent("taker", taker);
    write_agent("writer", writer);
    Daemon d({.arguments = {"--agents", agents_folder()}});
    const std::string on_socket = slmctl_path() + " -s " + d.socket + " ", f = agents_folder() + "/";
    EXPECT_NE(shell(on_socket + "agent list").out.find("yesno            choice   not calibrated Yes or no\n"),
              std::string::npos);
    EXPECT_NE(shell(on_socket + "agent show yesno").out.find(f + "yesno.toml"), std::string::npos);
    Ran r = shell(on_socket + "agent run yesno 'Is Berlin in France?'");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.err.find("pass, confidence 0."), std::string::npos) << r.err;
    r = shell(on_socket + "agent run taker '{\"text\":\"Paris and Rome\",\"n\":2}'");
    EXPECT_EQ(r.code, 4) << r.err;
    EXPECT_TRUE(json::accept(r.out)) << r.out;
    EXPECT_NE(r.err.find("fail, confidence"), std::string::npos) << r.err;
    r = shell("echo 'Is it?' | " + on_socket + "agent run yesno --json");
    EXPECT_EQ(json::parse(r.out)["result"]["verdict"], "pass");
    r = shell(on_socket + "agent bench yesno");
    EXPECT_NE(r.out.find("yesno: 1 inputs, "), std::string::npos) << r.out << r.err;
    std::ofstream(folder() + "/lines") << "{\"input\":\"Is it?\",\"output\":\"yes\"}\n\n{\"input\":{\"question\":\"Is "
                                          "it?\"},\"output\":\"no\"}\n";
    r = shell(on_socket + "agent bench yesno " + folder() + "/lines");
    EXPECT_NE(r.out.find("yesno: 2 inputs, "), std::string::npos) << r.out << r.err;
    std::ofstream(folder() + "/lines") << "{\"input\":\"Is it?\"}\n";
    r = shell(on_socket + "agent bench yesno " + folder() + "/lines");
    EXPECT_EQ(r.code, 1);
    EXPECT_NE(r.err.find("lines:1: a line is {"), std::string::npos) << r.err;
    EXPECT_EQ(shell(on_socket + "agent bench writer").code, 1);
    EXPECT_EQ(shell(on_socket + "agent run nobody x").code, 1);
    EXPECT_EQ(shell(on_socket + "agent").code, 64);
    EXPECT_EQ(shell(on_socket + "agent fly yesno").code, 64);
    EXPECT_EQ(shell(slmctl_path() + " agent check " + f + "yesno.toml " + f + "taker.toml").code, 0);
    write_agent("torn", "prompt = 1");
    r = shell(slmctl_path() + " agent check " + f + "yesno.toml " + f + "torn.toml");
    EXPECT_EQ(r.code, 1);
    EXPECT_EQ(r.err, f + "torn.toml:1: there is no [output]\n");
    EXPECT_NE(r.out.find("yesno.toml: good: 1 fields, 3 labels, 0 checks, 2 examples (1 shown)"), std::string::npos);
    std::ofstream(folder() + "/schema.json") << R"({"type":"string","from":"source","minLength":1,"maxLength":9})";
    r = shell(on_socket + "--schema " + folder() + "/schema.json extract 'Paris and Rome'");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.err.find(": bytes "), std::string::npos) << r.err;
    EXPECT_EQ(shell(on_socket + "extract 'Paris'").code, 64);
}

// Calibrated on answers of known worth, reloaded, watched, and given up when the agent's text changes.
TEST(Agents, are_calibrated_and_watched) {
    write_agent("yesno", yes_no);
    Daemon d({.arguments = {"--agents", agents_folder()}});
    Wire w = d.connect();
    const std::string lines = folder() + "/judged.jsonl", on_socket = slmctl_path() + " -s " + d.socket + " ";
    {
        std::ofstream f(lines);
        for (int i = 0; i < 60; i++) {
            const std::string input = "Is number " + std::to_string(i) + " a prime?";
            const json r = w.call("run", {{"agent", "yesno"}, {"input", input}})["result"];
            // every third one is called wrong
            const std::string label = r["label"], other = label == "yes" ? "no" : "yes";
            f << json{{"input", input}, {"output", i % 3 == 0 ? other : label}}.dump() << "\n";
        }
    }
    Ran r = shell(on_socket + "calibrate yesno " + lines);
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.out.find("60 judged answers, 66.7 % of them right"), std::string::npos) << r.out;
    EXPECT_NE(slurp(agents_folder() + "/yesno.svg").find("<svg"), std::string::npos);
    const auto reload = [&](const auto& until) {
        kill(d.pid(), SIGHUP);
        for (int k = 0; k < 600; k++) {
            if (until(w.call("agent", {{"name", "yesno"}})["result"])) return true;
            usleep(100'000);
        }
        return false;
    };
    ASSERT_TRUE(reload([](const json& a) { return a["calibrated"] == true; })) << slurp(d.log);
    const json answer = w.call("run", {{"agent", "yesno"}, {"input", "Is number 7 a prime?"}})["result"];
    EXPECT_EQ(answer["calibrated"], true);
    EXPECT_NEAR(double(answer["confidence"]), 0.667, 0.25);
    EXPECT_NE(answer["confidence"], answer["probability"]);
    EXPECT_EQ(w.call("agent", {{"name", "yesno"}})["result"]["answers"], 1);

    // the same question again and again is not what it was calibrated with
    d.tty.send("ATE0\rAT#EVT=4\r");
    d.tty.until("\r\nOK\r\n"), d.tty.until("\r\nOK\r\n");
    for (int i = 0; i < 150; i++)
        ASSERT_TRUE(w.call("run", {{"agent", "yesno"}, {"input", "Is Berlin in France?"}}).contains("result"));
    d.tty.until("#EVT: \"DRIFT\",\"yesno\",");
    EXPECT_GT(double(w.call("agent", {{"name", "yesno"}})["result"]["drift"]), 0.25);

    // slmctl does not calibrate a text that slmd has not read; slmd does not use a calibration of another text
    write_agent("yesno", std::string(yes_no) + "\n# another\n");
    r = shell(on_socket + "calibrate yesno " + lines);
    EXPECT_EQ(r.code, 1);
    EXPECT_NE(r.err.find("slmd has another text of it; systemctl reload slmd first"), std::string::npos) << r.err;
    EXPECT_TRUE(reload([](const json& a) { return a["calibrated"] == false; }));
    EXPECT_NE(slurp(d.log).find("yesno.toml: "), std::string::npos);
    std::ofstream(agents_folder() + "/yesno.calibration") << "nonsense";
    EXPECT_TRUE(reload([](const json& a) { return a["calibrated"] == false; }));
    EXPECT_EQ(w.call("run", {{"agent", "yesno"}, {"input", "x"}})["result"]["calibrated"], false);
    std::filesystem::remove(agents_folder() + "/yesno.calibration");
    r = shell(on_socket + "calibrate yesno /nowhere");
    EXPECT_EQ(r.code, 1);
    EXPECT_EQ(shell(on_socket + "calibrate yesno").code, 64);
}

// What is the same for every call is computed once, not once a start; and it never changes an answer.
TEST(Agents, have_the_beginning_of_their_prompt_kept) {
    const std::string state = folder() + "/kept";
    std::filesystem::create_directory(state);
    std::string labels;
    for (int i = 0; i < 24; i++) labels += "rule " + std::to_string(i) + ": a relay clicks. ";
    write_agent("ruled", "system = '" + labels +
                             "'\nprompt = 'Is it so? {x}'\ninput.x = {}\noutput = { choice = ['yes', 'no'] }\n");
    const DaemonOptions options{.arguments = {"--agents", agents_folder(), "--state", state}, .image = roomy_image()};
    const auto ask = [](Daemon& d, const char* what) {
        Wire w = d.connect();
        const json r = w.call("run", {{"agent", "ruled"}, {"input", what}});
        EXPECT_TRUE(r.contains("result")) << r.dump();
        return r["result"].value("labels", json());
    };
    const auto kept = [&](const std::string& where = "") {
        std::vector<std::string> files;
        for (const auto& e : std::filesystem::directory_iterator(where.empty() ? state : where))
            if (e.path().extension() == ".kv") files.push_back(e.path());
        return files;
    };
    const auto said = [](const Daemon& d, const char* what) {
        for (int i = 0; i < patience_ms / 20; i++, usleep(20'000))
            if (slurp(d.log).find(what) != std::string::npos) return true;
        return false;
    };
    json first, other;
    {
        Daemon d(options);
        first = ask(d, "A relay clicks"), other = ask(d, "It rains");
        EXPECT_TRUE(said(d, "of an agent's prompt are kept for the next start")) << slurp(d.log);
        EXPECT_EQ(kept().size(), 1u);
    }
    {
        Daemon d(options);
        EXPECT_EQ(ask(d, "It rains"), other);
        EXPECT_NE(slurp(d.log).find("agent ruled: "), std::string::npos) << slurp(d.log);
        EXPECT_NE(slurp(d.log).find("of its prompt were kept, read in"), std::string::npos) << slurp(d.log);
        EXPECT_EQ(ask(d, "A relay clicks"), first);
    }
    {  // from the image, at the first start of another board; nothing is written then
        const std::string image = folder() + "/baked.slm", elsewhere = folder() + "/elsewhere";
        std::filesystem::create_directory(elsewhere);
        const Ran r =
            shell(std::string(SLMD_BUILD "/slmpack prefixes ") + roomy_image() + " " + kept().at(0) + " -o " + image);
        ASSERT_EQ(r.code, 0) << r.err;
        EXPECT_NE(r.out.find("1 beginnings of prompts, "), std::string::npos) << r.out;
        DaemonOptions other_board = options;
        other_board.image = image;
        other_board.arguments = {"--agents", agents_folder(), "--state", elsewhere};
        Daemon d(other_board);
        EXPECT_EQ(ask(d, "It rains"), other);
        EXPECT_NE(slurp(d.log).find("of its prompt were kept, read in"), std::string::npos) << slurp(d.log);
        EXPECT_EQ(ask(d, "A relay clicks"), first);
        EXPECT_TRUE(kept(elsewhere).empty());
    }
    {  // damaged: said aloud, made again, and the answers are the same
        std::string bytes = slurp(kept().at(0));
        bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
        std::ofstream(kept().at(0), std::ios::binary) << bytes;
        Daemon d(options);
        EXPECT_EQ(ask(d, "A relay clicks"), first);
        EXPECT_NE(slurp(d.log).find("it is removed, and made again"), std::string::npos) << slurp(d.log);
        EXPECT_TRUE(said(d, "of an agent's prompt are kept for the next start"));
        EXPECT_EQ(kept().size(), 1u);
        EXPECT_NE(slurp(kept().at(0)), bytes);
    }
    {  // a folder that is not there
        std::filesystem::remove_all(state);
        Daemon d(options);
        EXPECT_EQ(ask(d, "A relay clicks"), first);
        EXPECT_NE(slurp(d.log).find("prompts of agents are read anew after each start"), std::string::npos);
    }
}

TEST(Agents, whose_prompt_is_the_wrong_way_round_are_told) {
    write_agent("turned", "prompt = '{x} " + std::string(300, 'y') + "'\ninput.x = {}\noutput.text = 9\n");
    const Ran r = shell(slmctl_path() + " agent check " + agents_folder() + "/turned.toml");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE((r.out + r.err).find("turned.toml:1: {x} stands before 301 bytes that are the same for every call"),
              std::string::npos)
        << r.out << r.err;
    std::filesystem::remove(agents_folder() + "/turned.toml");
}

TEST(Agents, in_a_pipeline_answer_one_after_the_other) {
    write_agent("yesno", yes_no);
    write_agent("both_ways", R"(
description = "Asks twice"
[[step]]
name = "first"
agent = "yesno"
next = ["again", "other"]
[[step]]
name = "again"
agent = "yesno"
input = "Is {first} a word in {input}"
next = "end"
[[step]]
name = "other"
agent = "nine"
next = "end"
)");
    write_agent("nine", "prompt = '{x}'\ninput.x = {}\noutput.text = 9\n");
    Daemon d({.arguments = {"--agents", agents_folder()}});
    Wire w = d.connect();
    for (int i = 0; i < 20; i++) {
        const json reply = w.call("run", {{"agent", "both_ways"}, {"input", "Paris?"}});
        ASSERT_TRUE(reply.contains("result")) << reply.dump();
        const json r = reply["result"];
        ASSERT_EQ(r["steps"].size(), 3u) << r.dump();
        EXPECT_EQ(r["steps"][0]["name"], "first");
        EXPECT_EQ(r["steps"][0]["answer"], w.call("run", {{"agent", "yesno"}, {"input", "Paris?"}})["result"]["label"]);
        EXPECT_EQ(r["finish"], "stop");
        EXPECT_TRUE(r["text"].is_string());
    }
    EXPECT_EQ(w.call("agent", {{"name", "both_ways"}})["result"]["answer"], "pipeline");
    d.tty.send("ATE0\r");
    d.tty.until("\r\nOK\r\n");
    d.tty.send("AT#RUN=\"both_ways\",\"Paris?\"\r");
    const std::string said = d.tty.until("\r\nOK\r\n");
    EXPECT_NE(said.find("#STEP: \"first\",\"pass\",0."), std::string::npos) << said;
    EXPECT_NE(said.find("#STEP: \"other\","), std::string::npos) << said;
    // clients that leave, and a reload in the middle: nothing is lost, nothing hangs
    for (int i = 0; i < 8; i++) {
        Wire other = d.connect();
        other.send(R"({"jsonrpc":"2.0","id":1,"method":"run","params":{"agent":"both_ways","input":"Rome?"}})"
                   "\n");
        if (i % 3 == 0) kill(d.pid(), SIGHUP);
        usleep(2000);
    }
    EXPECT_TRUE(w.call("run", {{"agent", "both_ways"}, {"input", "Paris?"}}).contains("result"));

    const std::string file = agents_folder() + "/both_ways.toml";
    const Ran drawn = shell(slmctl_path() + " agent graph " + file);
    EXPECT_EQ(drawn.code, 0) << drawn.err;
    EXPECT_NE(drawn.out.find("</svg>"), std::string::npos);
    EXPECT_EQ(shell(slmctl_path() + " agent check " + file).out, file + ": good: a pipeline of 3 steps\n");
    EXPECT_EQ(shell(slmctl_path() + " agent graph " + agents_folder() + "/nine.toml").err,
              "slmctl: " + agents_folder() + "/nine.toml: an agent, and no pipeline: it has no [[step]]\n");
    std::filesystem::remove(file);
}
