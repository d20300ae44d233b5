// What each way of making fewer or cheaper passes is worth on real text, against the same work without it.
//   bench_passes IMAGE TEXT [--draft IMAGE] [--threads N] [--tokens 96] [--paragraphs 4] [--repeat 3]
// TEXT: paragraphs, a line each (wiki.test.raw). Prints a table; counts of passes are exact, times are this machine's.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "task/generate.h"

using namespace slmd;

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

template <class T>
T value_of(Result<T> r) {
    if (!r) {
        std::fprintf(stderr, "bench_passes: %s\n", r.error().what());
        std::exit(1);
    }
    return std::move(r).value();
}

const std::atomic<bool> never{false};

struct Nothing final : task::TextSink {
    void append(std::string_view) override {}
};

struct Model {
    image::Image image;
    text::Tokenizer tokenizer;
    text::ChatTemplate chat;
};

struct Prompt {
    std::vector<std::int32_t> tokens = std::vector<std::int32_t>(2048);
    task::Generation generation;
};

std::unique_ptr<Prompt> open(const Model& m, const std::string& text, float temperature, int max) {
    static std::vector<char> rendered(65536);
    static std::vector<text::Trusted> trusted(64);
    static std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(65536));
    auto p = std::make_unique<Prompt>();
    task::GenerateOptions o;
    o.sampler.temperature = temperature;
    o.sampler.seed = 1;
    o.max_tokens = max;
    const text::Message message{text::Role::user, text};
    value_of(p->generation.open(m.tokenizer, m.chat, {&message, 1}, o, p->tokens, {rendered, trusted, scratch}));
    return p;
}

struct Cost {
    int tokens = 0, passes = 0;
    double seconds = 0;  // of the answer, without the prompt
};

// Answers all prompts, at most `slots` at a time.
Cost answer(engine::Engine& e, engine::Engine* drafter, std::vector<std::unique_ptr<Prompt>> prompts) {
    Cost cost;
    Nothing sink;
    const int slots = e.slots();
    for (std::size_t first = 0; first < prompts.size(); first += static_cast<std::size_t>(slots)) {
        const auto last = std::min(prompts.size(), first + static_cast<std::size_t>(slots));
        double start = 0;
        for (bool going = true; going;) {
            engine::Engine::Step steps[engine::max_slots];
            task::Generation* asking[engine::max_slots];
            std::size_t n = 0;
            bool reading = false;
            for (std::size_t i = first; i < last; i++) {
                task::Generation& g = prompts[i]->generation;
                reading |= g.answer_tokens() == 0;
                if (value_of(g.ask(static_cast<int>(i - first), e.batch(), never, 0, drafter, steps[n], sink)))
                    asking[n++] = &g;
            }
            if (!reading && start == 0) start = now();
            going = n > 0;
            if (!going) break;
            value_of(e.advance({steps, n}));
            cost.passes += start != 0 && std::none_of(steps, steps + n, [](const auto& s) { return s.guessed; });
            for (std::size_t i = 0; i < n; i++) {
                value_of(asking[i]->take(steps[i], sink));
                cost.tokens += start != 0 && !steps[i].logits.empty();
            }
        }
        cost.seconds += now() - start;
        for (int s = 0; s < slots; s++) e.forget(s);
    }
    return cost;
}

std::unique_ptr<engine::Engine> make(const Model& m, engine::Config c) {
    c.context = 2048;
    return std::unique_ptr<engine::Engine>(value_of(engine::Engine::open(m.image, c)));
}

Model load(const char* path) {
    auto image = value_of(image::Image::open(path, {.threads = 2}));
    auto tokenizer = value_of(text::Tokenizer::open(image.section(image::SectionId::tokenizer)));
    auto chat = value_of(text::ChatTemplate::open(image.section(image::SectionId::chat)));
    return {std::move(image), std::move(tokenizer), std::move(chat)};
}

double median_of(int n, auto&& f) {
    std::vector<double> v;
    for (int i = 0; i < n; i++) v.push_back(f());
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
    int threads = 0, tokens = 96, paragraphs = 4, repeat = 3;
    const char* draft = nullptr;
    for (int i = 3; i + 1 < argc; i += 2) {
        if (std::strcmp(argv[i], "--threads") == 0) threads = std::atoi(argv[i + 1]);
        if (std::strcmp(argv[i], "--tokens") == 0) tokens = std::atoi(argv[i + 1]);
        if (std::strcmp(argv[i], "--paragraphs") == 0) paragraphs = std::atoi(argv[i + 1]);
        if (std::strcmp(argv[i], "--repeat") == 0) repeat = std::max(1, std::atoi(argv[i + 1]));
        if (std::strcmp(argv[i], "--draft") == 0) draft = argv[i + 1];
    }
    std::vector<std::string> texts;
    std::ifstream file(argc > 2 ? argv[2] : "");
    for (std::string line; std::getline(file, line);)
        if (line.size() > 400 && line.size() < 900 && static_cast<int>(texts.size()) < paragraphs)
            texts.push_back(line);
    if (argc < 3 || argc % 2 == 0 || texts.empty()) {
        std::fprintf(stderr,
                     "usage: bench_passes IMAGE TEXT [--draft IMAGE] [--threads N] [--tokens N] [--paragraphs N]\n"
                     "TEXT needs lines of 400 to 900 bytes\n");
        return 2;
    }
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    const Model model = load(argv[1]);
    auto plain = make(model, {.threads = threads, .draft = 0}), guessing = make(model, {.threads = threads});
    std::unique_ptr<Model> small;
    std::unique_ptr<engine::Engine> drafter;
    if (draft != nullptr) {
        small = std::make_unique<Model>(load(draft));
        drafter = make(*small, {.draft = 0, .with = guessing.get()});
    }

    std::printf("guesses (medians where timed)             tokens  passes a token        time\n");
    const struct {
        const char *name, *instruction;
    } tasks[] = {{"copy", "Repeat this text word for word: "},
                 {"question", "Which names of people and places are in this text? Quote the sentences: "},
                 {"summary", "Summarise this text in two sentences: "},
                 {"code", "Write a Python function that reads such a text and counts its words, with comments: "}};
    for (const float temperature : {0.0f, 0.7f})
        for (const auto& task : tasks) {
            const auto run = [&](engine::Engine& e, engine::Engine* d) {
                std::vector<Cost> costs;
                for (int i = 0; i < repeat; i++) {
                    std::vector<std::unique_ptr<Prompt>> prompts;
                    for (const auto& t : texts)
                        prompts.push_back(open(model, task.instruction + t, temperature, tokens));
                    costs.push_back(answer(e, d, std::move(prompts)));
                }
                std::sort(costs.begin(), costs.end(), [](auto& a, auto& b) { return a.seconds < b.seconds; });
                return costs[costs.size() / 2];
            };
            const Cost without = run(*plain, nullptr);
            const auto print = [&](const char* how, const Cost& c) {
                std::printf("  %-9s temperature %.1f  %-13s %8d %8.3f %18.3f of without\n", task.name,
                            static_cast<double>(temperature), how, c.tokens, static_cast<double>(c.passes) / c.tokens,
                            c.seconds / without.seconds);
            };
            print("prompt lookup", run(*guessing, nullptr));
            if (drafter) print("and drafter", run(*guessing, drafter.get()));
        }

    std::printf("sessions that share their passes: tokens a second, all together\n");
    double alone = 0;
    for (const int sessions : {1, 2, 4, 8}) {
        auto e = make(model, {.slots = sessions, .threads = threads, .draft = 0});
        const double rate = median_of(repeat, [&] {
            std::vector<std::unique_ptr<Prompt>> prompts;
            for (int i = 0; i < sessions; i++)
                prompts.push_back(open(model, tasks[2].instruction + texts[static_cast<std::size_t>(i) % texts.size()],
                                       0.7f, tokens));
            const Cost c = answer(*e, nullptr, std::move(prompts));
            return c.tokens / c.seconds;
        });
        if (sessions == 1) alone = rate;
        std::printf("  %d: %8.1f  %5.2f of one\n", sessions, rate, rate / alone);
    }

    std::vector<std::int32_t> text(1024), encoded(4096);
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(65536));
    std::string all;
    for (const auto& t : texts) all += t;
    const auto n = value_of(model.tokenizer.encode(all, {}, true, encoded, scratch));
    for (std::size_t i = 0; i < text.size(); i++) text[i] = encoded[i % n];
    const std::span<const std::int32_t> whole(text);

    std::printf("a mask over the output matrix: time of a pass of one token\n");
    const auto pass = [&](const std::uint64_t* allowed) {
        return median_of(15, [&] {
            engine::Engine::Step step{.slot = 0, .tokens = whole.first(64), .allowed = allowed};
            const double start = now();
            value_of(plain->advance({&step, 1}));
            return now() - start;
        });
    };
    value_of(plain->advance(0, whole.first(64), 64, never));
    const double full = pass(nullptr);
    for (const int allowed : {1, 16, 256}) {
        std::vector<std::uint64_t> mask(static_cast<std::size_t>(plain->vocab() + 63) / 64);
        for (int i = 0; i < allowed; i++) {
            const auto t = static_cast<std::size_t>(i) * static_cast<std::size_t>(plain->vocab()) /
                           static_cast<std::size_t>(allowed);
            mask[t / 64] |= 1ull << t % 64;
        }
        std::printf("  %3d of %d tokens allowed: %.3f of all\n", allowed, plain->vocab(), pass(mask.data()) / full);
    }

    std::printf("a prompt of 544 tokens whose first 512 are in the cache: time to its first logits\n");
    auto two = make(model, {.slots = 2, .threads = threads});
    std::vector<std::int32_t> other(text.begin(), text.begin() + 544);
    for (std::size_t i = 512; i < 544; i++) other[i] = text[i + 100];
    const auto first = [&](int slot, bool cold) {
        return median_of(repeat, [&] {
            two->forget(0);
            two->forget(1);
            if (!cold) value_of(two->advance(0, whole.first(544), 544, never));
            const double start = now();
            value_of(two->advance(slot, other, 544, never));
            return now() - start;
        });
    };
    const double cold = first(0, true);
    std::printf("  in the same slot: %.3f of nothing cached\n  in another slot:  %.3f\n", first(0, false) / cold,
                first(1, false) / cold);
}
