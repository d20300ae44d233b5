// slmd, slm-uplink and a server together: what leaves, what does not, and what comes of it.
#include <pwd.h>

#include <algorithm>
#include <atomic>
#include <map>

#include "chat_server.h"
#include "harness.h"

using namespace slmd::testing;

namespace {

constexpr char secret_mail[] = "anna.berg@example.org", secret_iban[] = "DE89 3704 0044 0532 0130 00";

struct Place {  // of one test: state folders, agents, the socket between the two
    std::string path;
    Place() {
        static int number = 0;
        path = folder() + "/up" + std::to_string(++number);
        for (const char* f : {"", "/agents", "/state", "/box"}) std::filesystem::create_directories(path + f);
    }
    std::string socket() const { return path + "/up.sock"; }
    void agent(const std::string& name, const std::string& remote, const std::string& more = "") const {
        std::ofstream(path + "/agents/" + name + ".toml")
            << "prompt = 'What is it about? {text}'\nescalate = 'fail'\n" + remote +
                   "\n[input.text]\nmax = 2000\n[output]\n" + (more.empty() ? "text = 200\n" : more);
    }
    std::string config(const std::string& more = "") const {
        const std::string file = path + "/slmd.toml";
        std::ofstream(file) << "[uplink]\nsocket = '" << socket() << "'\nuser = '" << getpwuid(getuid())->pw_name
                            << "'\nterms = ['Projekt Nordlicht']\n"
                            << more;
        return file;
    }
    DaemonOptions options(const std::string& more = "") const {
        return {.arguments = {"--config", config(more), "--state", path + "/state", "--agents", path + "/agents"},
                .tty = false};
    }
};

class Uplink {
  public:
    std::string log;
    Uplink(const Place& p, int port, const std::string& more = "[budget]\nday = { money = 1.0 }\n") {
        static int number = 0;
        log = p.path + "/uplink" + std::to_string(++number) + ".log";
        const std::string file = p.path + "/uplink.toml";
        std::ofstream(file) << "slmd = '" << p.socket() << "'\nstate = '" << p.path << "/box'\n"
                            << more << "\n[[upstream]]\nname = 'stub'\nurl = 'http://127.0.0.1:" << port
                            << "/v1'\nplaintext = true\nmodel = 'stub'\nbackoff = 0.01\nidempotency = true\nprice = { "
                               "input = 1.0, output = 10.0 }\n";
        pid_ = fork();
        if (pid_ == 0) {
            const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
            dup2(fd, 1), dup2(fd, 2);
            execl((std::string(SLMD_BUILD) + "/runtime/uplink/slm-uplink").c_str(), "slm-uplink", "--config",
                  file.c_str(), nullptr);
            _exit(127);
        }
    }
    void end(int signal = SIGTERM) {
        if (pid_ <= 0) return;
        kill(pid_, signal);
        int status = 0;
        waitpid(pid_, &status, 0);
        if (signal == SIGTERM) {
            EXPECT_EQ(status, 0) << slurp(log);
        }
        pid_ = -1;
    }
    ~Uplink() { end(); }

  private:
    pid_t pid_;
};

void wait_for(const std::string& file, const std::string& text) {
    for (int i = 0; i < patience_ms / 10 && slurp(file).find(text) == std::string::npos; i++) usleep(10'000);
    ASSERT_NE(slurp(file).find(text), std::string::npos) << text << " in " << slurp(file);
}

json run(const Daemon& d, const std::string& agent, const std::string& input, json more = json::object()) {
    more["agent"] = agent, more["input"] = input;
    Wire w = d.connect();
    const json reply = w.call("run", more);
    EXPECT_TRUE(reply.contains("result")) << reply;
    return reply.value("result", json::object());
}

constexpr char fails[] = "[[check]]\nkind = 'regex'\npattern = 'about .*'\n";

}  // namespace

TEST(Uplink, what_a_check_rejects_is_answered_by_the_large_model_without_its_secrets) {
    const Place p;
    p.agent("topic", "[remote]\npolicy = 'redacted'\npatterns = ['K-[0-9]+']\n", std::string("text = 200\n") + fails);
    ChatServer server;
    server.answer = [](const ChatServer::Asked& a) {
        const std::string said = a.body["messages"].back()["content"];
        return "about " + said.substr(said.find("[OWN_1]"), 7) + " " + said.substr(said.find("[EMAIL_"), 9) + " and " +
               said.substr(said.find("[NAME_"), 8);
    };
    Daemon d(p.options());
    const Uplink up(p, server.port);
    wait_for(d.log, "slm-uplink is there");
    const std::string input =
        std::string("Write to ") + secret_mail + " of projekt nordlicht, K-4711, and pay to " + secret_iban + ".";
    json r;
    for (int i = 0; i < 500; i++) {  // until the link is known
        r = run(d, "topic", input);
        if (r["route"] == "escalate") break;
        usleep(10'000);
    }
    EXPECT_EQ(r["route"], "escalate") << r << slurp(up.log);
    EXPECT_EQ(r["text"], std::string("about K-4711 ") + secret_mail + " and projekt nordlicht") << r;
    EXPECT_EQ(r["verdict"], "pass");
    EXPECT_EQ(r["reason"], "a check of the local answer failed");
    EXPECT_EQ(r["remote"]["upstream"], "stub");
    EXPECT_EQ(r["remote"]["model"], "stub-1");
    EXPECT_EQ(r["remote"]["prompt_tokens"], 100);
    EXPECT_EQ(r["remote"]["tokens"], 20);
    EXPECT_DOUBLE_EQ(r["remote"]["cost"], (100 * 1.0 + 20 * 10.0) / 1e6);
    ASSERT_EQ(server.asked().size(), 1u);
    const std::string sent = server.asked()[0].raw + server.asked()[0].head;
    for (const char* const secret : {"anna", "example.org", "3704", "0532", "ordlicht", "4711"})
        EXPECT_EQ(sent.find(secret), std::string::npos) << sent;
    EXPECT_NE(sent.find("[IBAN_1]"), std::string::npos) << sent;

    // One line of the ledger for each decision, and one for what came; they verify while slmd writes.
    d.stop();
    const Ran verified = shell(slmctl_path() + " ledger verify " + p.path + "/state/ledger");
    EXPECT_EQ(verified.code, 0) << verified.out << verified.err;
    const Ran shown = shell(slmctl_path() + " ledger show --json " + p.path + "/state/ledger");
    json decision, outcome;
    std::istringstream lines(shown.out);
    for (std::string line; std::getline(lines, line);) {
        const json one = json::parse(line);
        if (one["kind"] == "decision") decision = one;
        if (one["kind"] == "outcome") outcome = one;
    }
    EXPECT_EQ(decision["agent"], "topic") << shown.out;
    EXPECT_EQ(decision["answer"], "escalate") << decision;
    EXPECT_EQ(outcome["refers"], decision["sequence"]) << outcome;
    EXPECT_EQ(outcome["code"], "settled") << outcome;
    EXPECT_EQ(outcome["tokens_out"], 20) << outcome;
    const Ran replayed = shell(slmctl_path() + " ledger replay " + p.path + "/state/ledger");
    EXPECT_EQ(replayed.code, 0) << replayed.out << replayed.err;
}

TEST(Uplink, what_is_said_for_now_is_told_until_the_large_model_answers) {
    const Place p;
    p.agent("topic", "[remote]\npolicy = 'allowed'\n", std::string("text = 200\n") + fails);
    p.agent("mood", "[remote]\npolicy = 'allowed'\n", "choice = ['good', 'bad']\n");
    ChatServer server;
    std::atomic<bool> told{true};
    std::string large = "about it";
    server.answer = [&](const ChatServer::Asked&) {
        for (int i = 0; i < patience_ms && !told; i++) usleep(1000);
        return told ? large : "nobody was told";
    };
    Daemon d(p.options());
    const Uplink up(p, server.port);
    wait_for(d.log, "slm-uplink is there");
    json r;
    for (int i = 0; i < 500 && r["route"] != "escalate"; i++, usleep(10'000)) r = run(d, "topic", "x");

    for (const auto& [agent, member] : {std::pair{"topic", "text"}, {"mood", "label"}}) {
        const json local = run(d, agent, "x", {{"route", "local"}})[member];
        if (local == "good" || local == "bad") large = local == "good" ? "bad" : "good";
        EXPECT_NE(local, large);
        told = false;
        Wire w = d.connect();
        const json params = {{"agent", agent}, {"input", "x"}, {"route", "remote"}, {"provisional", true}};
        w.send(json{{"jsonrpc", "2.0"}, {"id", 3}, {"method", "run"}, {"params", params}}.dump() + "\n");
        const json now = w.line();
        EXPECT_EQ(now["method"], "provisional") << now;
        EXPECT_EQ(now["params"], (json{{"id", 3}, {"text", local}})) << now;
        told = true;
        const json then = w.reply(3)["result"];
        EXPECT_EQ(then[member], large) << then;
        EXPECT_EQ(then["route"], "escalate") << then;
        // without the wish nothing comes before the answer
        EXPECT_EQ(run(d, agent, "x", {{"route", "remote"}})[member], large);
    }

    told = false;
    large = "about it";
    const std::string local = run(d, "topic", "x", {{"route", "local"}})["text"];
    Wire v = d.connect();
    v.send("AT#RUN=\"topic\",\"x\",,,\"remote\",1\r");
    v.until("#PROV: \"" + local.substr(0, 4));
    told = true;
    EXPECT_NE(v.until("\r\nOK\r\n").find("#TOK: \"about it\""), std::string::npos);

    told = false;
    FILE* const out =
        popen(("SLMD_SOCKET=" + d.socket + " " + slmctl_path() + " agent run topic x --route remote --provisional 2>&1")
                  .c_str(),
              "r");
    ASSERT_NE(out, nullptr);
    std::string said;
    for (int c; (c = fgetc(out)) != EOF;) {
        said.push_back(static_cast<char>(c));
        if (said.ends_with("for now: ")) told = true;
    }
    pclose(out);
    EXPECT_NE(said.find("for now: " + local + "\n"), std::string::npos) << said;
    EXPECT_NE(said.find("\nabout it\n"), std::string::npos) << said;
}

TEST(Uplink, says_what_was_spent) {
    const Place p;
    p.agent("topic", "[remote]\npolicy = 'allowed'\nlearn = true\n", std::string("text = 200\n") + fails);
    ChatServer server;
    server.answer = [](const ChatServer::Asked&) { return "about it"; };
    Daemon d(p.options());
    const Uplink up(p, server.port);
    wait_for(d.log, "slm-uplink is there");
    json r;
    for (int i = 0; i < 500 && r["route"] != "escalate"; i++, usleep(10'000)) r = run(d, "topic", "x");
    EXPECT_EQ(slurp(p.path + "/state/pairs/topic.jsonl"),
              "{\"messages\":[{\"role\":\"user\",\"content\":\"What is it about? x\"},{\"role\":\"assistant\","
              "\"content\":\"about it\"}]}\n");
    Wire w = d.connect();
    json budget;
    for (int i = 0; i < 500; i++) {
        budget = w.call("budget")["result"]["budget"];
        if (budget.size() == 4 && budget[0]["tokens"] == 120) break;
        usleep(10'000);
    }
    ASSERT_EQ(budget.size(), 4u) << budget;
    EXPECT_EQ(budget[0]["agent"], "");
    EXPECT_EQ(budget[0]["period"], "day");
    EXPECT_DOUBLE_EQ(budget[0]["money"], 0.0003);
    EXPECT_DOUBLE_EQ(budget[0]["money_limit"], 1);
    EXPECT_EQ(budget[0]["tokens"], 120);
    EXPECT_TRUE(budget[0]["tokens_limit"].is_null());
    EXPECT_EQ(budget[2]["agent"], "topic");
}

TEST(Uplink, nothing_leaves_without_a_policy_or_against_a_wish) {
    const Place p;
    p.agent("never", "", std::string("text = 200\n") + fails);
    p.agent("may", "[remote]\npolicy = 'allowed'\n", "text = 200\n[[check]]\nkind = 'regex'\npattern = '[^]*'\n");
    ChatServer server;
    Daemon d(p.options());
    const Uplink up(p, server.port);
    wait_for(d.log, "slm-uplink is there");
    json r = run(d, "never", "text", {{"route", "remote"}});
    EXPECT_EQ(r["route"], "keep");
    EXPECT_EQ(r["reason"], "the agent's policy is never");
    r = run(d, "may", "text");  // its check passes
    EXPECT_EQ(r["route"], "keep") << r;
    r = run(d, "may", "text", {{"route", "local"}});
    EXPECT_EQ(r["reason"], "the request is to stay");
    EXPECT_EQ(server.connections(), 0);
    for (int i = 0; i < 500 && r["route"] != "escalate"; i++) {
        r = run(d, "may", "text", {{"route", "remote"}});
        usleep(10'000);
    }
    EXPECT_EQ(r["reason"], "the request asks for the large model");
    EXPECT_EQ(r["text"], "yes");
    Wire w = d.connect();
    EXPECT_EQ(w.call("run", {{"agent", "may"}, {"input", "x"}, {"route", "cloud"}})["error"]["code"], -32602);
}

TEST(Uplink, its_answer_is_held_to_what_the_local_one_is) {
    const Place p;
    p.agent("word", "[remote]\npolicy = 'allowed'\n",
            "schema = '''\n{\"type\": \"object\", \"required\": [\"word\"], \"additionalProperties\": false,\n "
            "\"properties\":\t"
            "{\r\n  \"word\": {\"type\":\"string\", \"from\": \"source\", \"minLength\":1, \"maxLength\":12}}}'''\n");
    p.agent(
        "kind", "[remote]\npolicy = 'allowed'\nlearn = true\n",
        "choice = ['one', 'two', 'say \"three\"']\n[[example]]\ninput = 'x'\nshow = true\noutput = 'say \"three\"'\n");
    ChatServer server;
    std::string says;
    server.answer = [&](const ChatServer::Asked&) { return says; };
    Daemon d(p.options());
    const Uplink up(p, server.port);
    wait_for(d.log, "slm-uplink is there");
    const json far{{"route", "remote"}};
    says = "```json\n{ \"word\" : \"green\" }\n```";
    json r;
    for (int i = 0; i < 500 && r["route"] != "escalate"; i++, usleep(10'000)) r = run(d, "word", "a green house", far);
    EXPECT_EQ(r["value"]["word"], "green") << r;
    ASSERT_EQ(r["spans"].size(), 1u);
    EXPECT_EQ(r["spans"][0]["begin"], 2);
    const json schema = server.asked().back().body["response_format"]["json_schema"]["schema"];
    EXPECT_EQ(schema["properties"]["word"], (json{{"type", "string"}, {"minLength", 1}, {"maxLength", 12}})) << schema;

    for (const char* const bad :
         {"{\"word\":\"blue\"}", "{\"word\":\"green\"", "{\"word\":\"green\",\"x\":1}", "green"}) {
        says = bad;
        r = run(d, "word", "a green house", far);
        EXPECT_EQ(r["route"], "refuse") << bad;
        EXPECT_EQ(r["remote_error"], "the large model's answer does not obey the schema");
        EXPECT_TRUE(r["value"].contains("word")) << r;  // what the local model has
        EXPECT_EQ(r["remote"]["tokens"], 20);           // it was paid for
    }
    for (const char* const two :
         {"{\"label\":\"two\"}", "```json\n{ \"label\" : \"t\\u0077o\" }\n```", "Two.", "\"two\""}) {
        says = two;
        r = run(d, "kind", "x", far);
        EXPECT_EQ(r["label"], "two") << r;
    }
    says = "{\"label\":\"say \\\"three\\\"\"}";
    EXPECT_EQ(run(d, "kind", "x", far)["label"], "say \"three\"");
    // A server that takes a schema is bound by it, and what is learnt is the label alone.
    const json asked = server.asked().back().body;
    EXPECT_EQ(asked["response_format"]["json_schema"]["strict"], true) << asked;
    EXPECT_EQ(
        asked["response_format"]["json_schema"]["schema"],
        json::parse(R"({"type":"object","properties":{"label":{"type":"string","enum":["one","two","say \"three\""]}},
                              "required":["label"],"additionalProperties":false})"));
    EXPECT_EQ(asked["messages"][0]["content"],
              "Answer as {\"label\": ...} with one of these labels, as it is written, and nothing else: one, two, say "
              "\"three\"");
    EXPECT_EQ(asked["messages"][2]["content"], says) << asked;
    const std::string pairs = slurp(p.path + "/state/pairs/kind.jsonl");
    EXPECT_NE(pairs.find("{\"role\":\"assistant\",\"content\":\"two\"}"), pairs.npos) << pairs;
    EXPECT_EQ(pairs.find("label"), pairs.npos) << pairs;
    for (const char* const bad :
         {"{\"label\":\"seven\"}", "{\"label\":2}", "{\"label\":\"two\"", "{\"kind\":\"two\"}", "[\"two\"]"}) {
        says = bad;
        EXPECT_EQ(run(d, "kind", "x", far)["route"], "refuse") << bad;
    }
    says = "seven";
    r = run(d, "kind", "x", far);
    EXPECT_EQ(r["route"], "refuse");
    EXPECT_NE(r["remote_error"].get<std::string>().find("\"seven\", which is none of the labels"), std::string::npos);
}

TEST(Uplink, what_waits_is_answered_after_restarts_of_both_and_put_back_together) {
    const Place p;
    p.agent("topic", "[remote]\npolicy = 'redacted'\nwait = true\nlearn = true\npriority = 3\n",
            std::string("text = 200\n") + fails);
    ChatServer server;
    server.answer = [](const ChatServer::Asked& a) {
        const std::string said = a.body["messages"].back()["content"];
        return "about " + said.substr(said.find("[EMAIL_"), 9);
    };
    std::string key;
    {
        Daemon d(p.options());
        const json r = run(d, "topic", std::string("Write to ") + secret_mail);
        EXPECT_EQ(r["route"], "queue") << r;
        EXPECT_EQ(r["reason"], "there is no link");
        key = r["key"];
        Wire w = d.connect();
        const json q = w.call("queue")["result"]["queue"];
        ASSERT_EQ(q.size(), 1u) << q;
        EXPECT_EQ(q[0]["key"], key);
        EXPECT_EQ(q[0]["agent"], "topic");
        EXPECT_EQ(q[0]["state"], "waiting");
        EXPECT_EQ(q[0]["priority"], 3);
        const json early = w.call("queue.show", {{"key", key}});
        EXPECT_NE(early["error"]["message"].get<std::string>().find("waits for its answer still"), std::string::npos);
    }
    Daemon d(p.options());
    Wire w = d.connect();
    w.call("evt", {{"mask", 4}}, 7);
    {
        const Uplink up(p, server.port);
        const json event = w.line();
        EXPECT_EQ(event["params"]["name"], "QUEUE") << event;
        EXPECT_EQ(event["params"]["subject"], "topic");
        EXPECT_EQ(event["params"]["text"], key);
    }
    const json r = w.call("queue.show", {{"key", key}})["result"];
    EXPECT_EQ(r["text"], std::string("about ") + secret_mail) << r;
    EXPECT_EQ(r["remote"]["upstream"], "stub");
    EXPECT_EQ(r["key"], key);
    EXPECT_EQ(r["verdict"], "pass") << r;
    ASSERT_EQ(r["checks"].size(), 1u) << r;
    EXPECT_EQ(r["checks"][0]["verdict"], "pass") << r;
    ASSERT_EQ(server.asked().size(), 1u);
    EXPECT_EQ(server.asked()[0].raw.find("anna"), std::string::npos);
    std::string head = server.asked()[0].head;
    EXPECT_NE(head.find(key), std::string::npos) << head;  // Idempotency-Key
    EXPECT_EQ(slurp(p.path + "/state/pairs/topic.jsonl"),
              "{\"messages\":[{\"role\":\"user\",\"content\":\"What is it about? Write to [EMAIL_1]\"},"
              "{\"role\":\"assistant\",\"content\":\"about [EMAIL_1]\"}]}\n");
    EXPECT_EQ(w.call("queue.drop", {{"key", key}})["result"], json::object());
    EXPECT_EQ(w.call("queue")["result"]["queue"].size(), 0u);
    EXPECT_TRUE(w.call("queue.drop", {{"key", key}}).contains("error"));
    const Uplink again(p, server.port);  // it was told to forget it
    wait_for(again.log, "slmd is there");
    w.call("ping");
    EXPECT_EQ(server.asked().size(), 1u);
}

TEST(Uplink, what_waited_is_held_to_what_a_local_answer_is) {
    const Place p;
    const std::string remote = "[remote]\npolicy = 'redacted'\nwait = true\n";
    p.agent("topic", remote, std::string("text = 200\n") + fails);
    p.agent("kind", remote + "learn = true\n", "choice = ['one', 'two', 'three']\n");
    p.agent("gone", remote);
    std::ofstream(p.path + "/agents/word.toml")
        << "prompt = '{n}: {text}'\nescalate = 'fail'\n" + remote +
               "\n[input.text]\nmax = 2000\n[input.n]\ntype = 'integer'\n[output]\nschema = "
               "'{\"type\":\"object\",\"required\":[\"to\"],\"additionalProperties\":false,\"properties\":{\"to\":"
               "{\"type\":\"string\",\"from\":\"source\",\"minLength\":1,\"maxLength\":40}}}'\nsource = 'text'\n";
    ChatServer server;
    std::atomic<bool> good{true};
    server.answer = [&](const ChatServer::Asked& a) -> std::string {
        const std::string said = a.body["messages"].back()["content"];
        if (said.find("[EMAIL_1]") != said.npos)
            return good ? "```json\n{ \"to\" : \"[EMAIL_1]\" }\n```" : "{\"to\":\"nobody\"}";
        const bool kind = a.raw.find("labels") != a.raw.npos;
        return kind ? good ? "{\"label\":\"two\"}" : "seven" : good ? "about it" : "it";
    };
    const json far{{"route", "remote"}};
    const json mail = {{"n", 3}, {"text", std::string("Write to \"") + secret_mail + "\"."}};
    for (const bool which : {true, false}) {
        good = which;
        std::map<std::string, std::string> keys;
        Daemon d(p.options());
        for (const char* const agent : {"topic", "kind", "gone"}) keys[agent] = run(d, agent, "x", far)["key"];
        {
            Wire w = d.connect();
            const json r = w.call("run", {{"agent", "word"}, {"input", mail}, {"route", "remote"}});
            keys["word"] = r["result"]["key"];
        }
        std::filesystem::rename(p.path + "/agents/gone.toml", p.path + "/gone.toml");
        kill(d.pid(), SIGHUP);
        const Uplink up(p, server.port);
        const auto late = [&](const char* agent) {
            for (int i = 0; i < patience_ms / 10; i++) {
                Wire w = d.connect();
                const json r = w.call("queue.show", {{"key", keys[agent]}});
                if (r.contains("result")) return r["result"];
                usleep(10'000);
            }
            return json();
        };
        const json word = late("word"), kind = late("kind"), topic = late("topic");
        if (which) {
            EXPECT_EQ(word["value"]["to"], secret_mail) << word;
            ASSERT_EQ(word["spans"].size(), 1u) << word;
            EXPECT_EQ(word["spans"][0]["begin"], 10);
            EXPECT_EQ(kind["label"], "two") << kind;
            const std::string pairs = slurp(p.path + "/state/pairs/kind.jsonl");
            EXPECT_NE(pairs.find("{\"role\":\"assistant\",\"content\":\"two\"}"), pairs.npos) << pairs;
        } else {
            EXPECT_EQ(word["text"], "{\"to\":\"nobody\"}") << word;
            EXPECT_EQ(word["remote_error"], "the large model's answer does not obey the schema") << word;
            EXPECT_EQ(kind["text"], "seven") << kind;
            EXPECT_NE(kind["remote_error"].get<std::string>().find("none of the labels"), std::string::npos) << kind;
        }
        EXPECT_EQ(topic["text"], which ? "about it" : "it");
        for (const json& r : {word, kind, topic}) {
            EXPECT_EQ(r["verdict"], which ? "pass" : "fail") << r;
            EXPECT_EQ(r["route"], "escalate") << r;
            EXPECT_EQ(r["remote"]["tokens"], 20) << r;
        }
        EXPECT_EQ(late("gone")["verdict"], "unchecked");        // by whom?
        EXPECT_EQ(late("topic")["verdict"], topic["verdict"]);  // it is told as often as it is asked for
        std::filesystem::rename(p.path + "/gone.toml", p.path + "/agents/gone.toml");
        d.stop();
        ASSERT_EQ(shell(slmctl_path() + " ledger verify " + p.path + "/state/ledger").code, 0);
    }
}

TEST(Uplink, never_over_budget_and_an_answer_that_is_in_doubt_counts_in_full) {
    const Place p;
    p.agent("topic", "[remote]\npolicy = 'allowed'\n", std::string("text = 200\n") + fails);
    ChatServer server;
    std::atomic<bool> hold{false};
    server.answer = [&](const ChatServer::Asked&) {
        while (hold) usleep(1000);
        return std::string("about it");
    };
    Daemon d(p.options());
    const std::string budget = "[budget]\nday = { money = 0.01 }\n";  // two or so, as they are reserved
    json r;
    {
        Uplink up(p, server.port, budget);
        wait_for(d.log, "slm-uplink is there");
        for (int i = 0; i < 500 && r["route"] != "escalate"; i++, usleep(10'000)) r = run(d, "topic", "x");
        ASSERT_EQ(r["route"], "escalate") << r;
        hold = true;
        std::thread kill([&] {
            for (int i = 0; i < 5000 && server.asked().size() < 2; i++) usleep(1000);
            up.end(SIGKILL);
            hold = false;
        });
        r = run(d, "topic", "x");
        kill.join();
        EXPECT_EQ(r["route"], "refuse") << r;
        EXPECT_NE(r["remote_error"].get<std::string>().find("not known"), std::string::npos);
    }
    EXPECT_EQ(server.asked().size(), 2u);
    const Uplink up(p, server.port, budget);
    wait_for(up.log, "counted as if they had come to all");
    int sent = 0;
    for (int i = 0; i < 500; i++) {
        r = run(d, "topic", "x");
        sent += r["route"] == "escalate";
        if (r["reason"] == "the budget does not allow it") break;
        usleep(10'000);
    }
    EXPECT_EQ(r["route"], "refuse") << r;
    EXPECT_NE(r["remote_error"].get<std::string>().find("for a day: money"), std::string::npos) << r;
    Wire w = d.connect();
    const json b = w.call("budget")["result"]["budget"];
    EXPECT_LE(b[0]["money"].get<double>(), 0.01) << b;
    EXPECT_GT(b[0]["money"].get<double>(), 0.0003 * (1 + sent)) << b;  // the one in doubt is in it
}

TEST(Uplink, the_privacy_switch_cuts_it) {
    const Place p;
    p.agent("topic", "[remote]\npolicy = 'allowed'\n", std::string("text = 200\n") + fails);
    std::ofstream(p.path + "/board.sim") << "board pi-5\nmodel Raspberry Pi 5 Model B\n0 gpio.SWITCH open\n";
    ChatServer server;
    Daemon d(p.options("[pins]\nprivacy = 'SWITCH'\n[board]\nhardware = 'sim:" + p.path + "/board.sim'\n"));
    const Uplink up(p, server.port);
    wait_for(d.log, "slm-uplink is there");
    for (int i = 0; i < 20; i++) {
        const json r = run(d, "topic", "x", {{"route", "remote"}});
        EXPECT_EQ(r["route"], "keep") << r;
        EXPECT_EQ(r["reason"], "the privacy switch is off or cannot be read");
        usleep(5000);
    }
    EXPECT_EQ(server.connections(), 0);
}

TEST(Uplink, without_one_a_ledger_is_kept_all_the_same) {
    const Place p;
    p.agent("topic", "[remote]\npolicy = 'allowed'\nwait = true\n", std::string("text = 200\n") + fails);
    const std::string file = p.path + "/slmd.toml";
    std::ofstream(file) << "[limits]\nledger = 1\n";
    Daemon d(
        {.arguments = {"--config", file, "--state", p.path + "/state", "--agents", p.path + "/agents"}, .tty = false});
    const json r = run(d, "topic", "x", {{"route", "remote"}});
    EXPECT_EQ(r["route"], "escalate") << r;  // what its file says of such a verdict
    EXPECT_FALSE(r.contains("reason"));
    Wire w = d.connect();
    EXPECT_EQ(w.call("queue")["result"]["queue"].size(), 0u);
    const json no = w.call("queue.drop", {{"key", std::string(32, 'a')}});
    EXPECT_NE(no.dump().find("there is no uplink"), std::string::npos) << no;
    d.stop();
    const Ran shown = shell(slmctl_path() + " ledger show --json " + p.path + "/state/ledger");
    EXPECT_NE(shown.out.find("\"agent\":\"topic\""), std::string::npos) << shown.out << shown.err;
    EXPECT_EQ(shell(slmctl_path() + " ledger replay " + p.path + "/state/ledger").code, 0);
}

TEST(Uplink, only_its_user_may_come) {
    const Place p;
    const std::string file = p.path + "/slmd.toml";
    std::ofstream(file) << "[uplink]\nsocket = '" << p.socket() << "'\nuser = '" << (getuid() == 0 ? "daemon" : "root")
                        << "'\n";
    Daemon d(
        {.arguments = {"--config", file, "--state", p.path + "/state", "--agents", p.path + "/agents"}, .tty = false});
    ChatServer server;
    const Uplink up(p, server.port);
    wait_for(d.log, "came, and only");
    EXPECT_EQ(slurp(d.log).find("slm-uplink is there"), std::string::npos);
}

TEST(Uplink, compare_asks_the_large_model_once) {
    const Place p;
    p.agent("kind", "[remote]\npolicy = 'allowed'\n", "choice = ['one', 'two']\n");
    ChatServer server;
    server.answer = [](const ChatServer::Asked& a) {
        const std::string said = a.body["messages"].back()["content"];
        return std::string(said.find("zwei") != said.npos ? "two" : said.find("drei") != said.npos ? "three" : "one");
    };
    Daemon d(p.options());
    const Uplink up(p, server.port);
    wait_for(d.log, "slm-uplink is there");
    json r;
    for (int i = 0; i < 500 && r["route"] != "escalate"; i++, usleep(10'000))
        r = run(d, "kind", "x", {{"route", "remote"}});
    const std::size_t before = server.asked().size();
    std::ofstream(p.path + "/cases.jsonl")
        << "{\"input\":\"eins\",\"output\":\"one\"}\n{\"input\":\"zwei\",\"output\":\"two\"}\n"
           "{\"input\":\"zwei drei\",\"output\":\"two\"}\n{\"input\":\"drei\",\"output\":\"two\"}\n";
    const std::string command = slmctl_path() + " --socket " + d.socket + " compare " + p.path +
                                "/cases.jsonl --agents kind --ask-upstream --upstream-answers " + p.path +
                                "/large.jsonl --prices 1,10";
    const Ran first = shell(command);
    EXPECT_EQ(first.code, 0) << first.err;
    EXPECT_NE(first.out.find("large model            75.0 %"), std::string::npos) << first.out;
    EXPECT_NE(first.err.find("drei: the large model said \"three\", which is none of the labels; it counts as wrong"),
              std::string::npos)
        << first.err;
    EXPECT_EQ(server.asked().size(), before + 4);
    const std::string kept = slurp(p.path + "/large.jsonl");
    EXPECT_EQ(std::count(kept.begin(), kept.end(), '\n'), 4) << kept;
    EXPECT_EQ(json::parse(kept.substr(0, kept.find('\n')))["tokens_in"], 100);
    EXPECT_EQ(shell(command).code, 0);
    EXPECT_EQ(server.asked().size(), before + 4);

    const Ran budget = shell(slmctl_path() + " --socket " + d.socket + " route budget");
    EXPECT_EQ(budget.code, 0) << budget.err;
    EXPECT_NE(budget.out.find("all agents               day    money 0.00"), std::string::npos) << budget.out;
    EXPECT_EQ(shell(slmctl_path() + " --socket " + d.socket + " queue list").code, 0);
    EXPECT_EQ(shell(slmctl_path() + " --socket " + d.socket + " queue show x").code, 1);
    const Ran ran = shell(slmctl_path() + " --socket " + d.socket + " agent run kind zwei --route remote");
    EXPECT_EQ(ran.out, "two\n");
    EXPECT_NE(ran.err.find("route: escalate, since the request asks for the large model"), std::string::npos)
        << ran.err;
}

TEST(Uplink, what_leaves_is_what_the_preview_says) {
    const Place p;
    p.agent("topic", "[remote]\npolicy = 'redacted'\n", std::string("text = 200\n") + fails);
    ChatServer server;
    server.answer = [](const ChatServer::Asked&) { return "about it"; };
    Daemon d(p.options());
    const Uplink up(p, server.port);
    wait_for(d.log, "slm-uplink is there");
    const std::vector<std::string> texts{
        "nothing secret, \"quotes\" \\ and\nlines\tand \u00e4\u00f6 \U0001F600",
        "card 4111 1111 1111 1111, again 4111111111111111, mail x.y@z.example and x.y@z.example",
        "call +49 30 901820 or 030 901820; 192.168.1.20, fe80::1, 00:1a:2b:3c:4d:5e",
        "key sk-abcdefghijklmnopqrstuvwxyz012345, password: hunter2!, born on 1990-02-03",
        "52.5200, 13.4050; https://user:pass@example.org/?token=abcdef0123456789; Projekt  Nordlicht",
        "already a placeholder: [EMAIL_1] and [IBAN_7]",
    };
    for (const std::string& text : texts) {
        json r;
        for (int i = 0; i < 500 && r["route"] != "escalate"; i++, usleep(i > 0 ? 10'000 : 0)) r = run(d, "topic", text);
        ASSERT_EQ(r["route"], "escalate") << r;
        std::ofstream(p.path + "/text") << text;
        const Ran preview = shell(slmctl_path() + " route preview - --term 'Projekt Nordlicht' <" + p.path + "/text");
        ASSERT_EQ(preview.code, 0) << preview.err;
        const std::string content = server.asked().back().body["messages"].back()["content"];
        EXPECT_EQ(content + "\n", "What is it about? " + preview.out) << text;
    }
}

TEST(Uplink, many_at_once_each_get_their_own) {
    const Place p;
    p.agent("topic", "[remote]\npolicy = 'redacted'\n", std::string("text = 200\n") + fails);
    ChatServer server;
    server.answer = [](const ChatServer::Asked& a) {
        const std::string said = a.body["messages"].back()["content"];
        return "about " + said.substr(said.find("number "));
    };
    DaemonOptions options = p.options();
    options.arguments.insert(options.arguments.end(), {"--slots", "3"});
    Daemon d(options);
    const Uplink up(p, server.port, "[budget]\nday = { money = 100.0 }\n");
    wait_for(d.log, "slm-uplink is there");
    json r;
    for (int i = 0; i < 500 && r["route"] != "escalate"; i++, usleep(10'000)) r = run(d, "topic", "number 0");
    ASSERT_EQ(r["route"], "escalate") << r;
    std::atomic<int> right{0};
    std::vector<std::thread> clients;
    for (int c = 0; c < 6; c++)
        clients.emplace_back([&, c] {
            Wire w = d.connect();
            for (int i = 0; i < 25; i++) {
                const std::string own =
                    "number " + std::to_string(100 * c + i) + " u" + std::to_string(c) + "@x.example";
                const json said = w.call("run", {{"agent", "topic"}, {"input", own}}, i)["result"];
                right += said["route"] == "escalate" && said["text"] == "about " + own;
            }
        });
    for (std::thread& t : clients) t.join();
    EXPECT_EQ(right, 150);
    EXPECT_EQ(server.asked().size(), 151u);
    Wire w = d.connect();
    json budget;
    for (int i = 0; i < 500; i++, usleep(10'000)) {
        budget = w.call("budget")["result"]["budget"];
        if (budget[0]["tokens"] == 151 * 120) break;
    }
    EXPECT_EQ(budget[0]["tokens"], 151 * 120);
    EXPECT_DOUBLE_EQ(budget[0]["money"], 151 * 0.0003);
}
