// Embeddings by slmd: of an encoder, of one beside a model that writes, and of that model itself.
#include <map>

#include "harness.h"

using namespace slmd;
using namespace slmd::testing;

namespace {

std::vector<std::string> texts() {
    std::vector<std::string> all;
    for (const json& c : json::parse(slurp(std::string(SLMD_SOURCE) + "/tests/pack/bert/cases.json")))
        all.push_back(c["text"]);
    return all;
}

// What slmpack computes of the same image, and what is in an .npy of float32.
std::vector<float> by_slmpack(const std::string& image, const std::vector<std::string>& lines) {
    const std::string in = folder() + "/lines", out = folder() + "/vectors.npy";
    std::ofstream file(in);
    for (const std::string& line : lines) file << line << '\n';
    file.close();
    const Ran r = shell(std::string(SLMD_BUILD) + "/slmpack embed " + image + " -o " + out + " <" + in);
    EXPECT_EQ(r.code, 0) << r.err;
    const std::string bytes = slurp(out);
    const std::size_t begin = bytes.find('\n') + 1;
    std::vector<float> values((bytes.size() - begin) / sizeof(float));
    memcpy(values.data(), bytes.data() + begin, values.size() * sizeof(float));
    return values;
}

void expect_near(const json& embeddings, const std::vector<float>& wanted, std::size_t first = 0) {
    for (std::size_t i = 0; i < embeddings.size(); i++) {
        const json& vector = embeddings[i]["vector"];
        for (std::size_t k = 0; k < vector.size(); k++)  // eight decimals are told
            ASSERT_NEAR(vector[k].get<double>(), static_cast<double>(wanted.at((first + i) * vector.size() + k)), 6e-9)
                << "text " << first + i;
    }
}

}  // namespace

TEST(Embed, an_encoder_as_the_model) {
    Daemon d({.image = bert_image()});
    Wire w = d.connect();
    std::vector<std::string> lines = texts();
    std::erase_if(lines, [](const std::string& t) { return t.find('\n') != std::string::npos; });
    const std::vector<float> wanted = by_slmpack(bert_image(), lines);
    const json r = w.call("emb", {{"texts", lines}, {"progress", true}})["result"];
    EXPECT_EQ(r["dim"], 32);
    ASSERT_EQ(r["embeddings"].size(), lines.size());
    expect_near(r["embeddings"], wanted);
    int cut = 0, tokens = 0;
    for (const json& e : r["embeddings"]) cut += e["cut"].get<bool>(), tokens += e["tokens"].get<int>();
    EXPECT_EQ(cut, 2);
    EXPECT_EQ(r["prompt_tokens"], tokens);
    for (std::size_t i = 0; i < lines.size(); i++)
        expect_near(w.call("emb", {{"text", lines[i]}})["result"]["embeddings"], wanted, i);

    // Nothing else is to be had of it, and that is said.
    for (const auto& [method, params] :
         {std::pair{"gen", json{{"prompt", "x"}}}, std::pair{"chat", json{{"prompt", "x"}}},
          std::pair{"cls", json{{"prompt", "x"}, {"labels", {"a", "b"}}}},
          std::pair{"ext", json{{"prompt", "x"}, {"schema", {{"type", "integer"}}}}}}) {
        const json e = w.call(method, params)["error"];
        EXPECT_EQ(e["message"], "bert is an encoder: it embeds texts (AT#EMB, embed), and writes and chooses nothing")
            << method;
    }
    d.tty.send("ATE0\rAT+CMEE=2\rAT#GEN=\"x\"\r");
    EXPECT_NE(d.tty.until("nothing\r\n").find("+CME ERROR: operation not supported: bert is an encoder"),
              std::string::npos);
    d.tty.send("AT#EMB=\"The pump\"\r");
    const std::string said = d.tty.until("\r\nOK\r\n");
    EXPECT_NE(said.find("\r\n#EMB: 32,4,0,0."), std::string::npos) << said;
    EXPECT_NE(said.find("#VEC: 0,\""), std::string::npos) << said;

    EXPECT_EQ(w.call("emb", {{"texts", std::vector<std::string>(65, "x")}})["error"]["message"],
              "texts is an array of 1 to 64 texts");
    EXPECT_EQ(
        w.call("emb", {{"texts", std::vector<std::string>(64, std::string(60, 'q'))}})["result"]["embeddings"].size(),
        64u);
    const json late = w.call("emb", {{"text", "x"}, {"deadline_ms", 86400000}});
    EXPECT_TRUE(late.contains("result")) << late;
    EXPECT_NE(slurp(d.log).find("embeds texts of up to 24 tokens"), std::string::npos) << slurp(d.log);
    EXPECT_EQ(w.call("model")["result"]["context"], 24);
}

TEST(Embed, an_encoder_beside_a_model_that_writes) {
    const std::string file = folder() + "/beside.toml";
    std::ofstream(file) << "[embed]\nmodel = \"" << bert_image() << "\"\n";
    Daemon d({.arguments = {"--config", file}});
    Wire w = d.connect(), other = d.connect();
    const std::vector<std::string> lines{"The pump in hall 3 is leaking oil.", "THE PUMP", "naïve café"};
    const std::vector<float> wanted = by_slmpack(bert_image(), lines);
    const std::string paris = d.answer("What is the capital of France?");
    // Both at a time, and each says what it says alone.
    other.send(json{{"jsonrpc", "2.0"},
                    {"id", 7},
                    {"method", "gen"},
                    {"params", {{"prompt", "What is the capital of France?"}}}}
                   .dump() +
               "\n");
    for (int i = 0; i < 20; i++) expect_near(w.call("emb", {{"texts", lines}})["result"]["embeddings"], wanted);
    EXPECT_EQ(other.reply(7)["result"]["text"], paris);

    // Every byte of it is in the plan.
    std::map<std::string, std::uint64_t> items;
    const json plan = w.call("plan")["result"];
    for (const json& i : plan["items"]) items[i["name"]] = i["bytes"];
    const Ran alone = shell(slmctl_path() + " plan " + bert_image());
    for (const auto& [item, name] :
         {std::pair{"  image", "embed model: image"}, std::pair{"  activations", "embed model: activations"},
          std::pair{"  engine state", "embed model: engine state"}}) {
        const std::size_t at = alone.out.find(item), line = alone.out.rfind('\n', at) + 1;
        ASSERT_NE(at, std::string::npos) << alone.out;
        EXPECT_EQ(items[name], std::stoull(alone.out.substr(line))) << name;
    }
    Daemon plain;
    Wire p = plain.connect();
    std::uint64_t without = 0, with = 0;
    const json less = p.call("plan")["result"];
    for (const json& i : less["items"]) without += i["bytes"].get<std::uint64_t>();
    for (const auto& [name, bytes] : items) with += bytes;
    EXPECT_EQ(with - without,
              items["embed model: image"] + items["embed model: activations"] + items["embed model: engine state"]);
}

TEST(Embed, a_model_that_writes_embeds_by_itself) {
    Daemon d({.arguments = {"--context", "256"}});
    Wire w = d.connect();
    const std::vector<std::string> lines{"What is the capital of France?", "What is the capital of Italy?", "a"};
    const std::vector<float> wanted = by_slmpack(tiny_image(), lines);
    const json r = w.call("emb", {{"texts", lines}})["result"];
    expect_near(r["embeddings"], wanted);
    EXPECT_FALSE(d.answer("What is the capital of France?").empty());
    expect_near(w.call("emb", {{"texts", lines}})["result"]["embeddings"], wanted);
    std::string text;
    for (int i = 0; i < 300; i++) text += "word ";
    const json cut = w.call("emb", {{"text", text}})["result"]["embeddings"][0];
    EXPECT_EQ(cut["cut"], true);
    EXPECT_EQ(cut["tokens"], 256);
    // Cancelled, and the next one is as ever.
    w.send(json{{"jsonrpc", "2.0"},
                {"id", 5},
                {"method", "emb"},
                {"params", {{"texts", std::vector<std::string>(40, text)}}}}
               .dump() +
           "\n");
    w.send(R"({"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":5}})"
           "\n");
    EXPECT_TRUE(w.reply(5).contains("error"));
    expect_near(w.call("emb", {{"texts", lines}})["result"]["embeddings"], wanted);
}

TEST(Embed, wrong_configurations_are_refused) {
    const auto said = [&](const std::string& arguments) {
        const Ran r = shell(slmd_path() + " --socket " + folder() + "/none.sock --check-config " + arguments);
        EXPECT_EQ(r.code, 78) << r.out;
        return r.err;
    };
    EXPECT_NE(said("--model " + tiny_image() + " --embed-model " + tiny_image()).find("is no encoder; without [embed]"),
              std::string::npos);
    EXPECT_NE(said("--model " + tiny_image() + " --embed-model /nowhere").find("embed model /nowhere"),
              std::string::npos);
    EXPECT_NE(said("--model " + bert_image() + " --embed-model " + bert_image()).find("goes alone: leave out [embed]"),
              std::string::npos);
    EXPECT_NE(said("--model " + bert_image() + " --draft-model " + tiny_image()).find("leave out draft_model"),
              std::string::npos);
    EXPECT_NE(said("--model " + bert_image() + " --stream").find("leave out stream"), std::string::npos);
    EXPECT_NE(said("--model " + bert_image() + " --context 25").find("context = 25: this model takes 2 to 24"),
              std::string::npos);
    EXPECT_NE(said("--model " + tiny_image() + " --draft-model " + bert_image()).find("is an encoder"),
              std::string::npos);
    const std::string file = folder() + "/wrong.toml";
    std::ofstream(file) << "model = \"" << tiny_image() << "\"\n[embed]\nmodell = \"x\"\n";
    EXPECT_NE(said("--config " + file).find("wrong.toml:3:"), std::string::npos);
    // Of a damaged image slmd says which one it is, and does not start.
    const std::string damaged = folder() + "/damaged.slm";
    std::string bytes = slurp(bert_image());
    bytes[bytes.size() / 2] ^= 1;
    std::ofstream(damaged, std::ios::binary) << bytes;
    Daemon d({.arguments = {"--embed-model", damaged}, .tty = false, .comes_up = false});
    EXPECT_EQ(d.wait(), 1);
    EXPECT_NE(slurp(d.log).find("damaged.slm"), std::string::npos) << slurp(d.log);
}

TEST(Embed, slmctl_prints_vectors) {
    Daemon d({.image = bert_image()});
    const std::string on_socket = slmctl_path() + " -s " + d.socket + " ";
    const std::vector<std::string> lines{"The pump", "THE PUMP", ""};
    const std::vector<float> wanted = by_slmpack(bert_image(), lines);
    Ran r = shell(on_socket + "embed 'The pump' 'THE PUMP' ''");
    ASSERT_EQ(r.code, 0) << r.err;
    std::istringstream numbers(r.out);
    for (const float v : wanted) {
        double told = 9;
        numbers >> told;
        ASSERT_NEAR(told, static_cast<double>(v), 6e-9);
    }
    EXPECT_EQ(std::count(r.out.begin(), r.out.end(), '\n'), 3);
    EXPECT_EQ(std::count(r.out.begin(), r.out.end(), '\t'), 3 * 31);
    EXPECT_EQ(shell("printf 'The pump\\nTHE PUMP\\n\\n' | " + on_socket + "embed").out, r.out);
    std::string many;
    for (int i = 0; i < 150; i++) many += "The pump\n";
    std::ofstream(folder() + "/many") << many;
    const Ran all = shell(on_socket + "embed - <" + folder() + "/many");
    EXPECT_EQ(std::count(all.out.begin(), all.out.end(), '\n'), 150) << all.err;
    EXPECT_EQ(all.out.substr(0, r.out.find('\n')), r.out.substr(0, r.out.find('\n')));
    r = shell(on_socket +
              "--format i8 embed 'a b c d e f the pump oil hall leaking is in one two three four five six seven eight "
              "nine ten'");
    EXPECT_EQ(r.code, 0);
    EXPECT_NE(r.err.find("text 1 is longer than the model reads: only its first 24 tokens count"), std::string::npos)
        << r.err;
    EXPECT_EQ(r.out.size(), r.out.find('\t') + 1 + 44 + 1) << r.out;
    r = shell(on_socket + "--json embed x");
    EXPECT_EQ(json::parse(r.out)["result"]["dim"], 32);
    EXPECT_EQ(shell(on_socket + "--format i4 embed x").code, 64);
    EXPECT_EQ(shell(on_socket + "ask x").code, 1);
}

TEST(Embed, nothing_is_allocated_after_ready) {
    if (sanitized) GTEST_SKIP() << "the sanitizers have their own allocator: run this test in the release build";
    const std::string report = folder() + "/counts";
    Daemon d({.arguments = {"--embed-model", bert_image()},
              .environment = {"LD_PRELOAD=" SLMD_MALLOC_COUNT, "MALLOC_COUNT=" + report}});
    Wire w = d.connect();
    EXPECT_TRUE(w.call("emb", {{"text", "before"}}).contains("result"));
    kill(d.pid(), SIGUSR2);
    for (int i = 0; i < 10; i++) {
        w.call("emb", {{"texts", texts()}}), w.call("emb", {{"text", "x"}, {"format", "i8"}});
        for (const char* command : {"AT#EMB=\"The pump\"\r", "AT#EMB=\"The pump\",\"f32\"\r"})
            d.tty.send(command), d.tty.until("OK\r\n");
        d.tty.send("AT#EMB=7\r"), d.tty.until("+CME ERROR: 50\r\n");
    }
    kill(d.pid(), SIGUSR2);
    std::string counts;
    for (int i = 0; i < 500 && counts.find("counts") == std::string::npos; i++) usleep(10'000), counts = slurp(report);
    EXPECT_EQ(counts, "counts 0 0 0 0\n");
}
