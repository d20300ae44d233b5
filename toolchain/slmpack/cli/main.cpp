// slmpack: makes, checks and evaluates model images.
#include <CLI/CLI.hpp>

#include "commands.h"
#include "golden.h"
#include "image/format.h"
#include "task.h"
#include "toolchain/slmpack/gptq/feedback.h"
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
    c->add_option("--kind", import.kind,
                  "Round every matrix to i4, i6 or i8, also where the source's own codes would do; f32: keep an encoder's "
                  "as they are")
        ->check(CLI::IsMember({"i4", "i6", "i8", "f32"}));
    c->add_flag("--one-matrix", import.one_matrix,
                "Where output and embedding are one matrix that was rounded twice, keep the finer for both; --kind and "
                "quantize do so unasked");
    c->add_flag("--raw", import.raw, "Write the raw form, which is mapped in place");
    c->add_option("--name", import.name, "The model's name, for people");
    c->add_option("--chat-template", import.chat_template,
                  "Take this chat template whatever the source says; none: no template");
    c->add_option("--least-saving", import.least_saving,
                  "Store a frame as it is when zstd saves less than this part of it")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    c->add_option("--zstd-level", import.level, "Compression level")->check(CLI::Range(1, 19))->capture_default_str();
    c->add_flag("--no-golden", import.no_golden,
                "Do not ask the model the golden prompts that verify and slmd ask again");
    c->footer("Example: slmpack import SmolLM2-135M-Instruct.Q4_1.gguf -o smollm2.slm");
    c->callback([&] { code = run_import(import); });

    AdapterCommand adapter;
    c = app.add_subcommand("adapter", "Make an adapter image of a published LoRA adapter, for one model image");
    c->add_option("SOURCE", adapter.source, "A folder of PEFT's, or a GGUF of llama.cpp's")->required();
    c->add_option("--base", adapter.base, "The model's image, which slmd will run it on: this very one")->required();
    c->add_option("-o,--output", adapter.output, "The adapter image to write")->required();
    c->add_flag("--raw", adapter.raw, "Write the raw form, which is mapped in place");
    c->add_option("--name", adapter.name, "The adapter's name, for people");
    c->footer("Example: slmpack adapter polite-lora --base smollm2.slm -o polite.slm");
    c->callback([&] { code = run_adapter(adapter); });

    QuantizeCommand quantize;
    quantize.resident = Choice{}.resident;
    c = app.add_subcommand("quantize", "Make a small image of a published model, rounded with error feedback");
    c->add_option("SOURCE", quantize.source, "A GGUF file, a Hugging Face folder, or a llama2.c .bin")->required();
    c->add_option("-o,--output", quantize.output, "The image to write")->required();
    auto* kl = c->add_option("--kl", quantize.kl,
                             "As small as it gets at about this KL from the source, in nats a token (default: 0.05)")
                   ->check(CLI::Range(1e-4, 10.0));
    auto* size = c->add_option("--size", quantize.bytes, "As near the source as it gets in about this size: 80M, say")
                     ->transform(CLI::AsSizeValue(true))
                     ->excludes(kl);
    c->add_option("--price", quantize.price,
                  "What a bit in the file is worth, in nats of KL a token, as an earlier run said")
        ->check(CLI::Range(1e-14, 1e-3))
        ->excludes(kl)
        ->excludes(size);
    c->add_option("--text", quantize.text,
                  "Calibration text, like what the model will read; without it the model writes its own");
    c->add_option("--tokens", quantize.tokens, "Calibration tokens")
        ->check(CLI::Range(64, 10000000))
        ->capture_default_str();
    c->add_option("--window", quantize.window, "Tokens that are seen together")
        ->check(CLI::Range(8, 8192))
        ->capture_default_str();
    c->add_option("--resident", quantize.resident,
                  "What a byte in memory weighs beside one in the file: the more, the fewer matrices in 6 and 8 bits")
        ->check(CLI::Range(0.0, 100.0))
        ->capture_default_str();
    c->add_flag("--i4", quantize.only_i4, "Every matrix in 4 bits");
    c->add_option("--work", quantize.work,
                  "Folder for what is done so far (default: OUTPUT.work); the same command goes on from there");
    c->add_option("--name", quantize.name, "The model's name, for people");
    c->add_option("--chat-template", quantize.chat_template,
                  "Take this chat template whatever the source says; none: no template");
    c->add_option("--threads", quantize.threads, "0: one a core; the image is the same for any number")
        ->check(CLI::Range(0, 64))
        ->capture_default_str();
    c->add_flag("--no-golden", quantize.no_golden,
                "Do not ask the model the golden prompts that verify and slmd ask again");
    c->add_flag("--verbose", quantize.verbose, "A line for every matrix");
    c->footer("Example: slmpack quantize SmolLM2-135M-Instruct.Q4_1.gguf -o smollm2.slm --kl 0.05 --text sample.txt");
    c->callback([&] { code = run_quantize(quantize); });

    PruneCommand prune;
    c = app.add_subcommand("prune", "Leave out layers, channels and words that a task can do without");
    c->add_option("SOURCE", prune.source, "A Hugging Face folder")->required();
    c->add_option("-o,--output", prune.output, "The folder to write: a model of the same family")->required();
    c->add_option("--text", prune.text, "Text of the task: what is worth least on it goes")->required();
    c->add_option("--layers", prune.layers, "Layers that are left")->check(CLI::Range(1, 512));
    c->add_option("--channels", prune.channels, "Channels of the feed-forward that are left in each layer")
        ->check(CLI::Range(32, 1 << 20));
    c->add_option("--vocab", prune.vocab, "Entries of the vocabulary that are left: those of the text first")
        ->check(CLI::Range(256, 1 << 22));
    c->add_option("--tokens", prune.tokens, "Tokens of the text that are looked at")
        ->check(CLI::Range(16, 1 << 20))
        ->capture_default_str();
    c->add_option("--window", prune.window, "Tokens that are seen together")
        ->check(CLI::Range(16, 8192))
        ->capture_default_str();
    c->add_option("--threads", prune.threads, "0: one a core; the folder is the same for any number")
        ->check(CLI::Range(0, 64))
        ->capture_default_str();
    c->add_flag("--verbose", prune.verbose, "A line for every layer");
    c->footer("Example: slmpack prune SmolLM2-135M-Instruct -o smaller --text task.txt --layers 24 --channels 1024");
    c->callback([&] { code = run_prune(prune); });

    std::string path;
    c = app.add_subcommand("inspect", "Show what is in an image");
    c->add_option("IMAGE", path)->required();
    c->footer("Example: slmpack inspect smollm2.slm");
    c->callback([&] { code = run_inspect(path); });

    c = app.add_subcommand("verify",
                           "Check everything in an image; exit code 1 and the places when something is wrong");
    c->add_option("IMAGE", path)->required();
    std::vector<std::string> keys;
    c->add_option("--key", keys, "A public key: it must be signed by this one, or by another that is given")
        ->allow_extra_args(false);
    bool no_golden = false;
    c->add_flag("--no-golden", no_golden, "Do not run the model on its golden prompts");
    c->footer("Example: slmpack verify smollm2.slm --key factory.pub");
    c->callback([&] { code = run_verify(path, keys, !no_golden); });

    GoldenCommand golden;
    golden.tokens = GoldenQuestions{}.tokens;
    c = app.add_subcommand("golden", "Ask an image, and write into it what it says: other machines must say the same");
    c->add_option("IMAGE", golden.image)->required();
    c->add_option("-o,--output", golden.output, "The image to write (default: IMAGE itself)");
    c->add_option("--prompt", golden.prompts, "A prompt, as a user would write it; may be given again (default: three)")
        ->allow_extra_args(false);
    c->add_option("--tokens", golden.tokens, "Tokens of an answer")
        ->check(CLI::Range(1u, slmd::image::max_golden_answer))
        ->capture_default_str();
    c->footer("Example: slmpack golden smollm2.slm --prompt 'Turn on the pump.'");
    c->callback([&] { code = run_golden(golden); });

    PrefixesCommand prefixes;
    c = app.add_subcommand(
        "prefixes", "Write into an image the beginnings of agents' prompts that slmd has kept, for its first start");
    c->add_option("IMAGE", prefixes.image)->required();
    auto* const kept = c->add_option("FILE", prefixes.files, "NAME.kv of the state folder of a slmd that ran IMAGE");
    c->add_flag("--remove", prefixes.remove, "Those that are there go")->excludes(kept);
    c->add_option("-o,--output", prefixes.output, "The image to write (default: IMAGE itself)");
    c->footer("Example: slmpack prefixes smollm2.slm /var/lib/slmd/*.kv");
    c->callback([&, kept] {
        if (kept->empty() && !prefixes.remove) throw CLI::RequiredError("FILE or --remove");
        code = run_prefixes(prefixes);
    });

    std::string key_file;
    c = app.add_subcommand("keygen", "Make a key that signs images: KEY, to be kept secret, and KEY.pub");
    c->add_option("-o,--output", key_file, "The private key to write; its public key is KEY.pub")->required();
    c->footer("Example: slmpack keygen -o factory");
    c->callback([&] { code = run_keygen(key_file); });

    SignCommand sign;
    c = app.add_subcommand("sign", "Check every hash of an image, and sign it");
    c->add_option("IMAGE", sign.image)->required();
    c->add_option("--key", sign.key, "The private key, in PEM; ECDSA on the curve P-256")->required();
    c->add_option("-o,--output", sign.output, "The image to write (default: IMAGE itself)");
    c->footer("Example: slmpack sign smollm2.slm --key factory");
    c->callback([&] { code = run_sign(sign); });

    c = app.add_subcommand("cat", "Write the raw form of an image to standard output (as zstd -dc does)");
    c->add_option("IMAGE", path)->required();
    c->footer("Example: slmpack cat smollm2.slm > smollm2.raw");
    c->callback([&] { code = run_cat(path); });

    std::string before, after, delta;
    c = app.add_subcommand("diff", "What an image has that an older one has not: small enough to send to boards");
    c->add_option("OLD", before, "The image that boards have")->required();
    c->add_option("NEW", after, "The image that they shall have")->required();
    c->add_option("-o,--output", delta, "The difference to write")->required();
    c->footer("Example: slmpack diff v1.slm v2.slm -o v1-v2.slmdiff");
    c->callback([&] { code = run_diff(before, after, delta); });

    c = app.add_subcommand("apply", "The new image, from the old one and the difference, to the byte");
    c->add_option("OLD", before)->required();
    c->add_option("DIFFERENCE", delta)->required();
    c->add_option("-o,--output", after, "The image to write")->required();
    c->footer("Example: slmpack apply v1.slm v1-v2.slmdiff -o v2.slm");
    c->callback([&] { code = run_apply(before, delta, after); });

    TokenizeCommand tokenize;
    c = app.add_subcommand("tokenize", "Token ids of the text on standard input, in one line");
    c->add_option("MODEL", tokenize.model, "An image or a source; of a folder only the tokenizer is read")->required();
    c->add_flag("--decode", tokenize.decode, "The other way: the text of the ids on standard input");
    c->add_flag("--no-bos", tokenize.no_bos, "Without the model's beginning-of-sequence token");
    c->add_flag("--specials", tokenize.specials,
                "Special tokens in the text count (\"<|im_end|>\"), and are shown when decoding");
    c->footer("Example: echo -n 'Hello world' | slmpack tokenize smollm2.slm");
    c->callback([&] { code = run_tokenize(tokenize); });

    LogitsCommand logits;
    c = app.add_subcommand("logits", "Logits of every position of a sequence of tokens, as a NumPy array");
    c->add_option("MODEL", logits.model, "An image or a source; the engine runs a source as a temporary image")
        ->required();
    c->add_option("--tokens", logits.tokens, "Token ids: .npy, int32 or int64")->required();
    c->add_option("-o,--output", logits.output, "The .npy to write: float32 [positions x vocabulary]")->required();
    c->add_option("--adapter", logits.adapter,
                  "An adapter image for the model's image; with --f32 an adapter as published");
    c->add_flag("--f32", logits.f32, "The float32 reference instead of the engine; needs a source");
    c->add_option("--level", logits.level, "CPU level of the engine: scalar, neon, dotprod, avx2, avx512");
    c->add_option("--threads", logits.threads, "Threads of the engine; 0: as many as fit")
        ->check(CLI::Range(0, 16))
        ->capture_default_str();
    c->add_option("--batch", logits.batch, "Tokens a pass")->check(CLI::Range(1, 128))->capture_default_str();
    c->footer("Example: slmpack logits smollm2.slm --tokens t.npy -o l.npy --level scalar");
    c->callback([&] { code = run_logits(logits); });

    EmbedCommand embed;
    c = app.add_subcommand("embed", "Embeddings of the texts on standard input, one a line, as a NumPy array");
    c->add_option("IMAGE", embed.model, "Of an encoder, or of a model that writes")->required();
    c->add_option("-o,--output", embed.output, "The .npy to write: float32 [texts x dimensions], of length 1")
        ->required();
    c->add_option("--level", embed.level, "CPU level: scalar, neon, dotprod, i8mm, avx2, avx512");
    c->add_option("--threads", embed.threads, "0: as many as fit")->check(CLI::Range(0, 16))->capture_default_str();
    c->add_option("--context", embed.context, "Tokens of a text, at most; 0: what the model has, 2048 at most")
        ->check(CLI::Range(0, 1 << 20))
        ->capture_default_str();
    c->footer("Example: slmpack embed minilm.slm -o e.npy < texts.txt");
    c->callback([&] { code = run_embed(embed); });

    EvalCommand eval;
    eval.prompt = usual_task_prompt;
    c = app.add_subcommand("eval", "Perplexity and KL, or accuracy, of models against their source in float32");
    c->add_option("MODEL", eval.models, "Images, which run on the engine; or other models, which are read in float32")
        ->required();
    c->add_option("--source", eval.source, "The model that they were made of")->required();
    auto* text = c->add_option("--text", eval.text, "A text file: perplexity and KL on it");
    auto* task = c->add_option("--task", eval.task,
                               "A labelled file, a text, a tab and its label a line: accuracy of the likeliest label")
                     ->excludes(text);
    c->add_option("--prompt", eval.prompt,
                  "How the model is asked: {text}, and behind it {label}; {labels} lists all of them; @FILE reads it")
        ->needs(task);
    c->add_option("--limit", eval.limit, "Use that many lines of the task, as many of every label; 0: all")
        ->check(CLI::Range(0, 100000000))
        ->needs(task)
        ->capture_default_str();
    c->add_option("--tokens", eval.tokens, "Use that many tokens from the front of the text")
        ->excludes(task)
        ->check(CLI::Range(2, 100000000))
        ->capture_default_str();
    c->add_option("--window", eval.window, "Tokens a window; the second half of each is scored")
        ->excludes(task)
        ->check(CLI::Range(2, 131072))
        ->capture_default_str();
    c->add_option("--plot", eval.plot, "The .svg to write: size against KL")->excludes(task);
    c->add_option("--work", eval.work, "File for what is done so far; the same command goes on from there");
    c->add_flag("--record", eval.record,
                "Write the figures into the images, in place of those of the same text or task and source");
    c->add_option("--level", eval.level, "CPU level of the engine");
    c->add_option("--threads", eval.threads, "Threads of the engine; 0: as many as fit")
        ->check(CLI::Range(0, 16))
        ->capture_default_str();
    c->add_option("--batch", eval.batch, "Tokens a pass")->check(CLI::Range(1, 128))->capture_default_str();
    c->footer("Example: slmpack eval smollm2.slm --source SmolLM2-135M-Instruct.Q4_1.gguf --text wiki.test.raw");
    c->callback([&] {
        if (eval.text.empty() && eval.task.empty()) throw CLI::RequiredError("--text or --task");
        code = eval.task.empty() ? run_eval(eval) : run_eval_task(eval);
    });

    if (argc > 1 && argv[1][0] != '-' &&
        app.get_subcommands([&](CLI::App* s) { return s->check_name(argv[1]); }).empty()) {
        std::fprintf(stderr, "slmpack: no command \"%s\"; slmpack --help lists them\n", argv[1]);
        return 2;
    }
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? 0 : 2;
    } catch (const std::exception& e) {
        return fail(e.what());
    }
    return code;
}
