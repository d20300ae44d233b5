// slmpack: makes, checks and evaluates model images.
#include <CLI/CLI.hpp>

#include "commands.h"
#include "toolchain/slmpack/image/writer.h"

int main(int argc, char** argv) {
    using namespace slmd::pack;
    CLI::App app("Makes, checks and evaluates model images for slmd.", "slmpack");
    app.set_version_flag("--version", "slmpack " SLMD_VERSION);
    app.require_subcommand(1);
    int code = 0;

    ImportCommand import;
    import.least_saving = WriteOptions{}.least_saving;
    import.level = WriteOptions{}.level;
    CLI::App* c = app.add_subcommand("import", "Make an image of a published model");
    c->add_option("SOURCE", import.source, "A GGUF file, a Hugging Face folder, or a llama2.c .bin")->required();
    c->add_option("-o,--output", import.output, "The image to write")->required();
    c->add_option("--kind", import.kind, "Round every matrix to i4 or i8, also where the source's own codes would do")
        ->check(CLI::IsMember({"i4", "i8"}));
    c->add_flag("--raw", import.raw, "Write the raw form, which is mapped in place");
    c->add_option("--name", import.name, "The model's name, for people");
    c->add_option("--chat-template", import.chat_template,
                  "Take this chat template whatever the source says; none: no template");
    c->add_option("--least-saving", import.least_saving,
                  "Store a frame as it is when zstd saves less than this part of it")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    c->add_option("--zstd-level", import.level, "Compression level")->check(CLI::Range(1, 19))->capture_default_str();
    c->footer("Example: slmpack import SmolLM2-135M-Instruct.Q4_1.gguf -o smollm2.slm");
    c->callback([&] { code = run_import(import); });

    std::string path;
    c = app.add_subcommand("inspect", "Show what is in an image");
    c->add_option("IMAGE", path)->required();
    c->footer("Example: slmpack inspect smollm2.slm");
    c->callback([&] { code = run_inspect(path); });

    c = app.add_subcommand("verify",
                           "Check everything in an image; exit code 1 and the places when something is wrong");
    c->add_option("IMAGE", path)->required();
    c->footer("Example: slmpack verify smollm2.slm");
    c->callback([&] { code = run_verify(path); });

    c = app.add_subcommand("cat", "Write the raw form of an image to standard output (as zstd -dc does)");
    c->add_option("IMAGE", path)->required();
    c->footer("Example: slmpack cat smollm2.slm > smollm2.raw");
    c->callback([&] { code = run_cat(path); });

    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? 0 : 2;
    } catch (const std::exception& e) {
        return fail(e.what());
    }
    return code;
}
