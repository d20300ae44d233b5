// slmd: the daemon. Usage: slmd --help
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/memory.h"
#include "daemon/check.h"
#include "daemon/log.h"
#include "daemon/sandbox.h"
#include "daemon/server.h"
#include "daemon/trust.h"

namespace slmd::daemon {
namespace {

constexpr char help[] =
    "slmd: answers requests to a small language model on serial lines and a socket\n"
    "usage: slmd [--config FILE] [--model FILE] [--socket PATH] [--tty DEVICE[@BAUD]]... [options]\n"
    "  -c, --config FILE     TOML; options override it\n"
    "  -m, --model FILE      the model image (.slm or .raw), made by slmpack\n"
    "      --draft-model F   image of a smaller model with the same tokenizer, which guesses what the model will say\n"
    "      --adapter NAME=F  image of an adapter for the model (slmpack adapter); up to 16 times\n"
    "      --embed-model F   image of an encoder, which embeds texts beside the model (default: the model itself "
    "does)\n"
    "      --state DIR       keeps what was measured once: thread counts (default: $STATE_DIRECTORY, else nothing)\n"
    "  -s, --socket PATH     Unix socket to listen on\n"
    "  -t, --tty DEV[@BAUD]  serial line, 115200 by default; up to 4 times\n"
    "      --rtscts          hardware flow control on the serial lines given by --tty\n"
    "      --context N       tokens that a slot holds (default: what the model has, 2048 at most)\n"
    "      --slots N         answers at a time without reading a prompt again (2)\n"
    "      --threads N       that compute (default: one a core of the fastest cluster; with --state, measured)\n"
    "      --level NAME      scalar, neon, dotprod, i8mm, avx2, avx512 (default: the best)\n"
    "      --system TEXT     what stands before every conversation (default: what the model's template says)\n"
    "      --agents DIR      folder of agents, instead of those configured (" SLMD_AGENTS
    ", /etc/slmd/agents)\n"
    "      --board NAME      which board this is (default: what the device tree says)\n"
    "      --boards DIR      folder of board files (" SLMD_BOARDS
    ")\n"
    "      --hardware WHAT   linux, sim:SCRIPT or replay:TRACE (linux)\n"
    "      --clients N       connections at a time (16)\n"
    "      --queue N         requests that wait (16)\n"
    "      --stream          read the layers from the file for every pass: for a model that memory does not hold\n"
    "      --plan            say every byte of memory, and end\n"
    "      --memory-max      say what MemoryMax= to give the unit, in bytes, and end: the plan, what reading an image\n"
    "                        takes, 1/256 of the plan for page tables, and 16 MiB\n"
    "      --check-config    look for what is wrong without starting, and end: a line of what slmd would do, or 78 "
    "and\n"
    "                        FILE:LINE: what is wrong and what to do\n"
    "      --trace-sandbox   log each system call that the sandbox refuses (debugging; it is refused all the same)\n"
    "  -V, --version\n"
    "signals: SIGHUP reads the configuration again, SIGTERM and SIGINT stop\n"
    "exit status: 0 stopped as asked, 1 failed, 64 wrong usage, 78 wrong configuration\n";

constexpr int exit_usage = 64, exit_config = 78;

enum Option {
    opt_rtscts = 256,
    opt_draft_model,
    opt_adapter,
    opt_embed_model,
    opt_state,
    opt_context,
    opt_slots,
    opt_threads,
    opt_level,
    opt_system,
    opt_clients,
    opt_queue,
    opt_agents,
    opt_board,
    opt_boards,
    opt_hardware,
    opt_stream,
    opt_plan,
    opt_memory_max,
    opt_check_config,
    opt_trace_sandbox
};

constexpr option options[] = {{"config", required_argument, nullptr, 'c'},
                              {"model", required_argument, nullptr, 'm'},
                              {"draft-model", required_argument, nullptr, opt_draft_model},
                              {"adapter", required_argument, nullptr, opt_adapter},
                              {"embed-model", required_argument, nullptr, opt_embed_model},
                              {"state", required_argument, nullptr, opt_state},
                              {"socket", required_argument, nullptr, 's'},
                              {"tty", required_argument, nullptr, 't'},
                              {"rtscts", no_argument, nullptr, opt_rtscts},
                              {"context", required_argument, nullptr, opt_context},
                              {"slots", required_argument, nullptr, opt_slots},
                              {"threads", required_argument, nullptr, opt_threads},
                              {"level", required_argument, nullptr, opt_level},
                              {"system", required_argument, nullptr, opt_system},
                              {"clients", required_argument, nullptr, opt_clients},
                              {"queue", required_argument, nullptr, opt_queue},
                              {"agents", required_argument, nullptr, opt_agents},
                              {"board", required_argument, nullptr, opt_board},
                              {"boards", required_argument, nullptr, opt_boards},
                              {"hardware", required_argument, nullptr, opt_hardware},
                              {"stream", no_argument, nullptr, opt_stream},
                              {"plan", no_argument, nullptr, opt_plan},
                              {"memory-max", no_argument, nullptr, opt_memory_max},
                              {"check-config", no_argument, nullptr, opt_check_config},
                              {"trace-sandbox", no_argument, nullptr, opt_trace_sandbox},
                              {"help", no_argument, nullptr, 'h'},
                              {"version", no_argument, nullptr, 'V'},
                              {nullptr, 0, nullptr, 0}};

Result<void> number(const char* name, const char* text, int low, int high, int& out) {
    char* end;
    const long long v = strtoll(text, &end, 10);
    if (end == text || *end != 0)
        return Error::make(Code::incorrect_parameters, "%s %s: not a whole number", name, text);
    return set_number(name, v, low, high, out);
}

struct Command {
    bool plan = false, memory_max = false, check = false, help = false, version = false;
    bool only_plans() const { return plan || memory_max; }
};

// Three times over the arguments: what to do, then the file, wherever it stands, then what overrides it.
Result<void> parse(int argc, char** argv, Config& config, Command& command) {
    enum { commands, files, overrides };
    for (const int pass : {commands, files, overrides}) {
        bool ttys = false, adapters = false;
        optind = 0;
        for (int o; (o = getopt_long(argc, argv, "c:m:s:t:hV", options, nullptr)) != -1;) {
            if (o == '?') return Error::make(Code::not_supported, "slmd --help shows the options");
            if (pass == commands) command.check |= o == opt_check_config;
            if (pass == files && o == 'c') TRY(read_config(optarg, config));
            if (pass != overrides) continue;
            switch (o) {
                case 'm': TRY(set_text("--model", optarg, config.model, sizeof config.model)); break;
                case opt_draft_model:
                    TRY(set_text("--draft-model", optarg, config.draft_model, sizeof config.draft_model));
                    break;
                case opt_adapter:
                    if (!adapters) config.adapter_count = 0;
                    adapters = true;
                    TRY(add_adapter(config, optarg));
                    break;
                case opt_embed_model:
                    TRY(set_text("--embed-model", optarg, config.embed_model, sizeof config.embed_model));
                    break;
                case opt_state: TRY(set_text("--state", optarg, config.state, sizeof config.state)); break;
                case 's': TRY(set_text("--socket", optarg, config.socket, sizeof config.socket)); break;
                case 't':
                    if (!ttys) config.tty_count = 0;
                    ttys = true;
                    TRY(add_tty(config, optarg));
                    break;
                case opt_rtscts:
                    for (auto& t : config.ttys) t.rtscts = true;
                    break;
                case opt_context: TRY(number("--context", optarg, 0, 1 << 20, config.engine.context)); break;
                case opt_slots: TRY(number("--slots", optarg, 1, 16, config.engine.slots)); break;
                case opt_threads: TRY(number("--threads", optarg, 0, 16, config.engine.threads)); break;
                case opt_level: TRY(set_text("--level", optarg, config.level, sizeof config.level)); break;
                case opt_system: TRY(set_text("--system", optarg, config.system, sizeof config.system)); break;
                case opt_clients: TRY(number("--clients", optarg, 1, Config::max_clients, config.clients)); break;
                case opt_queue: TRY(number("--queue", optarg, 1, Config::max_queue, config.queue)); break;
                case opt_agents:
                    config.agent_folders = 1;
                    TRY(set_text("--agents", optarg, config.agents[0], sizeof config.agents[0]));
                    break;
                case opt_board: TRY(set_text("--board", optarg, config.board.name, sizeof config.board.name)); break;
                case opt_boards:
                    TRY(set_text("--boards", optarg, config.board.files, sizeof config.board.files));
                    break;
                case opt_hardware:
                    TRY(set_text("--hardware", optarg, config.board.hardware, sizeof config.board.hardware));
                    break;
                case opt_stream: config.engine.residency = image::Residency::streamed; break;
                case opt_plan: command.plan = true; break;
                case opt_trace_sandbox: config.trace_sandbox = true; break;
                case opt_memory_max: command.memory_max = true; break;
                case 'h': command.help = true; break;
                case 'V': command.version = true; break;
                default: break;
            }
            unsigned* const line = o == 'm'               ? &config.lines.model
                                   : o == opt_draft_model ? &config.lines.draft_model
                                   : o == opt_embed_model ? &config.lines.embed_model
                                   : o == opt_state       ? &config.lines.state
                                   : o == opt_level       ? &config.lines.level
                                   : o == 's'             ? &config.lines.socket
                                                          : nullptr;
            if (line != nullptr) *line = 0;  // not from the file any more
        }
        if (optind < argc)
            return Error::make(Code::not_supported, "\"%s\" is not an option; slmd --help shows them", argv[optind]);
    }
    return {};
}

// The board, from what the configuration names. A machine that no file describes is still a machine.
Result<std::unique_ptr<hal::Hardware>> open_hardware(const Config& config) {
    const char* const from = config.board.hardware;
    if (strncmp(from, "sim:", 4) == 0) return hal::open_sim(from + 4);
    if (strncmp(from, "replay:", 7) == 0) return hal::open_replay(from + 7);
    if (strcmp(from, "linux") != 0)
        return Error::make(Code::incorrect_parameters,
                           "hardware \"%s\": use \"linux\", \"sim:SCRIPT\" or \"replay:TRACE\"", from);
    auto root = hal::Root::open();
    if (!root) return root.error();
    auto board = hal::find_board(root.value(), config.board.files, config.board.name);
    if (!board && config.board.name[0] != 0) return board.error();
    if (!board) log(Level::notice, {{"SLMD_EVENT", "board"}}, "%s; going on without a board file", board.error().text);
    return hal::open_linux(std::move(root).value(), board ? board.value() : hal::BoardFile{});
}

// What is there, less what the board's file keeps for the rest of the system.
std::uint64_t memory_budget(hal::Hardware& hardware) {
    const std::uint64_t available = available_memory();
    auto m = hardware.board().memory();
    if (!m || m->reserve >= m->total) return available;
    return std::min(available, m->total - m->reserve);
}

void print_plan(const Plan& p, const char* model) {
    printf("%s, %d tokens a slot\n", model, p.context);
    for (const auto& item : p.view()) printf("%14llu  %s\n", static_cast<unsigned long long>(item.bytes), item.name);
    printf("%14llu  total (%.1f MiB)\n", static_cast<unsigned long long>(p.total()),
           static_cast<double>(p.total()) / 1048576);
}

// of_image: set when it failed because of the image, and not of a wire.
Result<void> serve(Config& config, const Reread& reread, const Plan& p, Images& images, hal::Hardware& hardware,
                   Notify& notify, const HandedOver& handed, bool& of_image) {
    of_image = false;
    Arena counting;
    Memory memory{};
    lay_out(counting, config, p.tokens, memory);
    const auto vocab = static_cast<int>(images.model.params().vocab);
    const bool writes = !encodes(images.model);
    if (writes) lay_out_grammars(counting, config, vocab, memory);
    lay_out_agents(counting, config, memory);
    memory.documents.lay_out(counting, config);
    memory.uplink.lay_out(counting, config);
    memory.records.lay_out(counting, config);
    const struct Block {  // goes after all that lives in it
        std::size_t size;
        void* at;
        ~Block() {
            if (at != MAP_FAILED) munmap(at, size);
        }
    } block{counting.used(),
            mmap(nullptr, counting.used(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0)};
    if (block.at == MAP_FAILED)
        return Error::make(Code::memory_full, "cannot map %zu KiB for clients and requests", counting.used() >> 10);
    Arena arena({static_cast<std::byte*>(block.at), counting.used()});
    lay_out(arena, config, p.tokens, memory);
    if (writes) lay_out_grammars(arena, config, vocab, memory);
    lay_out_agents(arena, config, memory);
    memory.documents.lay_out(arena, config);
    memory.uplink.lay_out(arena, config);
    memory.records.lay_out(arena, config);
    const struct Wake {
        int fd;
        ~Wake() {
            if (fd >= 0) close(fd);
        }
    } wake{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (wake.fd < 0) return Error::make(Code::device_io, "eventfd: %s", strerror(errno));

    const struct Closing {  // before the block goes, which SQLite lives in
        Documents& documents;
        Uplink& uplink;
        Records& records;
        ~Closing() {
            documents.close();
            uplink.close();
            records.close();
        }
    } closing{memory.documents, memory.uplink, memory.records};
    TRY(memory.documents.open(config, wake.fd));
    TRY(memory.records.open(config));
    TRY(memory.uplink.open(config, memory.records));
    wire::Identity identity;
    identity.version = SLMD_VERSION;
    const hal::Identity board = hardware.board().identity();
    if (board.serial[0] != 0) identity.serial = board.serial;
    Service service(config, p, images, memory, wake.fd);
    Machine machine(config, hardware, service);
    service.attach(machine);
    if (auto read = service.read_agents(config); !read) log_agents(read.error());
    machine.open();
    Server server(config, reread, service, hardware, machine, memory, notify, wake.fd, identity);
    TRY(server.open(handed));
    TRY(service.start());
    auto result = server.run();
    of_image = service.state() == Service::State::failed;
    service.stop();
    return result;
}

void log_failure(const Error& e) {
    log(Level::error, {{"SLMD_EVENT", "failed"}, {"SLMD_CODE", static_cast<int>(e.code)}}, "%s", e.text);
}

// Where slmd may write: its state, the slots' record, the folder of its socket, devices, and the LED that it has.
Result<void> restrict_files(const Config& config) {
    char runtime[sizeof config.socket];
    folder_of(config.socket, runtime, sizeof runtime);
    char led[80];
    snprintf(led, sizeof led, "/sys/class/leds/%s", config.pins.status.line);
    const bool has_socket = config.socket[0] != 0, has_led = config.pins.status.line[0] != 0;
    char uplink[sizeof config.uplink.socket];
    folder_of(config.uplink.socket, uplink, sizeof uplink);
    Writable writable[6] = {{"/dev", true}, {config.state, false}};
    std::size_t n = 2;
    if (image::is_slot_folder(config.model)) writable[n++] = {config.model, false};
    if (has_socket) writable[n++] = {runtime, false};
    if (config.uplink.socket[0] != 0) writable[n++] = {uplink, false};
    if (has_led) writable[n++] = {led, true};
    return restrict_files(std::span(writable).first(n));
}

// What holds when neither file nor options say anything else.
void set_defaults(Config& config) {
    config = Config();
    if (const char* state = getenv("STATE_DIRECTORY"))
        snprintf(config.state, sizeof config.state, "%.*s", static_cast<int>(strcspn(state, ":")), state);
}

// Of a folder of slots, counted as a try when it is one. Elsewhere slot -1.
Result<image::Choice> choose_slot(const Config& config) {
    if (!image::is_slot_folder(config.model)) return image::Choice{};
    const image::SlotFolder folder = TRY(image::SlotFolder::open(config.model));
    const image::Choice choice = TRY(folder.choose());
    const char letter[2] = {image::slot_letter(choice.slot), 0};
    log(Level::info, {{"SLMD_EVENT", "slot"}, {"SLMD_SLOT", letter}}, "slot %s%s", letter,
        choice.trial ? ", which is tried" : "");
    return choice;
}

Result<image::Choice> fall_back(const Config& config, const image::Choice& failed, const Error& why) {
    const image::SlotFolder folder = TRY(image::SlotFolder::open(config.model));
    const image::Choice choice = TRY(folder.reject(failed, why.text));
    const char letter[2] = {image::slot_letter(choice.slot), 0};
    log(Level::warning, {{"SLMD_EVENT", "slot"}, {"SLMD_SLOT", letter}}, "slot %c is bad; going on with slot %s",
        image::slot_letter(failed.slot), letter);
    return choice;
}

// An image that answered once is given up only for what is wrong with its file.
bool blames_image(Code code) {
    return code == Code::model_format || code == Code::model_integrity || code == Code::storage_failure;
}

// of_image: set when it failed because of the image.
Result<void> serve_slot(Config& config, const image::Choice& choice, const image::Trust& trust, const Reread& reread,
                        hal::Hardware& hardware, Notify& notify, HandedOver& handed, bool& of_image) {
    snprintf(config.model_file, sizeof config.model_file, "%s", choice.slot < 0 ? config.model : choice.path);
    Images images = TRY(adopt_images(config, trust, handed, notify));
    images.slot = choice;
    const Plan p = TRY(plan(images, config));
    TRY(check_memory(images, config, memory_budget(hardware)));
    return serve(config, reread, p, images, hardware, notify, handed, of_image);
}

Result<void> show_plans(Config& config, const Command& command, const image::Trust& trust) {
    TRY(find_model(config, config.model_file));
    HandedOver none;
    Notify silent;
    const Images images = TRY(adopt_images(config, trust, none, silent));
    const Plan p = TRY(plan(images, config));
    if (command.memory_max) printf("%llu\n", static_cast<unsigned long long>(TRY(memory_max(images, config))));
    if (command.plan) print_plan(p, config.model_file);
    return {};
}

struct Arguments {
    int count;
    char** values;
};
Result<void> reread(void* context, Config& fresh) {
    const auto& a = *static_cast<const Arguments*>(context);
    Command command;
    set_defaults(fresh);
    return parse(a.count, a.values, fresh, command);
}

int main(int argc, char** argv) {
    open_log();
    // One heap for all threads: arenas of their own would be reserved and touched, and are not in the plan.
    mallopt(M_ARENA_MAX, 1);
    static Config config, fresh;
    set_defaults(config);
    Command command;
    const auto parsed = parse(argc, argv, config, command);
    if (command.check) {  // no priority before it: editors and people read FILE:LINE:
        char line[1024];
        const auto ok = parsed ? check_config(config, line, sizeof line) : parsed;
        if (ok) return puts(line), 0;
        return fprintf(stderr, "%s\n", ok.error().text),
               ok.error().code == Code::not_supported ? exit_usage : exit_config;
    }
    if (!parsed) {
        log(Level::error, {{"SLMD_EVENT", "configuration"}}, "%s", parsed.error().text);
        return parsed.error().code == Code::not_supported ? exit_usage : exit_config;
    }
    if (command.help) return fputs(help, stdout), 0;
    if (command.version) return puts("slmd " SLMD_VERSION), 0;
    HandedOver handed = handed_over();
    if (auto ok = command.only_plans() && config.model[0] != 0 ? Result<void>{} : check(config, handed.socket_count);
        !ok) {
        log(Level::error, {{"SLMD_EVENT", "configuration"}}, "%s", ok.error().text);
        return exit_config;
    }
    // Once, before the sandbox closes: the files may be where slmd cannot read later.
    static TrustedKeys keys;
    if (auto ok = read_keys(config, keys); !ok) {
        log(Level::error, {{"SLMD_EVENT", "configuration"}}, "%s", ok.error().text);
        return exit_config;
    }
    // Signals come through a descriptor; threads inherit the mask.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    signal(SIGPIPE, SIG_IGN);

    static Notify notify;
    notify.open();
    Result<std::unique_ptr<hal::Hardware>> hardware(std::unique_ptr<hal::Hardware>{});
    if (!command.only_plans()) hardware = open_hardware(config);
    if (!hardware) return log_failure(hardware.error()), 1;
    Arguments arguments{argc, argv};
    const Reread again{reread, &arguments, &fresh};
    if (command.only_plans()) {
        const auto planned = show_plans(config, command, keys.trust());
        return planned ? 0 : (log_failure(planned.error()), 1);
    }
    auto choice = choose_slot(config);
    if (!choice) return log_failure(choice.error()), 1;
    if (auto ok = restrict_files(config); !ok) return log_failure(ok.error()), 1;
    for (;;) {
        bool of_image = true;
        const image::Choice tried = choice.value();
        const auto served = serve_slot(config, tried, keys.trust(), again, *hardware.value(), notify, handed, of_image);
        if (served) return 0;
        const Error& why = served.error();
        log_failure(why);
        notify.send("STATUS=%s\nERRNO=1", why.text);
        if (tried.slot < 0 || !of_image || !(tried.trial || blames_image(why.code))) return 1;
        choice = fall_back(config, tried, why);
        if (!choice) return log_failure(choice.error()), 1;
    }
}

}  // namespace
}  // namespace slmd::daemon

int main(int argc, char** argv) { return slmd::daemon::main(argc, argv); }
