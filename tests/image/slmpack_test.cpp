// The program slmpack as a user runs it.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "image/image.h"
#include "synthetic.h"
#include "tests/pack/tiny.h"
#include "toolchain/slmpack/image/amend.h"
#include "toolchain/slmpack/npy.h"
#include "unpack.h"

namespace slmd::test {
namespace {

struct Answer {
    int code;
    std::string out, error;
};

class Slmpack : public testing::Test {
  protected:
    Answer run(const std::string& arguments, const std::string& input = "") {
        write_file(folder / "in", {input.begin(), input.end()});
        const std::string command = std::string(SLMD_BUILD "/slmpack ") + arguments + " < " + (folder / "in") + " > " +
                                    (folder / "out") + " 2> " + (folder / "error");
        const int status = std::system(command.c_str());
        const auto text = [&](const char* name) {
            const auto bytes = read_file(folder / name);
            return std::string(bytes.begin(), bytes.end());
        };
        return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text("out"), text("error")};
    }
    // One clear line, beginning with the program's name.
    static void expect_error(const Answer& r, const std::string& part) {
        EXPECT_EQ(r.code, 1);
        EXPECT_TRUE(r.error.starts_with("slmpack: ")) << r.error;
        EXPECT_EQ(std::count(r.error.begin(), r.error.end(), '\n'), 1) << r.error;
        EXPECT_NE(r.error.find(part), std::string::npos) << r.error;
    }
    TemporaryFolder folder;
    const std::string tiny_model = SLMD_SOURCE "/models/tiny", image = folder / "m.slm";
};

TEST_F(Slmpack, ImportInspectVerifyCat) {
    Answer r = run("import " + tiny_model + " -o " + image);
    ASSERT_EQ(r.code, 0) << r.error;
    EXPECT_NE(r.out.find("of the source's"), std::string::npos) << r.out;
    r = run("inspect " + image);
    EXPECT_EQ(r.code, 0) << r.error;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path))
        EXPECT_EQ(entry.path().string().find("unasked"), std::string::npos) << "left: " << entry.path();
    for (const char* word : {"family llama", "blk.0.attn_q", "provenance", "tokenizer", "book"})
        EXPECT_NE(r.out.find(word), std::string::npos) << word;
    EXPECT_EQ(run("verify " + image).code, 0);

    r = run("cat " + image);
    ASSERT_EQ(r.code, 0);
    ASSERT_EQ(run("import " + tiny_model + " --raw -o " + (folder / "m.raw")).code, 0);
    const auto raw = read_file(folder / "m.raw");
    EXPECT_TRUE(r.out == std::string(raw.begin(), raw.end())) << "cat gives the raw form";
    EXPECT_EQ(run("verify " + (folder / "m.raw")).code, 0);

    auto bytes = read_file(image);
    bytes[bytes.size() / 2] ^= 1;
    write_file(image, bytes);
    expect_error(run("verify " + image), "frame ");
    expect_error(run("inspect " + image), "CRC mismatch");
}

TEST_F(Slmpack, DiffAndApply) {
    const std::string next = folder / "next.slm", delta = folder / "delta", out = folder / "out.slm";
    ASSERT_EQ(run("import " + tiny_model + " -o " + image).code, 0);
    ASSERT_EQ(run("import " + tiny_model + " --name other -o " + next).code, 0);
    const Answer made = run("diff " + image + " " + next + " -o " + delta);
    ASSERT_EQ(made.code, 0) << made.error;
    EXPECT_NE(made.out.find("of "), std::string::npos) << made.out;
    EXPECT_LT(read_file(delta).size(), read_file(next).size() / 4) << made.out;
    EXPECT_EQ(run("apply " + image + " " + delta + " -o " + out).code, 0);
    EXPECT_EQ(read_file(out), read_file(next));
    expect_error(run("apply " + next + " " + delta + " -o " + out), "is not the image that");
    expect_error(run("diff " + image + " " + tiny_model + "/config.json -o " + delta), "config.json");
}

TEST_F(Slmpack, ImportWarnsOfCodesThatCannotStay) {
    for (const bool permuted : {false, true}) {
        const tiny::FourBitModel model(tiny::FourBitForm::gptq, 32, permuted);
        const std::string file = model.file.file();
        write_file(folder / "model.safetensors", {file.begin(), file.end()});
        write_file(folder / "config.json", {model.config.begin(), model.config.end()});
        const Answer r = run("import " + folder.path + " -o " + image);
        ASSERT_EQ(r.code, 0) << r.error;
        // With groups of 32, only the one layer of two groups can be out of order.
        EXPECT_EQ(r.error.starts_with("slmpack: warning: 1 of 13 layers have groups"), permuted) << r.error;
        EXPECT_EQ(r.error.empty(), !permuted) << r.error;
    }
}

TEST_F(Slmpack, WrongUseIsTwoAndWrongInputIsOne) {
    EXPECT_EQ(run("").code, 2);
    EXPECT_EQ(run("import").code, 2);
    const Answer unknown = run("frobnicate x");
    EXPECT_EQ(unknown.code, 2);
    EXPECT_NE(unknown.error.find("no command \"frobnicate\""), std::string::npos) << unknown.error;
    EXPECT_EQ(run("import " + tiny_model + " -o " + image + " --kind i5").code, 2);
    EXPECT_EQ(run("--version").code, 0);
    for (const char* command : {"import", "quantize", "golden", "inspect", "verify", "keygen", "sign", "cat", "diff",
                                "apply", "tokenize", "logits", "eval"}) {
        const Answer r = run(std::string(command) + " --help");
        EXPECT_EQ(r.code, 0);
        EXPECT_NE(r.out.find("Example: "), std::string::npos) << command;
    }
    const std::string absent = folder / "absent";
    for (const std::string& command :
         {"import " + absent + " -o " + image, "quantize " + absent + " -o " + image, "golden " + absent,
          "inspect " + absent, "verify " + absent, "cat " + absent, "tokenize " + absent,
          "eval " + absent + " --source " + absent + " --text " + absent})
        expect_error(run(command), absent);
    expect_error(run("import " + tiny_model + " -o /nonexistent/m.slm"), "/nonexistent/m.slm");
}

TEST_F(Slmpack, KeygenSignVerify) {
    ASSERT_EQ(run("import " + tiny_model + " -o " + image).code, 0);
    const std::string key = folder / "key", other = folder / "other";
    Answer r = run("keygen -o " + key);
    ASSERT_EQ(r.code, 0) << r.error;
    const std::string id = r.out.substr(r.out.rfind("key ") + 4, 16);
    EXPECT_EQ(id.find_first_not_of("0123456789abcdef"), std::string::npos) << r.out;
    ASSERT_EQ(run("keygen -o " + other).code, 0);
    expect_error(run("keygen -o " + key), "there is a file already");

    EXPECT_NE(run("inspect " + image).out.find("signature not signed"), std::string::npos);
    const std::string answered = "; 3 golden prompts answered as before\n";
    EXPECT_EQ(run("verify " + image).out, image + ": good, not signed" + answered);
    EXPECT_EQ(run("verify --no-golden " + image).out, image + ": good, not signed\n");
    expect_error(run("verify " + image + " --key " + key + ".pub"), "not signed; slmpack sign IMAGE --key KEY");

    ASSERT_EQ(run("sign " + image + " --key " + key + " -o " + (folder / "signed.slm")).code, 0);
    EXPECT_EQ(run("verify " + image).out, image + ": good, not signed" + answered) << "-o leaves the image";
    r = run("sign " + image + " --key " + key);
    EXPECT_EQ(r.out, image + ": signed by key " + id + "\n") << r.error;
    EXPECT_EQ(read_file(image), read_file(folder / "signed.slm"));
    EXPECT_NE(run("inspect " + image).out.find("signature signed by key " + id), std::string::npos);
    EXPECT_EQ(run("verify " + image).out,
              image + ": good, signed by key " + id + " (--key KEY.pub checks that)" + answered);
    EXPECT_EQ(run("verify " + image + " --key " + key + ".pub").out, image + ": good, signed by key " + id + answered);
    EXPECT_EQ(run("verify --key " + other + ".pub --key " + key + ".pub " + image).code, 0);
    expect_error(run("verify --key " + other + ".pub " + image), "signed by key " + id + ", which is none of the 1");
    expect_error(run("verify --key " + key + " " + image), "a private key");
    expect_error(run("sign " + image + " --key " + key + ".pub"), "a public key");
    expect_error(run("sign " + image + " --key " + (folder / "absent")), "absent");
    EXPECT_EQ(run("sign " + image).code, 2);

    // its raw form is signed, too: what zstd makes of it is what was signed
    r = run("cat " + image);
    write_file(folder / "m.raw", {r.out.begin(), r.out.end()});
    EXPECT_EQ(run("verify " + (folder / "m.raw") + " --key " + key + ".pub").code, 0);
}

TEST_F(Slmpack, GoldenPromptsAreAskedAndAskedAgain) {
    const std::string plain = folder / "plain.slm", own = folder / "own.slm";
    ASSERT_EQ(run("import " + tiny_model + " -o " + image).code, 0);
    ASSERT_EQ(run("import " + tiny_model + " --no-golden -o " + plain).code, 0);
    EXPECT_EQ(run("verify " + plain).out, plain + ": good, not signed\n");
    EXPECT_EQ(run("inspect " + plain).out.find("golden"), std::string::npos);
    Answer r = run("inspect " + image);
    EXPECT_NE(r.out.find("golden prompt "), std::string::npos) << r.out;
    EXPECT_NE(r.out.find("Describe the sea in one sentence."), std::string::npos) << r.out;

    // Asked later, they are the same, and so is the file.
    r = run("golden " + plain);
    EXPECT_EQ(r.out, plain + ": 3 golden prompts, answers of 16 tokens\n") << r.error;
    EXPECT_EQ(read_file(plain), read_file(image));
    r = run("golden " + image + " -o " + own + " --tokens 5 --prompt 'Turn on the pump.' --prompt 'Who?'");
    EXPECT_EQ(r.out, own + ": 2 golden prompts, answers of 5 tokens\n") << r.error;
    EXPECT_EQ(read_file(plain), read_file(image)) << "-o leaves the image";
    EXPECT_NE(run("inspect " + own).out.find("Turn on the pump."), std::string::npos);
    EXPECT_EQ(run("verify " + own).out, own + ": good, not signed; 2 golden prompts answered as before\n");

    // Another answer than this machine's: its hash in the second prompt is not that of any.
    const auto opened = image::Image::open(own.c_str(), {});
    ASSERT_TRUE(opened);
    const auto bytes = opened.value().section(image::SectionId::golden);
    std::vector<std::byte> other(bytes.begin(), bytes.end());
    const auto first = at<image::GoldenPrompt>(other, 0);
    EXPECT_EQ(first.answer, 5u);
    other[sizeof first + first.tokens * sizeof(std::int32_t) + offsetof(image::GoldenPrompt, sha256)] ^= std::byte{1};
    ASSERT_TRUE(pack::amend_image(own, own, {.golden = other}));
    expect_error(run("verify " + own), "golden prompt 2 of 2: another answer");
    EXPECT_EQ(run("verify --no-golden " + own).code, 0);

    ASSERT_EQ(run("keygen -o " + (folder / "key")).code, 0);
    ASSERT_EQ(run("sign " + image + " --key " + (folder / "key")).code, 0);
    EXPECT_NE(run("golden " + image).error.find("the signature is gone"), std::string::npos);
    EXPECT_EQ(read_file(image), read_file(plain));

    expect_error(run("golden " + image + " --prompt '" + std::string(3000, 'z') + "'"), "golden prompt \"zzz");
    std::string many;
    for (int i = 0; i < 17; i++) many += " --prompt x";
    expect_error(run("golden " + image + many), "17 prompts");
    EXPECT_EQ(run("golden " + image + " --tokens 257").code, 2);
    EXPECT_EQ(read_file(image), read_file(plain));
    Synthetic synthetic;
    synthetic.contents.tokenizer.clear();
    ASSERT_TRUE(pack::write_image(own, synthetic.contents, {}));
    expect_error(run("golden " + own), "has no tokenizer");
}

TEST_F(Slmpack, TokenizeAndBack) {
    ASSERT_EQ(run("import " + tiny_model + " -o " + image).code, 0);
    const std::string text = "What is the capital of France?\n  two spaces, \xc3\xa9t\xc3\xa9";
    const Answer ids = run("tokenize " + image, text);
    ASSERT_EQ(ids.code, 0) << ids.error;
    EXPECT_EQ(run("tokenize " + tiny_model, text).out, ids.out) << "image and source agree";
    EXPECT_EQ(run("tokenize --decode " + image, ids.out).out, text);
    EXPECT_NE(run("tokenize " + image, "<|im_end|>").out, run("tokenize --specials " + image, "<|im_end|>").out);
    expect_error(run("tokenize --decode " + image, "12 99999"), "99999");
    expect_error(run("tokenize --decode " + image, "twelve"), "twelve");
}

TEST_F(Slmpack, LogitsOfEngineAndReference) {
    ASSERT_EQ(run("import " + tiny_model + " --kind i8 -o " + image).code, 0);
    const std::int32_t tokens[] = {1, 271, 13, 309, 274, 277, 285, 275, 35, 73, 117, 298, 289, 66, 2};
    std::string npy = "\x93NUMPY";
    const std::string header =
        "{'descr': '<i4', 'fortran_order': False, 'shape': (15,), }                                           \n";
    npy += std::string("\1\0", 2) + static_cast<char>(header.size()) + '\0' + header;
    npy.append(reinterpret_cast<const char*>(tokens), sizeof tokens);
    write_file(folder / "t.npy", {npy.begin(), npy.end()});
    const std::string rest = " --tokens " + (folder / "t.npy") + " -o ";
    for (const std::string& command :
         {"logits " + image + rest + (folder / "image.npy"),
          "logits " + image + rest + (folder / "scalar.npy") + " --level scalar --threads 1 --batch 1",
          "logits " + tiny_model + rest + (folder / "source.npy"),  // through a temporary image, i4
          "logits " + tiny_model + rest + (folder / "f32.npy") + " --f32"}) {
        const Answer r = run(command);
        ASSERT_EQ(r.code, 0) << r.error;
    }
    const auto load = [&](const char* name) {
        auto v = pack::read_npy_floats(folder / name);
        EXPECT_TRUE(v) << name;
        EXPECT_EQ(v->shape, (std::vector<std::size_t>{15, 384}));
        return v->values;
    };
    const auto f32 = load("f32.npy"), i8 = load("image.npy"), i4 = load("source.npy");
    EXPECT_EQ(load("scalar.npy"), i8) << "one answer";
    const auto distance = [&](const std::vector<float>& x) {
        double error = 0, power = 0;
        for (std::size_t i = 0; i < x.size(); i++) {
            error += (x[i] - f32[i]) * (x[i] - f32[i]);
            power += f32[i] * f32[i];
        }
        return std::sqrt(error / power);
    };
    std::printf("relative distance from float32: i8 %.4f, i4 %.4f\n", distance(i8), distance(i4));
    EXPECT_LE(distance(i8), 0.03);
    EXPECT_LE(distance(i4), 0.25);
    EXPECT_GT(distance(i4), distance(i8));
    expect_error(run("logits " + image + rest + (folder / "x.npy") + " --f32"), "reference");
}

// The figures of a model's line of eval: MB, perplexity, ratio, KL, its error, 99 %, most, top-1.
std::vector<double> figures(const Answer& eval, const std::string& model) {
    std::istringstream lines(eval.out);
    for (std::string line; std::getline(lines, line);)
        if (line.find("  " + model + " (") != std::string::npos) {
            std::vector<double> out;
            std::istringstream words(line);
            for (std::string word; words >> word && out.size() < 8;)
                if (word != "+-") out.push_back(std::atof(word.c_str()));
            return out;
        }
    ADD_FAILURE() << "no line of " << model << " in\n" << eval.out;
    return std::vector<double>(8, -1);
}

TEST_F(Slmpack, EvalOfModelsAgainstTheirSource) {
    ASSERT_EQ(run("import " + tiny_model + " --kind i8 -o " + image).code, 0);
    const std::string i4 = folder / "i4.slm", svg = folder / "plot.svg", work = folder / "eval.work";
    ASSERT_EQ(run("import " + tiny_model + " --kind i4 -o " + i4).code, 0);
    std::string text;
    for (int i = 0; i < 20; i++) text += "The capital of France is Paris. Turn on the pump in the garden. ";
    write_file(folder / "text", {text.begin(), text.end()});
    const std::string rest = " --source " + tiny_model + " --text " + (folder / "text") + " --window 64";
    const std::string all = "eval " + image + " " + i4 + " " + tiny_model + rest + " --plot " + svg + " --work " + work;
    const Answer r = run(all);
    ASSERT_EQ(r.code, 0) << r.error;
    const std::vector<double> fine = figures(r, image), coarse = figures(r, i4), same = figures(r, tiny_model);
    EXPECT_GT(fine[3], 0);
    EXPECT_LT(fine[3], 0.02);
    EXPECT_NEAR(fine[2], 1, 0.05);
    EXPECT_GT(coarse[3], fine[3]);
    EXPECT_LE(coarse[3], coarse[5]);
    EXPECT_LE(coarse[5], coarse[6]);
    EXPECT_LT(coarse[7], 1);
    EXPECT_LT(coarse[0], fine[0]);
    EXPECT_EQ(same[2], 1);
    EXPECT_EQ(same[3], 0);
    EXPECT_EQ(same[7], 1);
    const auto drawn = read_file(svg);
    const std::string plot(drawn.begin(), drawn.end());
    EXPECT_EQ(plot.rfind("<svg", 0), 0u);
    for (const char* name : {">m<", ">i4<", ">tiny<"}) EXPECT_NE(plot.find(name), std::string::npos) << name;

    // Cut off after two windows and a half: it goes on, and says the same.
    const auto kept = read_file(work);
    std::size_t third = 0;
    for (int line = 0; line < 3; line++)
        third = static_cast<std::size_t>(std::find(kept.begin() + static_cast<long>(third), kept.end(), '\n') -
                                         kept.begin()) +
                1;
    write_file(work, {kept.begin(), kept.begin() + static_cast<long>(third) + 10});
    EXPECT_EQ(run(all).out, r.out);
    EXPECT_EQ(read_file(work), kept);
    expect_error(run("eval " + image + rest + " --work " + work), "another evaluation");

    // The figures go into the images, in place of those of the same text and source.
    const auto count = [&](const std::string& path, const std::string& part) {
        const std::string shown = run("inspect " + path).out;
        int n = 0;
        for (std::size_t at = 0; (at = shown.find(part, at)) != std::string::npos; at++) n++;
        return n;
    };
    EXPECT_EQ(count(image, "evaluation"), 0);
    for (int time = 0; time < 2; time++) {
        const Answer again = run(all + " --record");
        ASSERT_EQ(again.code, 0) << again.error;
        if (time == 0) {
            EXPECT_EQ(again.out, r.out) << "from the work that was done";
        }
        for (const std::string& path : {image, i4}) {
            EXPECT_EQ(count(path, "positions of text"), 1) << time;
            EXPECT_EQ(run("verify " + path).code, 0);
        }
    }
    char kl[64];
    std::snprintf(kl, sizeof kl, "KL %.5f +- ", coarse[3]);
    EXPECT_EQ(count(i4, kl), 1) << kl;
    write_file(folder / "other", {text.begin() + 64, text.end()});
    const std::string other = " --source " + tiny_model + " --text " + (folder / "other") + " --window 64 --record";
    ASSERT_EQ(run("eval " + image + other).code, 0);
    EXPECT_EQ(count(image, "positions of text"), 2);
    EXPECT_EQ(count(i4, "positions of text"), 1);
    expect_error(run("eval " + tiny_model + other), "none of the models is an image");
    ASSERT_EQ(run("keygen -o " + (folder / "key")).code, 0);
    ASSERT_EQ(run("sign " + image + " --key " + (folder / "key")).code, 0);
    EXPECT_NE(run("eval " + image + other).error.find("the signature is gone"), std::string::npos);
    EXPECT_EQ(run("verify " + image).code, 0);

    expect_error(run("eval " + image + " --source " + tiny_model + " --text " + (folder / "text") + " --window 60000"),
                 "window");
}

// A model that looks at the last token only: whatever it sees, its layers add nothing, and logit(next | last) is what
// the table says, 0 where it says nothing. Tokens are the letters from B on.
std::string bigram_gguf(const std::map<std::pair<char, char>, float>& logits) {
    tiny::Gguf g = tiny::llama_gguf();
    constexpr std::size_t dim = 64, vocab = 40;
    std::vector<std::string> tokens{"<|im_end|>"};
    for (std::size_t i = 1; i < vocab; i++) tokens.push_back(std::string(1, static_cast<char>('A' + i)));
    tokens.back() = "YZ";  // a tokenizer needs a merge
    for (const char* key : {"tokenizer.ggml.merges", "tokenizer.ggml.tokens", "tokenizer.chat_template"}) g.erase(key);
    g.texts("tokenizer.ggml.merges", {"Y Z"});
    g.texts("tokenizer.ggml.tokens", tokens);
    const auto set = [&](const std::string& name, std::vector<std::uint64_t> dims, const std::vector<float>& values) {
        auto& t = g.tensor(name);
        t.dims = std::move(dims);
        t.type = pack::tensor_type("F32")->id;
        t.data.assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    };
    for (auto& t : g.tensors) {
        std::size_t n = 1;
        for (const auto d : t.dims) n *= d;
        if (t.dims.size() == 2) set(t.name, t.dims, std::vector<float>(n));
    }
    std::vector<float> embedding(vocab * dim), output(vocab * dim);
    for (std::size_t i = 0; i < vocab; i++) embedding[i * dim + i] = 1;
    for (const auto& [pair, logit] : logits)
        output[static_cast<std::size_t>(pair.second - 'A') * dim + static_cast<std::size_t>(pair.first - 'A')] = logit;
    set("token_embd.weight", {dim, vocab}, embedding);
    set("output.weight", {dim, vocab}, output);
    set("output_norm.weight", {dim}, std::vector<float>(dim, 0.125f));  // what the norm multiplies a unit vector by: 8
    return g.file();
}

// Labels C, D and EF. After G, C is the likeliest; after H, EF: 3 - log(e + e^2 + e^3 + 37) + 4 - log(e^4 + 39) =
// -1.75 against -2.21 of D; after I it is D, 2 against 2.2 - 0.54, though E alone is likelier, and 2.2 + 4 is more.
class SlmpackTask : public Slmpack {
  protected:
    std::map<std::pair<char, char>, float> table = {{{'G', 'C'}, 3.0f}, {{'G', 'D'}, 2.0f}, {{'G', 'E'}, 2.5f},
                                                    {{'H', 'C'}, 1.0f}, {{'H', 'D'}, 2.0f}, {{'H', 'E'}, 3.0f},
                                                    {{'I', 'D'}, 2.0f}, {{'I', 'E'}, 2.2f}, {{'E', 'F'}, 4.0f}};
    const std::string source = folder / "source.gguf", other = folder / "other.gguf", task = folder / "task.tsv",
                      work = folder / "task.work";
    void write_text(const std::string& path, const std::string& text) { write_file(path, {text.begin(), text.end()}); }
    void SetUp() override {
        write_text(source, bigram_gguf(table));
        table[{'H', 'D'}] = 3.5f;  // after H, D
        write_text(other, bigram_gguf(table));
        std::string lines;
        for (int i = 0; i < 3; i++)  // right, wrong, right, right, right, wrong, wrong, right
            lines += "BG\tC\nG\tD\nBBH\tEF\nH\tEF\r\nI\tD\n\nI\tEF\nH\tC\nG\tC\n";
        write_text(task, lines);
        const Answer made = run("import " + source + " -o " + image);
        ASSERT_EQ(made.code, 0) << made.error;
    }
    std::string eval(const std::string& file, const std::string& prompt = "{text}{label}") const {
        return "eval " + image + " --source " + source + " --task " + file + " --prompt '" + prompt + "' ";
    }
};

TEST_F(SlmpackTask, AccuracyIsWhatTheLogitsSay) {
    EXPECT_NE(run("verify " + image).out.find("; 2 golden prompts"), std::string::npos)
        << "it has no tokens for the one that is not Latin";
    const std::string all = eval(task) + other + " --work " + work;
    const Answer r = run(all);
    ASSERT_EQ(r.code, 0) << r.error;
    EXPECT_NE(r.out.find("24 lines, 3 labels; source: accuracy 0.6250 +- 0.0988 (float32 reference)"),
              std::string::npos)
        << r.out;
    EXPECT_NE(r.out.find("   0.6250 +- 0.0988    1.0000 +- 0.0000     1.0000  " + image + " (engine)"),
              std::string::npos)
        << r.out;
    // 6 lines lost, none won: sqrt(6 - 36 / 24) / 24 / 0.625
    EXPECT_NE(r.out.find("   0.3750 +- 0.0988    0.6000 +- 0.1414     0.6250  " + other + " (float32 reference)"),
              std::string::npos)
        << r.out;
    // The first of each label: right, wrong, right.
    EXPECT_NE(run(eval(task) + "--limit 3").out.find("3 lines, 3 labels; source: accuracy 0.6667 +- 0.2722"),
              std::string::npos);
    // What stands before and between changes nothing for this model, and neither does the list: none of it is the last.
    const Answer list = run(eval(task, "KK{labels}K{text}{label}LMN") + "--limit 3");
    EXPECT_NE(list.out.find("accuracy 0.6667"), std::string::npos) << list.error;

    write_text(folder / "prompt", "{text}{label}");
    EXPECT_EQ(run(eval(task, "@" + (folder / "prompt")) + other).out, r.out);

    // Cut off after 16 lines and a bit: it goes on, and says the same.
    const auto kept = read_file(work);
    EXPECT_EQ(std::count(kept.begin(), kept.end(), '\n'), 1 + 3 * 2);
    const auto second = std::find(std::find(kept.begin(), kept.end(), '\n') + 1, kept.end(), '\n');
    write_file(work, {kept.begin(), second + 5});
    EXPECT_EQ(run(all).out, r.out);
    EXPECT_EQ(read_file(work), kept);
    // Another model may join later: what is known of the source and of others is not computed again.
    std::filesystem::remove(work);
    ASSERT_EQ(run(eval(task) + "--work " + work).code, 0);
    EXPECT_EQ(run(all).out, r.out);
    EXPECT_EQ(read_file(work), kept);
    expect_error(run(eval(task, "{text} {label}") + "--work " + work), "another evaluation");

    ASSERT_EQ(run(all + " --record").code, 0);
    ASSERT_EQ(run(eval(task) + "--limit 3 --record").code, 0);
    const std::string shown = run("inspect " + image).out;
    EXPECT_EQ(shown.find("24 lines"), std::string::npos) << "the same task and source: the later one counts\n" << shown;
    EXPECT_NE(shown.find("accuracy 0.6667 +- 0.2722, 1.0000 +- 0.0000 of the source's; agreement 1.0000; 3 lines, 3 "
                         "labels of task.tsv"),
              std::string::npos)
        << shown;
    EXPECT_EQ(run("verify " + image).code, 0);

    // A provenance that somebody else wrote.
    const std::string odd = R"({"evaluation":[1,{"of":{"text":{}},"kl":[]},{"of":{"task":{}},"accuracy":"x"}]})";
    ASSERT_TRUE(pack::amend_image(image, image, {.provenance = odd}));
    const Answer read = run("inspect " + image);
    EXPECT_EQ(read.code, 0) << read.error;
    EXPECT_NE(read.out.find("accuracy nan"), std::string::npos) << read.out;
    ASSERT_EQ(run(eval(task) + "--limit 3 --record").code, 0);
    EXPECT_NE(run("inspect " + image).out.find("3 labels of task.tsv"), std::string::npos) << "what was there stays";
    ASSERT_TRUE(pack::amend_image(image, image, {.provenance = "made by hand"}));
    EXPECT_EQ(run("inspect " + image).code, 0);
    expect_error(run(eval(task) + "--limit 3 --record"), "no JSON object");
}

TEST_F(SlmpackTask, WhatIsNoTaskIsRefusedWithItsLine) {
    const auto refused = [&](const std::string& text, const std::string& part,
                             const std::string& prompt = "{text}{label}") {
        write_text(task, text);
        expect_error(run(eval(task, prompt)), part);
    };
    refused("G\tC\nG C\nG\tC\n", "task.tsv:2: no tab");
    refused("G\tC\n\nG\tC\tD\n", "task.tsv:3: more than one tab");
    refused(" \tC\n", "task.tsv:1: no text");
    refused("G\tC\nG\t\n", "task.tsv:2: no label");
    refused("G\tC\nG\tD\nG\tC\n", "task.tsv:2: label \"D\" occurs nowhere else");
    refused("G\tC\nG\tC\n", "has 1 labels");
    refused("", "has 0 labels");
    refused("G\tC\nG\tC\nG\t\1\nG\t\1\n", "task.tsv:3: the model has no token for this label");
    refused("G\tC\nG\tC\nG\tC\1\nG\tC\1\nG\tD\nG\tD\n", "same tokens as another");
    refused("G\tC\nG\tC\nG\tCD\nG\tCD\n", "makes no tokens of its own");
    refused("G\tC\nG\tC\n\1\tD\nG\tD\n", "task.tsv:3: --prompt: nothing stands before the labels");
    refused("G\tC\nG\tC\nG\tD\n" + std::string(129, 'G') + "\tD\n", "task.tsv:4: 129 tokens with its prompt");
    refused("G\tC\nG\tC\nG\tD\nG\tD\n", "no {text}", "{label}");
    refused("G\tC\nG\tC\nG\tD\nG\tD\n", "no {label}", "{text}");
    refused("G\tC\nG\tC\nG\tD\nG\tD\n", "{text} must stand before {label}", "{label} {text}");
    expect_error(run("eval " + image + " --source " + source + " --task " + (folder / "absent")), "absent");
    expect_error(run(eval(task, "@" + (folder / "absent"))), "absent");
    expect_error(run("eval " + source + " --source " + source + " --record --task " + task), "none of the models");
    for (const char* wrong : {"", " --text x --task y", " --text x --limit 3", " --task x --window 64"})
        EXPECT_EQ(run("eval " + image + " --source " + source + wrong).code, 2) << wrong;
}

TEST_F(Slmpack, Quantize) {
    std::string text;
    for (int i = 0; i < 60; i++) text += "The capital of France is Paris. Turn on the pump in the garden. ";
    write_file(folder / "text", {text.begin(), text.end()});
    const std::string like = " --text " + (folder / "text") + " --window 64",
                      command = "quantize " + tiny_model + like + " --kl 0.2 --verbose -o ";
    const Answer r = run(command + image);
    ASSERT_EQ(r.code, 0) << r.error;
    EXPECT_NE(r.out.find("forecast: "), std::string::npos) << r.out;
    EXPECT_NE(r.out.find("blk.0.ffn_down"), std::string::npos) << r.out;
    EXPECT_EQ(run("verify " + image).code, 0);
    const std::string plain = folder / "plain.slm";
    ASSERT_EQ(run("import " + tiny_model + " --kind i4 -o " + plain).code, 0);
    const Answer eval = run("eval " + image + " " + plain + " --source " + tiny_model + like);
    ASSERT_EQ(eval.code, 0) << eval.error;
    const std::vector<double> ours = figures(eval, image), rounded = figures(eval, plain);
    EXPECT_GT(ours[3], 0) << eval.out;
    EXPECT_LT(ours[3], 0.4) << eval.out;
    EXPECT_LT(ours[0], rounded[0]) << eval.out;
    EXPECT_LT(ours[3], rounded[3]) << eval.out;

    const std::string again = folder / "again.slm";
    ASSERT_EQ(run(command + again + " --threads 1").code, 0);
    EXPECT_EQ(read_file(again), read_file(image)) << "one thread or two, the same bytes";

    // Without a text it writes its own.
    ASSERT_EQ(run("quantize " + tiny_model + " --tokens 640 --window 32 --price 1e-6 -o " + again).code, 0);
    EXPECT_NE(run("inspect " + again).out.find("sampled from the model"), std::string::npos);

    expect_error(run("quantize " + tiny_model + " -o " + image + " --window 8192"), "--window");
    expect_error(run("quantize " + tiny_model + " -o " + image + " --tokens 128 --window 64"), "calibration text");
    EXPECT_EQ(run("quantize " + tiny_model + " -o " + image + " --kl 0.05 --size 80k").code, 2);
}

}  // namespace
}  // namespace slmd::test
