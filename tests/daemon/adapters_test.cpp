// Adapters in a real slmd: named by requests and agents on both wires, never mixed in a slot, planned, checked and
// refused.
#include "adapters.h"

using namespace slmd::testing;

namespace {

constexpr char france[] = "What is the capital of France?";

std::vector<std::string> arguments(int n) {
    std::vector<std::string> a;
    for (int i = 1; i <= n; i++) {
        a.push_back("--adapter");
        a.push_back("a" + std::to_string(i) + "=" + adapter_image(static_cast<unsigned>(i)));
    }
    return a;
}

std::string ask(Wire& w, const std::string& prompt, const std::string& adapter) {
    json params = {{"prompt", prompt}, {"max", 24}, {"bias", endless()}};
    if (!adapter.empty()) params["adapter"] = adapter;
    return w.call("gen", params)["result"].value("text", "(no text)");
}

void expect_part(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" in: " << text;
}

// A configuration of the tiny model; its first line is the model's.
std::string configuration(const std::string& more) {
    static int number = 0;
    const std::string path = folder() + "/adapters-" + std::to_string(++number) + ".toml";
    std::ofstream(path) << "model = \"" << tiny_image() << "\"\n" << more;
    return path;
}
std::string section(const std::string& name, const std::string& path) {
    return "[[adapter]]\nname = \"" + name + "\"\npath = \"" + path + "\"\n";
}
Ran check(const std::string& config, const std::string& more = "") {
    return shell(slmd_path() + " --check-config --config " + config + " --socket " + folder() + "/check.sock " + more);
}

}  // namespace

// What each adapter says alone, on a fresh slmd, it says between the others, in whatever order.
TEST(Adapters, requests_switch_and_slots_do_not_mix) {
    std::map<std::string, std::string> alone;
    for (const std::string adapter : {"", "a1", "a2", "a3"}) {
        Daemon d({.arguments = arguments(3), .tty = false});
        Wire w = d.connect();
        alone[adapter] = ask(w, france, adapter);
    }
    for (const auto& [one, text] : alone)
        for (const auto& [other, said] : alone) EXPECT_TRUE(one == other || text != said) << one << ", " << other;
    auto with_draft = arguments(3);
    with_draft.insert(with_draft.end(), {"--draft-model", tiny_image()});  // guesses without any adapter
    auto streamed = arguments(3);
    streamed.push_back("--stream");
    for (const auto& a : {arguments(3), with_draft, streamed}) {
        Daemon d({.arguments = a, .tty = false});
        Wire w = d.connect();
        for (const std::string adapter : {"a1", "", "a2", "a1", "a1", "a3", "", "a2"})
            EXPECT_EQ(ask(w, france, adapter), alone[adapter]) << adapter;
        // all at once
        const std::vector<std::string> order = {"a2", "", "a1", "a3"};
        for (std::size_t i = 0; i < order.size(); i++) {
            json params = {{"prompt", france}, {"max", 24}, {"bias", endless()}, {"adapter", order[i]}};
            w.send(json{{"jsonrpc", "2.0"}, {"id", i}, {"method", "gen"}, {"params", params}}.dump() + "\n");
        }
        std::map<std::size_t, std::string> got;
        while (got.size() < order.size()) {
            const json l = w.line();
            got[l["id"]] = l["result"].value("text", "(no text)");
        }
        for (std::size_t i = 0; i < order.size(); i++) EXPECT_EQ(got[i], alone[order[i]]) << order[i];
    }
}

TEST(Adapters, every_verb_names_one_on_both_wires) {
    Daemon d({.arguments = arguments(2)});
    Wire w = d.connect();
    const json listed = w.call("adapter")["result"]["adapters"];
    ASSERT_EQ(listed.size(), 2u);
    EXPECT_EQ(listed[0]["name"], "a1");
    EXPECT_EQ(listed[0]["title"], "peft-1");
    EXPECT_EQ(listed[0]["rank"], 4);
    const json labels = {"Paris", "Rome", "Berlin"};
    const json cls = {{"prompt", france}, {"labels", labels}};
    json adapted = cls;
    adapted["adapter"] = "a1";
    const json plain = w.call("cls", cls)["result"];
    EXPECT_NE(w.call("cls", adapted)["result"]["probability"], plain["probability"]);
    EXPECT_EQ(w.call("cls", cls)["result"]["probability"], plain["probability"]);
    const json ext = {{"prompt", "Paris"}, {"schema", {{"type", "integer"}}}, {"max", 9}, {"adapter", "a2"}};
    EXPECT_TRUE(w.call("ext", ext).contains("result"));
    EXPECT_TRUE(w.call("chat", {{"prompt", "Hi"}, {"max", 5}, {"adapter", "a2"}}).contains("result"));
    const std::string on_a1 = ask(w, france, "a1");
    for (const char* method : {"gen", "chat", "cls", "ext"}) {
        json params = std::string(method) == "ext" ? ext : adapted;
        params["adapter"] = "nobody";
        if (std::string(method) == "gen" || std::string(method) == "chat") params.erase("labels");
        expect_part(w.call(method, params)["error"]["message"], "no adapter \"nobody\"; AT#ADAPTER? and");
    }
    d.tty.send("ATE0\rAT#ADAPTER?\rAT+CMEE=2\rAT#SET=\"bias\",\"" + endless() + "\"\rAT#SET=\"adapter\",\"a1\"\r");
    d.tty.until("\r\nOK\r\n");
    expect_part(d.tty.until("\r\nOK\r\n"),
                "#ADAPTER: \"a2\",4," + std::to_string(listed[1]["bytes"].get<int>()) + ",\"peft-2\"");
    for (int i = 0; i < 3; i++) d.tty.until("\r\nOK\r\n");
    std::string said, token;
    d.tty.send(std::string("AT#GEN=\"") + france + "\",24\r");
    const std::string answer = d.tty.until("\r\nOK\r\n");
    for (std::size_t at = 0; (at = answer.find("#TOK: \"", at)) != answer.npos;) {
        at += 7;
        const std::string piece = answer.substr(at, answer.find("\"\r\n", at) - at);
        said += json::parse("\"" + piece + "\"").get<std::string>();
    }
    EXPECT_EQ(said, on_a1);
    d.tty.send("AT#SET=\"adapter\",\"nobody\"\rAT#GEN=\"x\"\r");
    d.tty.until("\r\nOK\r\n");
    expect_part(d.tty.until("them\r\n"), "+CME ERROR: ");
    // slmctl
    const std::string on_socket = slmctl_path() + " -s " + d.socket + " --max 24 --set bias=" + endless() + " ";
    EXPECT_EQ(shell(on_socket + "--adapter a1 ask '" + france + "'").out, on_a1 + "\n");
    EXPECT_NE(shell(on_socket + "ask '" + france + "'").out, on_a1 + "\n");
    expect_part(shell(slmctl_path() + " -s " + d.socket + " adapter list").out, "a1                       rank   4");
    EXPECT_EQ(shell(slmctl_path() + " -s " + d.socket + " adapter fly").code, 64);
    EXPECT_EQ(shell(on_socket + "--adapter a1 --adapter a2 ask x").code, 64);
    expect_part(shell(on_socket + "--adapter nobody ask x").err, "no adapter \"nobody\"");
}

// A session's default, from the configuration.
TEST(Adapters, one_may_be_the_default) {
    std::string alone;
    {
        Daemon d({.arguments = arguments(1), .tty = false});
        Wire w = d.connect();
        alone = ask(w, france, "a1");
    }
    const std::string config = configuration(section("a1", adapter_image(1)) +
                                             "[generate]\nadapter = \"a1\"\n[socket]\npath = \"/nowhere/x\"\n");
    Daemon d({.arguments = {"--config", config}, .tty = false});
    Wire w = d.connect();
    EXPECT_EQ(ask(w, france, ""), alone);
    json params = {{"prompt", france}, {"max", 24}, {"bias", endless()}, {"adapter", ""}};
    EXPECT_NE(w.call("gen", params)["result"]["text"], alone);
}

TEST(Adapters, agents_have_one_and_their_calibration_is_of_it) {
    const std::string agents = folder() + "/agents";
    std::filesystem::create_directory(agents);
    const std::string text = "prompt = '{x} Yes or no?'\ninput.x = {}\noutput = { choice = ['yes', 'no'] }\n";
    std::ofstream(agents + "/plain.toml") << text;
    std::ofstream(agents + "/adapted.toml") << "adapter = 'a1'\n" << text;
    std::ofstream(agents + "/lost.toml") << "adapter = 'gone'\n" << text;
    std::ofstream(agents + "/long.toml") << "adapter = '" << std::string(24, 'x') << "'\n" << text;
    auto with_agents = arguments(2);
    with_agents.insert(with_agents.end(), {"--agents", agents});
    const auto run = [](Wire& w, const std::string& agent, const std::string& input, json more = json::object()) {
        more["agent"] = agent, more["input"] = input;
        return w.call("run", more);
    };
    const std::string lines = folder() + "/judged.jsonl";
    {
        Daemon d({.arguments = with_agents});
        Wire w = d.connect();
        const json plain = run(w, "plain", "Rain?")["result"], adapted = run(w, "adapted", "Rain?")["result"];
        EXPECT_NE(plain["features"], adapted["features"]);
        EXPECT_EQ(run(w, "plain", "Rain?", {{"adapter", "a1"}})["result"]["features"], adapted["features"]);
        EXPECT_EQ(run(w, "adapted", "Rain?", {{"adapter", ""}})["result"]["features"], plain["features"]);
        const std::string run_adapted =
            slmctl_path() + " -s " + d.socket + " --json --adapter a1 agent run plain 'Rain?'";
        EXPECT_EQ(json::parse(shell(run_adapted).out)["result"]["features"], adapted["features"]);
        expect_part(run(w, "lost", "Rain?")["error"]["message"],
                    "agent lost is for the adapter \"gone\", which slmd has not: [[adapter]]");
        EXPECT_TRUE(run(w, "lost", "Rain?", {{"adapter", "a2"}}).contains("result"));
        expect_part(w.call("agent", {{"name", "long"}})["result"]["error"], "adapter is at most 23 bytes");
        const json info = w.call("agent", {{"name", "adapted"}})["result"];
        EXPECT_EQ(info["adapter"], "a1");
        EXPECT_EQ(info["adapter_sha256"].get<std::string>().size(), 64u);
        EXPECT_FALSE(w.call("agent", {{"name", "plain"}})["result"].contains("adapter"));
        std::ofstream f(lines);
        for (int i = 0; i < 40; i++) {
            const std::string input = "Is number " + std::to_string(i) + " a prime?";
            const std::string label = run(w, "adapted", input)["result"]["label"];
            f << json{{"input", input}, {"output", i % 3 == 0 ? (label == "yes" ? "no" : "yes") : label}}.dump()
              << "\n";
        }
        f.close();
        const Ran r = shell(slmctl_path() + " -s " + d.socket + " calibrate adapted " + lines);
        EXPECT_EQ(r.code, 0) << r.err;
        expect_part(slurp(agents + "/adapted.calibration"),
                    "adapter_sha256 = \"" + info["adapter_sha256"].get<std::string>());
    }
    {
        Daemon d({.arguments = with_agents, .tty = false});
        Wire w = d.connect();
        EXPECT_EQ(run(w, "adapted", "Rain?")["result"]["calibrated"], true) << slurp(d.log);
        EXPECT_EQ(run(w, "adapted", "Rain?", {{"adapter", "a2"}})["result"]["calibrated"], false);
        EXPECT_EQ(run(w, "adapted", "Rain?", {{"adapter", "a1"}})["result"]["calibrated"], true);
        EXPECT_EQ(w.call("agent", {{"name", "adapted"}})["result"]["answers"], 2);
    }
    // another adapter of the same name
    Daemon d({.arguments = {"--agents", agents, "--adapter", "a1=" + adapter_image(3)}, .tty = false});
    Wire w = d.connect();
    EXPECT_EQ(run(w, "adapted", "Rain?")["result"]["calibrated"], false);
    expect_part(slurp(d.log), "with another adapter, or other tensors of it");
}

TEST(Adapters, are_planned_to_the_byte) {
    const std::string image = tiny_image();
    const auto total = [](const std::string& printed) {
        return std::stol(printed.substr(printed.rfind('\n', printed.find("  total")) + 1));
    };
    const auto item = [](const std::string& printed) {
        const auto at = printed.find("  adapters");
        return at == printed.npos ? 0 : std::stol(printed.substr(printed.rfind('\n', at) + 1));
    };
    const std::string two = " --adapter a1=" + adapter_image(1) + " --adapter " + adapter_image(2) + " ";
    const std::string slmd = shell(slmd_path() + " --model " + image + " --plan" + two).out,
                      slmctl = shell(slmctl_path() + " --clients 16" + two + "plan " + image).out,
                      without = shell(slmd_path() + " --model " + image + " --plan").out;
    EXPECT_EQ(total(slmd), total(slmctl));
    EXPECT_EQ(item(slmd), item(slmctl));
    EXPECT_EQ(item(without), 0);
    const auto raw = [](unsigned seed) {
        const std::string to = folder() + "/adapter.raw";
        EXPECT_EQ(shell(std::string(SLMD_BUILD) + "/slmpack cat " + adapter_image(seed) + " > " + to).code, 0);
        return static_cast<long>(std::filesystem::file_size(to));
    };
    // Their images, and a table of 21 matrices each.
    const long tables = item(slmd) - raw(1) - raw(2);
    EXPECT_GT(tables, 0);
    EXPECT_EQ(tables % 128, 0);
    EXPECT_LT(tables, 2 * 21 * 160);
    Daemon d({.arguments = arguments(2), .tty = false});
    Wire w = d.connect();
    EXPECT_EQ(w.call("plan")["result"]["total"], total(slmd));
}

TEST(Adapters, bad_ones_are_named_before_anything_runs) {
    const std::string good = adapter_image(1), other = folder() + "/other.slm", foreign = folder() + "/foreign.slm",
                      bad = folder() + "/bad.slm";
    Ran r = check(configuration(section("a1", good) + section("a2", adapter_image(2))));
    EXPECT_EQ(r.code, 0) << r.err;
    expect_part(r.out, ", 2 adapters; on");
    // made for the same model, imported otherwise
    ASSERT_EQ(
        shell(std::string(SLMD_BUILD) + "/slmpack import " SLMD_SOURCE "/models/tiny --kind i8 --no-golden -o " + other)
            .code,
        0);
    ASSERT_EQ(pack_adapter(peft_folder(1), other, foreign).code, 0);
    const auto line = [&](const std::string& path) { return configuration("\n" + section("x", path)); };
    const auto refused = [&](const std::string& config, const std::string& said) {
        const Ran checked = check(config);
        EXPECT_EQ(checked.code, 78) << checked.out;
        expect_part(checked.err, said);
        EXPECT_LT(checked.err.size(), 233u);
    };
    refused(line(foreign), "toml:3: adapter x: for another base, tiny (tensors ");
    expect_part(check(line(foreign)).err, "pack the adapter again with --base");
    refused(line(other), "toml:3: adapter x: a model, not an adapter");
    refused(line("/nowhere/x.slm"), "toml:3: adapter x: /nowhere/x.slm: No such file");
    std::string bytes = slurp(good);
    std::ofstream(bad, std::ios::binary) << bytes.substr(0, bytes.size() / 2);
    refused(line(bad), "toml:3: adapter x: " + bad + ": ");
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
    std::ofstream(bad, std::ios::binary) << bytes;
    refused(line(bad), "toml:3: adapter x: " + bad + ": ");
    refused(configuration("[[adapter]]\nname = \"x\"\n"), "toml:2: an [[adapter]] has a name and a path");
    refused(configuration(section("x", good) + section("x", good)), "two adapters are called \"x\"");
    refused(configuration(section("a b", good)), "adapter \"a b\": a name has 1 to 23 letters");
    refused(configuration(section("x", good) + "[generate]\nadapter = \"y\"\n"),
            "[generate] adapter = \"y\": there is no [[adapter]]");
    std::string many;
    for (int i = 0; i < 17; i++) many += section("x" + std::to_string(i), good);
    refused(configuration(many), "at most 16 adapters");
    expect_part(check(configuration(""), "--adapter a=").err, "adapter a has no file: write NAME=FILE");
    // an adapter as the model
    expect_part(shell(slmd_path() + " --check-config --model " + good + " --socket " + folder() + "/check.sock").err,
                "an adapter for tiny, not a model");
    const std::string slots = folder() + "/slots";
    std::filesystem::create_directory(slots);
    const std::string of_slots = folder() + "/slots.toml";
    std::ofstream(of_slots) << "model = \"" << slots << "\"\n[socket]\npath = \"/nowhere/x\"\n";
    r = shell(slmctl_path() + " --config " + of_slots + " --no-restart model install " + good);
    EXPECT_EQ(r.code, 1);
    expect_part(r.err, "an adapter, not a model: [[adapter]] in slmd.toml names its file");
    EXPECT_EQ(shell(slmctl_path() + " --config " + of_slots + " --no-restart model install " + tiny_image()).code, 0);
    // an agent of an adapter that is not there is said, and is no error
    const std::string agents = folder() + "/lost-agents";
    std::filesystem::create_directory(agents);
    std::ofstream(agents + "/lost.toml") << "adapter = 'gone'\nprompt = '{x}'\ninput.x = {}\noutput = { text = 10 }\n";
    r = check(configuration(""), "--agents " + agents);
    EXPECT_EQ(r.code, 0) << r.err;
    expect_part(r.out, "agent lost: no [[adapter]] \"gone\"");
    // and slmd itself
    Daemon d({.arguments = {"--adapter", "x=" + foreign}, .tty = false, .comes_up = false});
    EXPECT_EQ(d.wait(), 1);
    expect_part(slurp(d.log), "adapter peft-1: for another base, tiny");
}

TEST(Adapters, with_keys_they_must_be_signed) {
    const std::string key = folder() + "/key", model = folder() + "/signed-tiny.slm",
                      adapter = folder() + "/signed.slm", unsigned_one = folder() + "/unsigned.slm";
    const std::string slmpack = std::string(SLMD_BUILD) + "/slmpack ";
    ASSERT_EQ(shell(slmpack + "keygen -o " + key).code, 0);
    ASSERT_EQ(shell(slmpack + "sign " + tiny_image() + " --key " + key + " -o " + model).code, 0);
    // a signature changes no tensor: what was packed for the image is for the signed one, too
    ASSERT_EQ(shell(slmpack + "sign " + adapter_image(1) + " --key " + key + " -o " + adapter).code, 0);
    EXPECT_EQ(shell(slmpack + "verify " + adapter + " --key " + key + ".pub").code, 0);
    const auto start = [&](const std::string& file, bool comes_up) {
        const std::string config = folder() + "/signed.toml";
        std::ofstream(config) << "model = \"" << model << "\"\nallowed_keys = [\"" << key << ".pub\"]\n"
                              << section("a1", file);
        return DaemonOptions{.arguments = {"--config", config}, .tty = false, .image = model, .comes_up = comes_up};
    };
    {
        Daemon d(start(adapter, true));
        Wire w = d.connect();
        EXPECT_NE(ask(w, france, "a1"), ask(w, france, ""));
    }
    Daemon d(start(adapter_image(1), false));
    EXPECT_EQ(d.wait(), 1);
    expect_part(slurp(d.log), "adapter a1: " + adapter_image(1) + ": not signed");
}

TEST(Adapters, a_reload_does_not_change_them) {
    const std::string config = configuration(section("a1", adapter_image(1)) + "[socket]\npath = \"/nowhere/x\"\n");
    Daemon d({.arguments = {"--config", config}, .tty = false});
    Wire w = d.connect();
    const std::string before = ask(w, france, "a1");
    std::ofstream(config) << "model = \"" << tiny_image() << "\"\n"
                          << section("a1", adapter_image(2)) << "[socket]\npath = \"/nowhere/x\"\n";
    kill(d.pid(), SIGHUP);
    for (int i = 0; i < 500 && slurp(d.log).find("reloaded") == std::string::npos; i++) usleep(10'000);
    expect_part(slurp(d.log), "reloaded; only a restart changes: [[adapter]]");
    EXPECT_EQ(ask(w, france, "a1"), before);
}
