// The program slmpack as a user runs it.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "synthetic.h"
#include "toolchain/slmpack/npy.h"

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
    const std::string tiny = SLMD_SOURCE "/models/tiny", image = folder / "m.slm";
};

TEST_F(Slmpack, ImportInspectVerifyCat) {
    Answer r = run("import " + tiny + " -o " + image);
    ASSERT_EQ(r.code, 0) << r.error;
    EXPECT_NE(r.out.find("of the source's"), std::string::npos) << r.out;
    r = run("inspect " + image);
    EXPECT_EQ(r.code, 0) << r.error;
    for (const char* word : {"family llama", "blk.0.attn_q", "provenance", "tokenizer", "book"})
        EXPECT_NE(r.out.find(word), std::string::npos) << word;
    EXPECT_EQ(run("verify " + image).code, 0);

    r = run("cat " + image);
    ASSERT_EQ(r.code, 0);
    ASSERT_EQ(run("import " + tiny + " --raw -o " + (folder / "m.raw")).code, 0);
    const auto raw = read_file(folder / "m.raw");
    EXPECT_TRUE(r.out == std::string(raw.begin(), raw.end())) << "cat gives the raw form";
    EXPECT_EQ(run("verify " + (folder / "m.raw")).code, 0);

    auto bytes = read_file(image);
    bytes[bytes.size() / 2] ^= 1;
    write_file(image, bytes);
    expect_error(run("verify " + image), "frame ");
    expect_error(run("inspect " + image), "CRC mismatch");
}

TEST_F(Slmpack, WrongUseIsTwoAndWrongInputIsOne) {
    EXPECT_EQ(run("").code, 2);
    EXPECT_EQ(run("import").code, 2);
    EXPECT_EQ(run("import " + tiny + " -o " + image + " --kind i5").code, 2);
    EXPECT_EQ(run("--version").code, 0);
    for (const char* command : {"import", "inspect", "verify", "keygen", "sign", "cat", "tokenize", "logits", "eval"}) {
        const Answer r = run(std::string(command) + " --help");
        EXPECT_EQ(r.code, 0);
        EXPECT_NE(r.out.find("Example: "), std::string::npos) << command;
    }
    const std::string absent = folder / "absent";
    for (const std::string& command :
         {"import " + absent + " -o " + image, "inspect " + absent, "verify " + absent, "cat " + absent,
          "tokenize " + absent, "eval " + absent + " --source " + absent + " --text " + absent})
        expect_error(run(command), absent);
    expect_error(run("import " + tiny + " -o /nonexistent/m.slm"), "/nonexistent/m.slm");
}

TEST_F(Slmpack, KeygenSignVerify) {
    ASSERT_EQ(run("import " + tiny + " -o " + image).code, 0);
    const std::string key = folder / "key", other = folder / "other";
    Answer r = run("keygen -o " + key);
    ASSERT_EQ(r.code, 0) << r.error;
    const std::string id = r.out.substr(r.out.rfind("key ") + 4, 16);
    EXPECT_EQ(id.find_first_not_of("0123456789abcdef"), std::string::npos) << r.out;
    ASSERT_EQ(run("keygen -o " + other).code, 0);
    expect_error(run("keygen -o " + key), "there is a file already");

    EXPECT_NE(run("inspect " + image).out.find("signature not signed"), std::string::npos);
    EXPECT_EQ(run("verify " + image).out, image + ": good, not signed\n");
    expect_error(run("verify " + image + " --key " + key + ".pub"), "not signed; slmpack sign IMAGE --key KEY");

    ASSERT_EQ(run("sign " + image + " --key " + key + " -o " + (folder / "signed.slm")).code, 0);
    EXPECT_EQ(run("verify " + image).out, image + ": good, not signed\n") << "-o leaves the image";
    r = run("sign " + image + " --key " + key);
    EXPECT_EQ(r.out, image + ": signed by key " + id + "\n") << r.error;
    EXPECT_EQ(read_file(image), read_file(folder / "signed.slm"));
    EXPECT_NE(run("inspect " + image).out.find("signature signed by key " + id), std::string::npos);
    EXPECT_EQ(run("verify " + image).out, image + ": good, signed by key " + id + " (--key KEY.pub checks that)\n");
    EXPECT_EQ(run("verify " + image + " --key " + key + ".pub").out, image + ": good, signed by key " + id + "\n");
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

TEST_F(Slmpack, TokenizeAndBack) {
    ASSERT_EQ(run("import " + tiny + " -o " + image).code, 0);
    const std::string text = "What is the capital of France?\n  two spaces, \xc3\xa9t\xc3\xa9";
    const Answer ids = run("tokenize " + image, text);
    ASSERT_EQ(ids.code, 0) << ids.error;
    EXPECT_EQ(run("tokenize " + tiny, text).out, ids.out) << "image and source agree";
    EXPECT_EQ(run("tokenize --decode " + image, ids.out).out, text);
    EXPECT_NE(run("tokenize " + image, "<|im_end|>").out, run("tokenize --specials " + image, "<|im_end|>").out);
    expect_error(run("tokenize --decode " + image, "12 99999"), "99999");
    expect_error(run("tokenize --decode " + image, "twelve"), "twelve");
}

TEST_F(Slmpack, LogitsOfEngineAndReference) {
    ASSERT_EQ(run("import " + tiny + " --kind i8 -o " + image).code, 0);
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
          "logits " + tiny + rest + (folder / "source.npy"),  // through a temporary image, i4
          "logits " + tiny + rest + (folder / "f32.npy") + " --f32"}) {
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

TEST_F(Slmpack, EvalOfAnImageAgainstItsSource) {
    ASSERT_EQ(run("import " + tiny + " --kind i8 -o " + image).code, 0);
    std::string text;
    for (int i = 0; i < 20; i++) text += "The capital of France is Paris. Turn on the pump in the garden. ";
    write_file(folder / "text", {text.begin(), text.end()});
    const Answer r = run("eval " + image + " --source " + tiny + " --text " + (folder / "text") + " --window 64");
    ASSERT_EQ(r.code, 0) << r.error;
    double kl = -1, ratio = -1;
    if (const auto at = r.out.find("KL(source || image)"); at != std::string::npos)
        kl = std::atof(r.out.c_str() + at + 19);
    if (const auto at = r.out.find("ratio"); at != std::string::npos) ratio = std::atof(r.out.c_str() + at + 5);
    EXPECT_GT(kl, 0) << r.out;
    EXPECT_LT(kl, 0.02) << r.out;
    EXPECT_NEAR(ratio, 1, 0.05) << r.out;
    expect_error(run("eval " + image + " --source " + tiny + " --text " + (folder / "text") + " --window 60000"),
                 "window");
}

}  // namespace
}  // namespace slmd::test
