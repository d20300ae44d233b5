#include "toolchain/slmpack/image/import.h"

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>

#include "commands.h"
#include "golden.h"
#include "image/layout.h"
#include "toolchain/slmpack/image/adapter.h"
#include "toolchain/slmpack/image/amend.h"
#include "toolchain/slmpack/source/one_matrix.h"

namespace slmd::pack {

int fail(const std::string& what) {
    end_progress();
    std::fprintf(stderr, "slmpack: %s\n", what.c_str());
    return 1;
}

Result<std::unique_ptr<Source>> open_source(const std::string& path, bool one_matrix) {
    std::unique_ptr<Source> source = TRY(Source::open(path));
    if (one_matrix) source = TRY(with_one_matrix(std::move(source)));
    for (const std::string& warning : source->warnings) std::fprintf(stderr, "slmpack: warning: %s\n", warning.c_str());
    return source;
}

namespace {
bool line_open = false;
}

std::function<void(std::uint64_t, std::uint64_t)> progress_line(const std::string& label) {
    if (isatty(STDERR_FILENO) == 0) return {};
    return [label, shown = -1](std::uint64_t done, std::uint64_t total) mutable {
        const int percent = total == 0 ? 100 : static_cast<int>(done * 100 / total);
        if (percent == shown) return;
        shown = percent;
        show_progress(label + ' ' + std::to_string(percent) + " %");
    };
}

void show_progress(const std::string& text) {
    line_open = true;
    std::fprintf(stderr, "\r%s", text.c_str());
}

void end_progress() {
    if (line_open) std::fputs("\r\033[K", stderr);
    line_open = false;
}

void print_kinds(const ImportSummary& s) {
    std::printf("%-5s %8s %12s %12s %12s %8s %12s\n", "kind", "tensors", "weights", "raw", "in file", "bits/w",
                "rounding");
    for (const auto& [kind, k] : s.kinds) {
        std::printf("%-5s %8llu %12llu %12llu %12llu %8.3f ", image::kind_name(kind),
                    static_cast<unsigned long long>(k.tensors), static_cast<unsigned long long>(k.weights),
                    static_cast<unsigned long long>(k.raw), static_cast<unsigned long long>(k.stored),
                    8.0 * static_cast<double>(k.stored) / static_cast<double>(k.weights));
        if (k.power > 0)
            std::printf("%11.4f\n", std::sqrt(k.error / k.power));
        else
            std::printf("%12s\n", "none");
    }
}

void set_golden(ImportOptions& options) {
    options.golden = [](const std::string& image) { return ask_golden(image, {}); };
}

void warn_of_signature(const AmendSummary& summary, const std::string& image) {
    if (!summary.was_signed) return;
    std::fprintf(stderr, "slmpack: %s: the signature is gone, since it was of the image before; sign it again\n",
                 image.c_str());
}

int run_import(const ImportCommand& command) {
    const auto start = std::chrono::steady_clock::now();
    const auto source = open_source(command.source, command.one_matrix || !command.kind.empty());
    if (!source) return fail(source.error().text);
    ImportOptions options;
    if (!command.kind.empty())
        options.kind = command.kind == "i4"   ? image::Kind::i4
                       : command.kind == "i6" ? image::Kind::i6
                       : command.kind == "i8" ? image::Kind::i8
                                              : image::Kind::f32;
    options.name = command.name;
    options.chat_template = command.chat_template;
    options.write.raw = command.raw;
    options.write.level = command.level;
    options.write.least_saving = command.least_saving;
    options.write.progress = progress_line("packing " + command.output);
    if (!command.no_golden) set_golden(options);
    const auto done = import_model(*source.value(), command.output, options);
    if (!done) return fail(done.error().text);
    end_progress();
    const ImportSummary& s = done.value();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

    print_kinds(s);
    std::printf("%s: %llu bytes, %.3f of the source's %llu, %.1f MiB when open; %.1f s\n", command.output.c_str(),
                static_cast<unsigned long long>(s.image_bytes),
                static_cast<double>(s.image_bytes) / static_cast<double>(s.source_bytes),
                static_cast<unsigned long long>(s.source_bytes), static_cast<double>(s.raw_bytes) / 1048576, seconds);
    return 0;
}

int run_adapter(const AdapterCommand& command) {
    AdapterOptions options;
    options.name = command.name;
    options.write.raw = command.raw;
    options.write.progress = progress_line("packing " + command.output);
    const auto done = pack_adapter(command.source, command.base, command.output, options);
    if (!done) return fail(done.error().text);
    end_progress();
    const AdapterSummary& s = done.value();
    char rank[32];
    std::snprintf(rank, sizeof rank, s.least_rank == s.largest_rank ? "%u" : "%u to %u", s.least_rank, s.largest_rank);
    std::printf(
        "%s: for %s, %zu matrices of rank %s, rounding %.4f; %llu bytes, %.3f of the source's %llu, %.1f MiB when "
        "open\n",
        command.output.c_str(), s.base.c_str(), s.matrices, rank, s.rounding,
        static_cast<unsigned long long>(s.image_bytes),
        static_cast<double>(s.image_bytes) / static_cast<double>(s.source_bytes),
        static_cast<unsigned long long>(s.source_bytes), static_cast<double>(s.raw_bytes) / 1048576);
    return 0;
}

}  // namespace slmd::pack
