// slmd with a model of which a part is decoded while it runs.
#include <sys/mman.h>

#include "systemd.h"

using namespace slmd::testing;

namespace {

constexpr const char* france = "What is the capital of France?";

std::string own_image(const std::string& name) {
    const std::string path = folder() + "/" + name;
    std::filesystem::copy_file(untied_image(), path, std::filesystem::copy_options::overwrite_existing);
    return path;
}

// The bytes that a line of the plan says; -1: there is none.
double planned(const Daemon& d, const std::string& name) {
    Wire w = d.connect();
    const json plan = w.call("plan")["result"];
    for (const json& item : plan["items"])
        if (item["name"] == name) return item["bytes"].get<double>();
    return -1;
}

std::string counts(const std::string& report) {
    std::string text;
    for (int i = 0; i < 500 && text.find("counts") == std::string::npos; i++) usleep(10'000), text = slurp(report);
    return text;
}

}  // namespace

TEST(OnDemand, says_the_same_and_allocates_nothing) {
    std::string expected;
    {
        Daemon d;
        expected = d.answer(france);
        EXPECT_EQ(planned(d, "embedding rows"), -1);
    }
    const std::string report = folder() + "/counts-on-demand";
    std::vector<std::string> environment;
    if (!sanitized) environment = {"LD_PRELOAD=" SLMD_MALLOC_COUNT, "MALLOC_COUNT=" + report};
    Daemon d({.arguments = {"--trace-sandbox"}, .environment = environment, .image = untied_image()});
    if (!sanitized) kill(d.pid(), SIGUSR2);
    EXPECT_EQ(d.answer(france), expected);
    EXPECT_FALSE(d.answer("Hello there, who are you?").empty());
    EXPECT_GT(planned(d, "embedding rows"), 0);
    if (!sanitized) {
        kill(d.pid(), SIGUSR2);
        EXPECT_EQ(counts(report), "counts 0 0 0 0\n");
    }
    EXPECT_EQ(d.stop(), 0);
    EXPECT_EQ(slurp(d.log).find("refused"), std::string::npos) << slurp(d.log);
    EXPECT_NE(shell(std::string(SLMD_BUILD) + "/slmpack inspect " + untied_image()).out.find(" on demand "),
              std::string::npos);
    EXPECT_EQ(shell(std::string(SLMD_BUILD) + "/slmpack inspect " + tiny_image()).out.find(" on demand "),
              std::string::npos);
}

TEST(OnDemand, a_file_that_cannot_be_read_is_an_error_of_the_request) {
    const std::string image = own_image("cut.slm"), whole = slurp(image);
    Daemon d({.image = image});
    std::filesystem::resize_file(image, 4096);
    Wire w = d.connect();
    for (int i = 0; i < 2; i++) {
        const json reply = w.call("gen", {{"prompt", france}});
        ASSERT_TRUE(reply.contains("error")) << reply;
        EXPECT_EQ(reply["error"]["code"], 260) << reply;
        EXPECT_NE(reply["error"].dump().find("token_embd codes"), std::string::npos) << reply;
    }
    std::ofstream(image, std::ios::in | std::ios::out | std::ios::binary) << whole;
    const std::string answer = d.answer(france);
    EXPECT_NE(answer.find("Paris"), std::string::npos) << answer;
    // Whoever replaces an image writes another file, and this one stays until slmd lets go of it.
    std::filesystem::remove(image);
    EXPECT_NE(d.answer("What is the capital of Italy?").find("Rome"), std::string::npos);
}

TEST(OnDemand, memory_that_was_kept_is_taken_with_the_file) {
    Systemd systemd;
    const std::string image = own_image("kept.slm");
    std::string before;
    for (const bool first : {true, false}) {
        Daemon d({.environment = systemd.environment(), .image = image, .handed_over = systemd.stored()});
        EXPECT_EQ(slurp(d.log).find("kept in memory over the restart") != std::string::npos, !first) << slurp(d.log);
        const std::string answer = d.answer(france);
        EXPECT_NE(answer.find("Paris"), std::string::npos);
        if (first) before = answer;
        EXPECT_EQ(answer, before);
        EXPECT_TRUE(systemd.hears("READY=1"));
        ASSERT_EQ(systemd.stored().size(), 1u);
        kill(d.pid(), SIGKILL);
        EXPECT_EQ(d.wait(), 128 + SIGKILL);
    }
}

TEST(Streamed, says_the_same_within_its_plan_and_allocates_nothing) {
    for (const std::string& image : {tiny_image(), untied_image()}) {
        std::string expected;
        {
            Daemon d({.image = image});
            expected = d.answer(france);
        }
        const std::string report = folder() + "/counts-streamed";
        std::filesystem::remove(report);
        Systemd systemd;
        std::vector<std::string> environment = systemd.environment("60000000");
        if (!sanitized)
            environment.insert(environment.end(), {"LD_PRELOAD=" SLMD_MALLOC_COUNT, "MALLOC_COUNT=" + report});
        Daemon d({.arguments = {"--stream", "--threads", "2", "--trace-sandbox"},
                  .environment = environment,
                  .image = image});
        EXPECT_TRUE(systemd.hears("; streams "));
        if (!sanitized) kill(d.pid(), SIGUSR2);
        EXPECT_EQ(d.answer(france), expected);
        EXPECT_FALSE(d.answer("Hello there, who are you?").empty());
        EXPECT_GT(planned(d, "streamed layers"), 0);
        if (!sanitized) {
            Wire w = d.connect();
            const double plan = w.call("plan")["result"]["total"].get<double>();
            EXPECT_LT(1024.0 * static_cast<double>(pss_kib(d.pid())), plan);
            kill(d.pid(), SIGUSR2);
            EXPECT_EQ(counts(report), "counts 0 0 0 0\n");
        }
        EXPECT_EQ(d.stop(), 0);
        const std::string log = slurp(d.log);
        EXPECT_NE(log.find(" MiB for every pass: about "), std::string::npos) << log;
        EXPECT_EQ(log.find("refused"), std::string::npos) << log;
    }
}

TEST(Streamed, a_layer_that_cannot_be_read_is_an_error_of_the_request) {
    const std::string image = own_image("streamed.slm"), whole = slurp(image), config = folder() + "/streamed.toml";
    std::ofstream(config) << "[engine]\nstream = true\n";
    Daemon d({.arguments = {"--config", config}, .image = image});
    const std::string answer = d.answer(france);
    EXPECT_NE(answer.find("Paris"), std::string::npos) << answer;
    std::filesystem::resize_file(image, 4096);
    const json reply = d.connect().call("gen", {{"prompt", france}});
    ASSERT_TRUE(reply.contains("error")) << reply;
    EXPECT_EQ(reply["error"]["code"], 260) << reply;
    EXPECT_NE(reply["error"].dump().find("blk."), std::string::npos) << reply;
    std::ofstream(image, std::ios::in | std::ios::out | std::ios::binary) << whole;
    EXPECT_EQ(d.answer(france), answer);
}

// Neither is an image that was kept whole taken, nor what there is of one handed over.
TEST(Streamed, is_not_kept) {
    Systemd systemd;
    const std::string image = own_image("not-kept.slm");
    for (const bool streams : {false, true}) {
        std::vector<std::string> arguments;
        if (streams) arguments = {"--stream"};
        Daemon d({.arguments = arguments,
                  .environment = systemd.environment(),
                  .image = image,
                  .handed_over = systemd.stored()});
        EXPECT_NE(d.answer(france).find("Paris"), std::string::npos);
        EXPECT_TRUE(systemd.hears("READY=1"));
        EXPECT_EQ(systemd.stored().size(), streams ? 0u : 1u);
        EXPECT_EQ(slurp(d.log).find("is given up") != std::string::npos, streams) << slurp(d.log);
        kill(d.pid(), SIGKILL);
        EXPECT_EQ(d.wait(), 128 + SIGKILL);
    }
}

TEST(Streamed, a_raw_image_is_mapped_as_ever) {
    const std::string raw = folder() + "/streamed.raw";
    ASSERT_EQ(shell(std::string(SLMD_BUILD) + "/slmpack cat " + untied_image() + " > " + raw).code, 0);
    Daemon d({.arguments = {"--stream"}, .image = raw});
    EXPECT_NE(d.answer(france).find("Paris"), std::string::npos);
    EXPECT_NE(slurp(d.log).find("nothing of it is streamed"), std::string::npos) << slurp(d.log);
}
