// Documents by slmd: added, found, answered from, and there after a kill.
#include <map>
#include <set>
#include <thread>

#include "harness.h"

using namespace slmd;
using namespace slmd::testing;

namespace {

// A folder of its own for each slmd, with the configuration in it.
struct Place {
    std::string path;
    explicit Place(const std::string& more = "", bool trusted = true) {
        static int number = 0;
        path = folder() + "/docs" + std::to_string(++number);
        std::filesystem::create_directories(path + "/state");
        std::ofstream(config()) << "state = \"" << path << "/state\"\n[limits]\npassages = 1000\n[socket]\ntrusted = "
                                << (trusted ? "true" : "false") << "\n"
                                << more;
    }
    std::string config() const { return path + "/slmd.toml"; }
    std::string database() const { return path + "/state/documents.db"; }
    std::string file(const std::string& name, const std::string& content) const {
        std::ofstream(path + "/" + name, std::ios::binary) << content;
        return path + "/" + name;
    }
    DaemonOptions options(const std::string& image = {}) const {
        return {.arguments = {"--config", config(), "--trace-sandbox"}, .image = image};
    }
};

json document(const std::string& name, const std::vector<std::string>& texts, int version = 1) {
    std::string hash(64, 'a');
    const std::string digits = std::to_string(version);
    hash.replace(0, digits.size(), digits);
    std::vector<int> spans;
    std::vector<std::string> headings;
    for (const std::string& t : texts) {
        const int begin = spans.empty() ? 0 : spans.back();
        spans.push_back(begin), spans.push_back(begin + static_cast<int>(t.size()));
        headings.push_back("heading of " + name);
    }
    return {{"name", name},   {"sha256", hash},       {"bytes", spans.empty() ? 0 : spans.back()},
            {"texts", texts}, {"headings", headings}, {"spans", spans}};
}

json found(Wire& w, const std::string& query, const char* by = "both") {
    return w.call("docs.search", {{"query", query}, {"by", by}})["result"]["passages"];
}
std::string refusal(const json& reply) { return reply.contains("error") ? reply["error"]["message"] : json("none"); }

}  // namespace

TEST(Documents, are_added_found_and_removed_on_both_wires) {
    const Place place;
    Daemon d(place.options());
    Wire w = d.connect();
    json r = w.call("docs.add", document("pump.md", {"The pump \"P2\" leaks oil.\nOften.", "The valve is shut."}));
    EXPECT_EQ(r["result"], json({{"passages", 2}, {"unchanged", false}})) << r;
    r = w.call("docs.add", document("pump.md", {"The pump \"P2\" leaks oil.\nOften.", "The valve is shut."}));
    EXPECT_EQ(r["result"]["unchanged"], true);
    r = w.call("docs.search", {{"query", "Is the valve shut?"}, {"top", 1}})["result"];
    EXPECT_EQ(r["meaning"], false);
    ASSERT_EQ(r["passages"].size(), 1u) << r;
    EXPECT_EQ(r["passages"][0]["document"], "pump.md");
    EXPECT_EQ(r["passages"][0]["text"], "The valve is shut.");
    EXPECT_EQ(r["passages"][0]["heading"], "heading of pump.md");
    EXPECT_EQ(r["passages"][0]["coverage"], 1);
    EXPECT_EQ(r["passages"][0]["end"].get<int>() - r["passages"][0]["begin"].get<int>(), 18);
    r = w.call("docs")["result"];
    EXPECT_EQ(r["all"], 1);
    EXPECT_EQ(r["documents"][0]["name"], "pump.md");
    EXPECT_EQ(r["documents"][0]["whole"], true);
    EXPECT_EQ(refusal(w.call("docs.search", {{"query", "x"}, {"by", "meaning"}})).find("this slmd has no encoder"), 0u);
    EXPECT_EQ(refusal(w.call("docs.search", {{"query", "x"}, {"by", "luck"}})),
              "by is \"both\", \"words\" or \"meaning\"");

    d.tty.send("ATE0\rAT+CMEE=2\rAT#DOCS?\r");
    std::string said = d.tty.until("#DOCS: ");
    said = d.tty.until("\r\nOK\r\n");
    EXPECT_EQ(said.substr(0, said.find('\r')), "2,0,49,1,\"pump.md\"");
    d.tty.send("AT#FIND=\"oil pump\"\r");
    d.tty.until("#FIND: ");
    said = d.tty.until("\r\nOK\r\n");
    EXPECT_NE(said.find(",\"pump.md\",\"The pump \\\"P2\\\" leaks oil.\\nOft"), std::string::npos) << said;
    EXPECT_LE(said.find('\r'), 80u);
    // A line is no trusted port here, whatever it is sent.
    d.tty.send(R"({"jsonrpc":"2.0","id":4,"method":"docs.remove","params":{"name":"pump.md"}})"
               "\r");
    EXPECT_NE(d.tty.until("}}\r\n").find("this port may not change the documents"), std::string::npos);

    EXPECT_EQ(w.call("docs.remove", {{"name", "pump.md"}})["result"], json({{"passages", 2}}));
    EXPECT_EQ(w.call("docs.remove", {{"name", "pump.md"}})["error"]["code"], 22);
    EXPECT_TRUE(found(w, "valve").empty());
    // Each system call that SQLite makes is allowed.
    EXPECT_EQ(slurp(d.log).find("refused: system call"), std::string::npos) << slurp(d.log);
}

TEST(Documents, what_is_wrong_is_said) {
    const Place place;
    Daemon d(place.options());
    Wire w = d.connect();
    json bad = document("a", {"x", "y"});
    bad["spans"] = {0, 1};
    EXPECT_EQ(refusal(w.call("docs.add", bad)),
              "2 texts, 2 headings and 2 numbers in spans: one heading and two numbers for each text");
    bad = document("a", {"x"});
    bad["texts"] = {7};
    EXPECT_EQ(refusal(w.call("docs.add", bad)), "texts and headings are texts, spans are numbers");
    bad = document("a", std::vector<std::string>(65, "x"));
    EXPECT_EQ(refusal(w.call("docs.add", bad)), "at most 64 passages a part");
    bad = document("a", {"x"});
    bad["sha256"] = std::string(64, 'Z');
    EXPECT_EQ(refusal(w.call("docs.add", bad)), "sha256 is 64 hexadecimal digits in lower case");
    bad = document("a", {"x"});
    bad["part"] = 3;
    EXPECT_NE(refusal(w.call("docs.add", bad)).find("begin again with part 0"), std::string::npos);
    EXPECT_NE(refusal(w.call("docs.add", document("a", {std::string(1501, 'x')}))).find("a passage is 1 to 1500 bytes"),
              std::string::npos);
    for (int i = 0; i < 15; i++)
        EXPECT_TRUE(w.call("docs.add", document("n" + std::to_string(i), std::vector<std::string>(64, "x")))
                        .contains("result"));
    EXPECT_NE(refusal(w.call("docs.add", document("more", std::vector<std::string>(64, "x"))))
                  .find("1024 passages would be there, and [limits] passages allows 1000"),
              std::string::npos);

    Daemon without;
    Wire none = without.connect();
    for (const char* method : {"docs", "docs.search", "ask"})
        EXPECT_NE(refusal(none.call(method, std::string(method) == "docs"  ? json::object()
                                            : std::string(method) == "ask" ? json{{"question", "x"}}
                                                                           : json{{"query", "x"}}))
                      .find("this slmd keeps no documents"),
                  std::string::npos);
    const Place untrusting("", false);
    Daemon other(untrusting.options());
    Wire o = other.connect();
    EXPECT_EQ(o.call("docs.add", document("a", {"x"}))["error"]["code"], 268);
    EXPECT_TRUE(o.call("docs").contains("result"));
    const std::string stateless = folder() + "/stateless.toml";
    std::ofstream(stateless) << "[limits]\npassages = 10\n";
    const Ran r = shell(slmd_path() + " --model " + tiny_image() + " --socket " + folder() +
                        "/x.sock --check-config --config " + stateless);
    EXPECT_EQ(r.code, 78);
    EXPECT_NE(r.err.find("no folder to keep them in: set state"), std::string::npos) << r.err;
}

TEST(Documents, slmctl_reads_files_of_all_kinds) {
    const Place place;
    Daemon d(place.options());
    const std::string ctl = slmctl_path() + " -s " + d.socket + " ";
    const std::string md = place.file("a.md", "# Pumps\n\n## Pump 2\n\nLeaks oil.\n"),
                      html = place.file("b.html", "<h1>Valves</h1><p>Shut &amp; sealed.</p><script>no()</script>"),
                      csv = place.file("c.csv", "part,price\nseal,7\n"),
                      text = place.file("d.txt", "Plain words here.\n");
    Ran r = shell(ctl + "docs add " + md + " " + html + " " + csv + " " + text);
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out,
              md + ": 1 passages\n" + html + ": 1 passages\n" + csv + ": 1 passages\n" + text + ": 1 passages\n");
    EXPECT_EQ(shell(ctl + "docs add " + md).out, md + ": 1 passages, unchanged\n");
    r = shell(ctl + "docs search 'Which valves are sealed?'");
    EXPECT_NE(r.out.find(html + ", bytes 18-36, Valves\nShut & sealed.\n"), std::string::npos) << r.out;
    r = shell(ctl + "docs search 'price of part 7' --top 1");
    EXPECT_NE(r.out.find(csv + ", bytes 11-17, part,price\nseal,7\n"), std::string::npos) << r.out;
    r = shell(ctl + "docs list");
    EXPECT_NE(r.out.find("       1         0          31  " + md + "\n"), std::string::npos) << r.out;
    EXPECT_NE(r.err.find("found by their words alone"), std::string::npos) << r.err;
    // A file that changed takes the place of the old one.
    place.file("a.md", "# Pumps\n\nNow dry.\n");
    EXPECT_EQ(shell(ctl + "docs add " + md).out, md + ": 1 passages\n");
    EXPECT_EQ(shell(ctl + "docs search leaks").code, 1);
    EXPECT_EQ(shell(ctl + "docs search dry").code, 0);

    const auto says = [&](const std::string& name, const std::string& content) {
        const std::string path = place.file(name, content);
        const Ran ran = shell(ctl + "docs add " + path + " " + text);
        EXPECT_EQ(ran.code, 1);
        EXPECT_EQ(ran.out, text + ": 1 passages, unchanged\n");  // and goes on with the next
        return ran.err;
    };
    EXPECT_NE(says("e.txt", "caf\xE9").find("byte 3 is not UTF-8"), std::string::npos);
    EXPECT_NE(says("f.txt", std::string("a\0b", 3)).find("byte 1 is 0, as in binary files"), std::string::npos);
    EXPECT_NE(says("g.md", "\n\n").find("there is no text in it"), std::string::npos);
    EXPECT_NE(says("h.txt", std::string((32u << 20) + 1, 'x')).find("larger than 32 MiB"), std::string::npos);
    EXPECT_NE(says("i.pdf", "%PDF-1.4\nnot really").find("pdftotext cannot read it"), std::string::npos);
    EXPECT_NE(shell(ctl + "docs add " + place.path).err.find("a folder; name the files in it"), std::string::npos);
    EXPECT_NE(shell(ctl + "docs add /no/where").err.find("No such file"), std::string::npos);
    EXPECT_NE(shell("PATH=/nowhere " + ctl + "docs add " + place.path + "/i.pdf").err.find("apt install poppler-utils"),
              std::string::npos);
    const std::string bells = place.file("k.txt", "Ring \x1b[2J\x07 the zebra.\n");
    EXPECT_EQ(shell(ctl + "docs add " + bells).code, 0);
    EXPECT_NE(shell(ctl + "docs search zebra").out.find("\nRing  [2J  the zebra.\n"), std::string::npos);
    EXPECT_EQ(shell(ctl + "docs").code, 64);
    EXPECT_EQ(shell(ctl + "docs search").code, 64);
    r = shell(ctl + "docs remove " + md + " d.txt nothing");
    EXPECT_EQ(r.code, 1);
    EXPECT_NE(r.out.find(md + ": 1 passages removed\n"), std::string::npos);
    EXPECT_NE(r.err.find("no document \"nothing\""), std::string::npos);
}

TEST(Documents, slmctl_reads_pdf_by_pdftotext) {
    if (shell("command -v pdftotext").code != 0) GTEST_SKIP() << "no pdftotext: apt install poppler-utils";
    const Place place;
    Daemon d(place.options());
    std::string pdf = "%PDF-1.4\n";
    std::vector<std::size_t> at;
    const auto object = [&](const std::string& body) {
        at.push_back(pdf.size());
        pdf += std::to_string(at.size()) + " 0 obj\n" + body + "\nendobj\n";
    };
    const auto page = [](const std::string& words) {
        const std::string s = "BT /F1 12 Tf 72 700 Td (" + words + ") Tj ET";
        return "<< /Length " + std::to_string(s.size()) + " >>\nstream\n" + s + "\nendstream";
    };
    object("<< /Type /Catalog /Pages 2 0 R >>");
    object("<< /Type /Pages /Kids [3 0 R 5 0 R] /Count 2 >>");
    for (const int content : {4, 6}) {
        object("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents " + std::to_string(content) +
               " 0 R /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>");
        object(page(content == 4 ? "The oil is black." : "Change it every 500 hours."));
    }
    const std::size_t table = pdf.size();
    pdf += "xref\n0 " + std::to_string(at.size() + 1) + "\n0000000000 65535 f \n";
    for (const std::size_t a : at) {
        char line[32];
        snprintf(line, sizeof line, "%010zu 00000 n \n", a);
        pdf += line;
    }
    pdf += "trailer << /Size " + std::to_string(at.size() + 1) + " /Root 1 0 R >>\nstartxref\n" +
           std::to_string(table) + "\n%%EOF\n";
    const std::string path = place.file("manual.pdf", pdf), ctl = slmctl_path() + " -s " + d.socket + " ";
    const Ran r = shell(ctl + "docs add " + path);
    EXPECT_EQ(r.out, path + ": 2 passages\n") << r.err;
    EXPECT_NE(shell(ctl + "docs search 'how many hours'").out.find("page 2\nChange it every 500 hours.\n"),
              std::string::npos);
}

TEST(Documents, of_any_size_come_in_parts) {
    const Place place;
    Daemon d(place.options());
    std::string text;
    for (int i = 0; i < 400; i++)
        text += "Paragraph number n" + std::to_string(i) + ". " + std::string(900, static_cast<char>('a' + i % 26)) +
                "\n\n";
    const std::string path = place.file("long.txt", text), ctl = slmctl_path() + " -s " + d.socket + " ";
    const Ran r = shell(ctl + "docs add " + path);
    EXPECT_EQ(r.out, path + ": 400 passages\n") << r.err;
    Wire w = d.connect();
    for (const int i : {0, 63, 64, 65, 399}) {
        const json all = found(w, "n" + std::to_string(i));
        ASSERT_EQ(all.size(), 1u) << i;
        const std::size_t begin = all[0]["begin"], end = all[0]["end"];
        EXPECT_EQ(text.substr(begin, end - begin), all[0]["text"]);
    }
}

TEST(Documents, an_answer_is_a_part_of_what_it_cites_or_there_is_none) {
    const Place place;
    Daemon d(place.options(roomy_image()));
    Wire w = d.connect();
    const std::string sentence = "Grete Ohm changed the oil of pump 2 on 12 May 2019.";
    w.call("docs.add", document("log.md", {"It hums. " + sentence + " It leaks."}));
    w.call("docs.add", document("other.md", {"Valves are shut by hand."}));
    const std::set<std::string> refusals{"the model only repeats the question",
                                         "the answer does not stand in what was found"};
    int answered = 0;
    for (const char* question :
         {"Who changed the oil of pump 2?", "When did Grete Ohm change the oil?", "Oil of which pump?"}) {
        const json r = w.call("ask", {{"question", question}})["result"];
        if (!r["answered"].get<bool>()) {  // the tiny model may say the question again, or a comma
            EXPECT_TRUE(refusals.count(r["why"])) << r;
            continue;
        }
        answered++;
        ASSERT_EQ(r["citations"].size(), 1u);
        EXPECT_EQ(r["citations"][0]["quote"], sentence);
        EXPECT_EQ(r["citations"][0]["document"], "log.md");
        EXPECT_EQ(r["citations"][0]["begin"], 9);
        EXPECT_EQ(r["citations"][0]["end"].get<std::size_t>(), 9 + sentence.size());
        EXPECT_NE(sentence.find(r["answer"].get<std::string>()), std::string::npos) << r;
        EXPECT_FALSE(r["answer"].get<std::string>().empty());
    }
    EXPECT_GT(answered, 0);
    json r = w.call("ask", {{"question", "Zanzibar?"}})["result"];
    EXPECT_EQ(r["answered"], false);
    EXPECT_EQ(r["answer"], nullptr);
    EXPECT_EQ(r["why"], "nothing was found");
    EXPECT_TRUE(r["citations"].empty());
    r = w.call("ask", {{"question", "Who painted the oil of the lighthouse in Genoa?"}})["result"];
    EXPECT_EQ(r["why"], "no passage says enough of what is asked");

    d.tty.send("ATE0\r"), d.tty.until("OK\r\n");
    d.tty.send("AT#ASK=\"Who changed the oil of pump 2?\"\r");
    std::string said = d.tty.until("\r\nOK\r\n");
    if (said.find("#ASK: 1,") != std::string::npos) {
        EXPECT_NE(said.find("#TOK: \""), std::string::npos) << said;
        EXPECT_NE(said.find("#CITE: 1,9,60,\"log.md\""), std::string::npos) << said;
    } else {
        EXPECT_NE(said.find("#ASK: 0,\"the "), std::string::npos) << said;
        EXPECT_EQ(said.find("#TOK"), std::string::npos) << said;
    }
    d.tty.send("AT#ASK=\"Zanzibar?\"\r");
    said = d.tty.until("\r\nOK\r\n");
    EXPECT_NE(said.find("#ASK: 0,\"nothing was found\",0,0,"), std::string::npos) << said;
    EXPECT_EQ(said.find("#TOK"), std::string::npos);
    const Ran ran = shell(slmctl_path() + " -s " + d.socket + " docs ask 'Zanzibar?'");
    EXPECT_EQ(ran.code, 3);
    EXPECT_EQ(ran.err, "slmctl: the documents do not say: nothing was found\n");
}

TEST(Documents, are_embedded_while_nobody_asks) {
    const Place place("[embed]\nmodel = \"" + bert_image() + "\"\n");
    std::vector<std::string> texts;
    for (int i = 0; i < 40; i++) texts.push_back("The pump in hall " + std::to_string(i) + " is leaking oil.");
    const auto embedded = [](Wire& w, int wanted) {
        for (int i = 0; i < patience_ms / 20; i++) {
            const json all = w.call("docs")["result"]["documents"];
            int n = 0;
            for (const json& one : all) n += one["embedded"].get<int>();
            if (n >= wanted) return n;
            usleep(20'000);
        }
        return -1;
    };
    {
        Daemon d(place.options());
        Wire w = d.connect();
        w.call("docs.add", document("a", texts));
        EXPECT_EQ(embedded(w, 40), 40);
        const json r = w.call(
            "docs.search", {{"query", "THE PUMP in hall 7 is leaking oil."}, {"by", "meaning"}, {"top", 16}})["result"];
        EXPECT_EQ(r["meaning"], true);
        EXPECT_EQ(r["passages"].size(), 16u);
        for (std::size_t i = 0; i < r["passages"].size(); i++) {
            EXPECT_EQ(r["passages"][i]["meaning"], i + 1);
            EXPECT_EQ(r["passages"][i]["words"], 0);
        }
        EXPECT_EQ(found(w, "hall 7", "words")[0]["text"], texts[7]);
        const json both = found(w, "hall 7");
        ASSERT_EQ(both.size(), 5u);
        for (const json& p : both) {
            const double score = 1.0 / (60 + p["words"].get<int>()) + 1.0 / (60 + p["meaning"].get<int>());
            EXPECT_NEAR(p["score"].get<double>(), score, 1e-6) << p;
        }
    }
    Daemon again(place.options());
    Wire w = again.connect();
    EXPECT_EQ(embedded(w, 40), 40);
    w.call("docs.add", document("b", {texts[3] + " Again."}));
    EXPECT_EQ(embedded(w, 41), 41);
}

TEST(Documents, whatever_was_acknowledged_is_there_once_after_each_kill) {
    const Place place("[embed]\nmodel = \"" + bert_image() + "\"\n");
    signal(SIGPIPE, SIG_IGN);                 // whom it writes to is killed
    std::map<std::string, int> acknowledged;  // name and version
    std::string under_way;
    int version = 0, killed = 0;
    for (int round = 0; round < 12; round++) {
        auto d = std::make_unique<Daemon>(place.options());
        Wire w = d->connect();
        // All of it, once, and nothing of what came before.
        std::map<std::string, int> listed;
        const json all = w.call("docs")["result"]["documents"];
        for (const json& one : all) listed[one["name"]] = one["passages"];
        for (const auto& [name, v] : acknowledged) {
            EXPECT_EQ(listed[name], 8) << name;
            // The next version may have been written, and the kill have come before it was said.
            const auto times = [&, &document = name](int which, int i) {
                return found(w, document + "v" + std::to_string(which) + "p" + std::to_string(i), "words").size();
            };
            for (const int i : {0, 7})
                EXPECT_EQ(times(v, i) + (under_way == name ? times(version, i) : 0), 1u) << name << v;
            if (v > 20 && under_way != name) {
                EXPECT_TRUE(found(w, name + "v" + std::to_string(v - 20) + "p0", "words").empty()) << name;
            }
        }
        if (!under_way.empty() && !found(w, under_way + "v" + std::to_string(version) + "p0", "words").empty())
            acknowledged[under_way] = version;
        // What was under way may be there, too: as a whole.
        for (const auto& [name, passages] : listed) EXPECT_EQ(passages, 8) << name;
        const pid_t pid = d->pid();
        std::thread killer([&] {
            usleep(static_cast<useconds_t>(15'000 + round * 9'000));
            kill(pid, SIGKILL);
        });
        for (int i = 0; i < 3000; i++) {
            const int next = ++version;
            const std::string name = under_way = "doc" + std::to_string(next % 20);
            std::vector<std::string> texts;
            for (int p = 0; p < 8; p++)
                texts.push_back(name + "v" + std::to_string(next) + "p" + std::to_string(p) + " and some words of it");
            w.send(
                json{{"jsonrpc", "2.0"}, {"id", next}, {"method", "docs.add"}, {"params", document(name, texts, next)}}
                    .dump() +
                "\n");
            std::string line;
            while (line.empty() || line.back() != '\n') {
                const std::string more = w.some();
                if (more.empty()) break;
                line += more;
            }
            if (line.empty() || line.back() != '\n') break;
            const json reply = json::parse(line);
            ASSERT_TRUE(reply.contains("result")) << line;
            acknowledged[name] = next;
        }
        killer.join();
        EXPECT_EQ(d->wait(), 128 + SIGKILL);
        killed++;
    }
    EXPECT_EQ(killed, 12);
    EXPECT_GT(acknowledged.size(), 10u);
}

TEST(Documents, a_damaged_index_is_said_and_is_not_the_end) {
    const Place place;
    {
        Daemon d(place.options());
        Wire w = d.connect();
        w.call("docs.add", document("a", {"alpha beta"}));
    }
    std::ofstream(place.database(), std::ios::binary) << std::string(8192, 'x');
    Daemon d(place.options());
    Wire w = d.connect();
    EXPECT_NE(slurp(d.log).find("was damaged: it is"), std::string::npos) << slurp(d.log);
    EXPECT_TRUE(std::filesystem::exists(place.database() + ".damaged"));
    EXPECT_EQ(w.call("docs")["result"]["all"], 0);
    w.call("docs.add", document("a", {"alpha beta"}));
    EXPECT_EQ(found(w, "alpha").size(), 1u);
    EXPECT_FALSE(d.answer("What is the capital of France?").empty());
}

TEST(Documents, every_byte_is_in_the_plan) {
    if (sanitized) GTEST_SKIP() << "the sanitizers take memory of their own: run this test in the release build";
    const Place place("[embed]\nmodel = \"" + bert_image() + "\"\n");
    Daemon d(place.options(roomy_image()));
    Wire w = d.connect();
    std::map<std::string, std::uint64_t> items;
    std::uint64_t total = 0;
    const json plan = w.call("plan")["result"];
    for (const json& i : plan["items"]) items[i["name"]] = i["bytes"], total += i["bytes"].get<std::uint64_t>();
    EXPECT_GT(items["documents"], 6u << 20);
    Daemon plain(
        {.arguments = {"--embed-model", bert_image(), "--state", place.path + "/state"}, .image = roomy_image()});
    Wire p = plain.connect();
    EXPECT_EQ(p.call("plan")["result"]["total"], total - items["documents"]);
    unsigned seed = 3;
    for (int i = 0; i < 15; i++) {
        std::vector<std::string> texts(60);
        for (std::string& t : texts)
            while (t.size() < 700)
                seed = seed * 1664525 + 1013904223, t += "w" + std::to_string((seed >> 12) % 5000) + " ";
        ASSERT_TRUE(w.call("docs.add", document("d" + std::to_string(i % 14), texts, i)).contains("result"));
        EXPECT_FALSE(found(w, texts[7]).empty());
        w.call("ask", {{"question", texts[8].substr(0, 60)}});
    }
    EXPECT_LE(static_cast<std::uint64_t>(pss_kib(d.pid())) << 10, total);
}

TEST(Documents, nothing_is_allocated_after_ready) {
    if (sanitized) GTEST_SKIP() << "the sanitizers have their own allocator: run this test in the release build";
    const Place place("[embed]\nmodel = \"" + bert_image() + "\"\n");
    const std::string report = folder() + "/counts";
    DaemonOptions options = place.options(roomy_image());
    options.arguments.pop_back();  // the trace logs
    options.environment = {"LD_PRELOAD=" SLMD_MALLOC_COUNT, "MALLOC_COUNT=" + report};
    Daemon d(options);
    Wire w = d.connect();
    kill(d.pid(), SIGUSR2);
    for (int i = 0; i < 20; i++) {
        const std::string name = "doc" + std::to_string(i % 7);
        w.call("docs.add",
               document(name, std::vector<std::string>(20, name + " the pump is leaking oil in hall three."), i + 1));
        EXPECT_FALSE(found(w, "leaking oil").empty());
        w.call("ask", {{"question", "Where is the pump leaking oil?"}});
        w.call("docs");
        if (i % 5 == 0) w.call("docs.remove", {{"name", name}});
    }
    kill(d.pid(), SIGUSR2);
    std::string counts;
    for (int i = 0; i < 500 && counts.find("counts") == std::string::npos; i++) usleep(10'000), counts = slurp(report);
    EXPECT_EQ(counts, "counts 0 0 0 0\n");
}
