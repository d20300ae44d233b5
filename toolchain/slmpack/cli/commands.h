// slmpack's commands: what the command line asks for, and the functions that do it. Each returns the exit code: 0, or 1
// after one line on stderr.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace slmd::pack {

class Source;
// A source that becomes an image; its warnings on stderr. one_matrix: see with_one_matrix().
Result<std::unique_ptr<Source>> open_source(const std::string& path, bool one_matrix);

struct ImportCommand {
    std::string source, output, kind, name, chat_template;
    bool raw = false, no_golden = false, one_matrix = false;
    double least_saving = 0;
    int level = 0;
};
int run_import(const ImportCommand& command);

struct AdapterCommand {
    std::string source, base, output, name;
    bool raw = false;
};
int run_adapter(const AdapterCommand& command);

struct QuantizeCommand {
    std::string source, output, text, work, name, chat_template;
    double kl = 0, price = 0, resident = 0;
    std::uint64_t bytes = 0;
    int tokens = 30720, window = 512, threads = 0;
    bool only_i4 = false, verbose = false, no_golden = false;
};
int run_quantize(const QuantizeCommand& command);

struct PruneCommand {
    std::string source, output, text;
    int layers = 0, channels = 0, vocab = 0, tokens = 8192, window = 512, threads = 0;
    bool verbose = false;
};
int run_prune(const PruneCommand& command);

struct TokenizeCommand {
    std::string model;
    bool decode = false, no_bos = false, specials = false;
};
int run_tokenize(const TokenizeCommand& command);

struct LogitsCommand {
    std::string model, adapter, tokens, output, level;
    int threads = 0, batch = 32;
    bool f32 = false;
};
int run_logits(const LogitsCommand& command);

struct EmbedCommand {
    std::string model, output, level;
    int threads = 0, context = 0;
};
int run_embed(const EmbedCommand& command);

struct EvalCommand {
    std::vector<std::string> models;
    std::string source, text, task, prompt, level, plot, work;
    int tokens = 20480, window = 512, limit = 0, threads = 0, batch = 32;
    bool record = false;
};
int run_eval(const EvalCommand& command);  // on a text
int run_eval_task(EvalCommand command);    // on a task

struct SignCommand {
    std::string image, key, output;
};
int run_sign(const SignCommand& command);
int run_keygen(const std::string& path);

struct GoldenCommand {
    std::string image, output;
    std::vector<std::string> prompts;
    int tokens = 0;
};
int run_golden(const GoldenCommand& command);

struct PrefixesCommand {
    std::string image, output;
    std::vector<std::string> files;
    bool remove = false;
};
int run_prefixes(const PrefixesCommand& command);

int run_inspect(const std::string& path);
int run_verify(const std::string& path, const std::vector<std::string>& keys, bool golden);
int run_cat(const std::string& path);
int run_diff(const std::string& before, const std::string& after, const std::string& delta);
int run_apply(const std::string& before, const std::string& delta, const std::string& after);

struct ImportSummary;
void print_kinds(const ImportSummary& summary);
struct ImportOptions;
void set_golden(ImportOptions& options);  // so that the image gets the usual golden prompts

struct AmendSummary;
void warn_of_signature(const AmendSummary& summary, const std::string& image);

// "slmpack: what" on stderr; returns 1.
int fail(const std::string& what);

// A progress line on stderr where that is a terminal: "packing  43 %".
std::function<void(std::uint64_t done, std::uint64_t total)> progress_line(const std::string& label);
// The same of what takes minutes: "pruning  43 %, 6 min left". What an earlier run did does not count.
std::function<void(double part)> remaining_line(const char* label);
void show_progress(const std::string& text);
void end_progress();

}  // namespace slmd::pack
