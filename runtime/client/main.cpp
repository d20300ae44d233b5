// slmctl: asks slmd. Usage: slmctl --help
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "client/agent.h"
#include "client/board.h"
#include "client/caller.h"
#include "client/compare.h"
#include "client/connection.h"
#include "client/docs.h"
#include "client/embed.h"
#include "client/export.h"
#include "client/graph.h"
#include "client/labelled.h"
#include "client/ledger.h"
#include "client/ledger_report.h"
#include "client/model.h"
#include "client/queue.h"
#include "client/replay.h"
#include "client/route.h"
#include "client/upstream.h"
#include "daemon/plan.h"
#include "wire/commands.h"
#include "wire/json.h"
#include "wire/session.h"
#include "wire/settings.h"
#include "wire/text.h"

namespace slmd::client {
namespace {

constexpr char usage[] =
    "slmctl: asks slmd, on this board's socket or over a serial line\n"
    "usage: slmctl [--socket PATH | --tty DEVICE[@BAUD]] COMMAND\n"
    "  ask TEXT        one answer, as it is generated; TEXT \"-\" reads standard input\n"
    "  classify [TEXT] which of the labels fits, and its probability; without TEXT, or with \"-\", of standard input\n"
    "  extract [TEXT]  the values that --schema FILE asks of TEXT, and where in it they stand\n"
    "  embed [TEXT...] a vector for each text, a line each; without TEXT, or with \"-\", for each line of standard "
    "input\n"
    "  docs add FILE...  documents that slmd finds and answers from: text, Markdown, HTML, CSV, PDF (trusted ports)\n"
    "  docs list       those that it has; docs remove NAME...: no longer\n"
    "  docs search TEXT  the passages that fit best\n"
    "  docs ask QUESTION  an answer in the documents' words with where it stands, or that there is none\n"
    "  agent list      the agents that slmd has; agent show NAME: one of them\n"
    "  agent check FILE...  are these agents' files good?\n"
    "  agent graph FILE  a pipeline as a picture (SVG)\n"
    "  agent run NAME [INPUT]  its answer; without INPUT, or with \"-\", of standard input\n"
    "  agent bench NAME [FILE]  how many answers are right, of lines {\"input\": ..., \"output\": ...}, or of the\n"
    "                  examples in its own file that the model is not shown\n"
    "  adapter list    the adapters that slmd has\n"
    "  calibrate NAME FILE  asks an agent such lines, and writes beside its file how sure its answers are, with a "
    "picture\n"
    "  chat            a conversation; a line is a turn, Ctrl-D ends\n"
    "  status          what slmd does\n"
    "  plan [IMAGE]    every byte of memory: of the running slmd, or of an image before it is loaded\n"
    "  monitor         status every second\n"
    "  hw              the board as slmd sees it (needs a trusted port)\n"
    "  hw record FILE  what the board's sensors say, every second until Ctrl-C, for slmd to replay\n"
    "  board show      which board this is, and what of its file is there\n"
    "  board check FILE...  are these board files good?\n"
    "  model install IMAGE  checks an image, or a difference that slmpack diff made, and puts it into the free one of "
    "two slots\n"
    "  model activate [a|b]  has slmd try that slot; it answers from then on if its golden prompts pass\n"
    "  model rollback  goes back to the other slot\n"
    "  model list      what the slots hold\n"
    "  route preview TEXT  TEXT without what is secret in it, as it would leave the board; no slmd is asked\n"
    "  route budget    what was spent for the large model, of what may be\n"
    "  queue list, show KEY, drop KEY  requests that wait for the large model, the answer of one, and no more of it\n"
    "  ledger verify [FOLDER|FILE...]  is the record of what was decided as it was written?\n"
    "  ledger sign --key FILE [FOLDER|FILE...]  a private key vouches for all of it so far; verify --key FILE, with "
    "the "
    "public one, asks for that\n"
    "  ledger show [FOLDER|FILE...]  its records; ledger report: how much stayed on the board, why, how fast, and what "
    "it cost\n"
    "  ledger replay [FOLDER|FILE...]  is decided again what was, and answered, with --requests\n"
    "  ledger export --pairs FILE [FOLDER|FILE...]  what agents keep of the large model's answers, to train on\n"
    "  compare FILE --agents A,B  a table of how right, sure and fast they are on lines {\"input\": ..., \"output\": "
    "...}, and,\n"
    "                  with --upstream-answers, the cheapest mix with a large model that is good enough\n"
    "  help [VERB]     the commands of the wire, or one of them\n"
    "options\n"
    "  -s, --socket PATH       default /run/slmd/slmd.sock, or what SLMD_SOCKET says\n"
    "  -t, --tty DEV[@BAUD]    serial line, 115200 baud by default\n"
    "  -n, --max N             tokens of an answer, at most\n"
    "      --label LABEL       one of those that classify chooses from; 2 to 512 times\n"
    "      --labels FILE       the same from a file, a line each\n"
    "      --none              \"none\" is a label too; TEXT is to say when it fits\n"
    "      --top N             labels to print, the most probable first, or passages of docs: 1 to 16\n"
    "      --set NAME=VALUE    a setting of the answer: temp, topk, topp, minp, rep, seed, stop, deadline_ms, raw, "
    "adapter, bias, doubt\n"
    "      --adapter NAME      the adapter that answers; \"\" is the model alone. For plan IMAGE: an adapter's file, "
    "up to "
    "16 times\n"
    "      --schema FILE       the answer obeys this JSON Schema\n"
    "      --regex PATTERN     the answer matches this regular expression, whole\n"
    "      --context N, --slots N, --threads N, --clients N, --queue N, --tty DEV, --draft-model F, --embed-model F, "
    "--stream  for plan "
    "IMAGE, "
    "as slmd has them\n"
    "      --term NAME         route preview: a name or word that is secret, too; may be given again\n"
    "      --key FILE          ledger sign, verify: as slmpack keygen makes them\n"
    "      --last N            ledger show: so many records of its end\n"
    "      --agent NAME        ledger show, report: of this agent alone\n"
    "      --since WHEN        ledger show, report: from then on: 2026-01-31 (UTC), 7d, 12h\n"
    "      --prices IN,OUT     of a million tokens of the large model's prompts and answers, in any currency\n"
    "      --requests FILE     ledger replay: lines {\"input\": ...}, found by their SHA-256\n"
    "      --pairs FILE        ledger export: JSON lines, as fine-tuning tools read them; \"-\" is standard output\n"
    "      --agents A,B        compare: those that slmd has\n"
    "      --upstream-answers FILE  compare: lines {\"input\": ..., \"answer\": ..., \"tokens_in\": N, "
    "\"tokens_out\": N, \"ms\": N}\n"
    "      --ask-upstream      compare: the large model is asked for answers that are not in that file yet, and they "
    "are "
    "kept there\n"
    "      --quality Q         compare: share of right answers that is good enough, 0 to 1; else the large model's\n"
    "      --volume N          compare: requests a month, 100000 by default\n"
    "      --csv FILE, --svg FILE  what is reported, for a spreadsheet and as a picture\n"
    "      --route WHERE       agent run: local (it stays here) or remote (where the agent allows it)\n"
    "      --dry-run           agent run: its calls switch nothing\n"
    "      --provisional       agent run: what the local model said, while the large one is asked\n"
    "      --by HOW            docs search: words, meaning or both (the default)\n"
    "      --format F          of a vector: f32, numbers (the default), or i8, a scale and bytes in base64\n"
    "      --json              classify, embed, extract, docs, agent, adapter, status, plan and hw as slmd sent them; "
    "ledger show: a JSON object a line\n"
    "      --seconds N         end of a record\n"
    "      --config FILE       of slmd, for its models' folder and allowed keys: default /etc/slmd/slmd.toml\n"
    "      --no-restart        leave slmd as it is; the change holds from its next start\n"
    "      --line NAME         a GPIO input to record too; up to 16 times\n"
    "      --board NAME, --boards DIR    as slmd has them\n"
    "exit status: 0 answered, 1 refused or failed, 2 no connection, 3 an agent's answer is unsure or the "
    "documents do not say, 4 it failed a "
    "check, 64 wrong usage, 130 interrupted\n";

struct Options {
    Address address;
    std::string settings;  // JSON members
    std::string adapter;   // the one of them that agent run takes, too
    daemon::Config plan;
    bool json = false;
    int seconds = 0;  // 0: until interrupted
    std::vector<std::string> labels;
    std::vector<const char*> adapters;  // names; of a plan: files
    bool none = false, bytes = false;
    int top = 1;
    std::vector<const char*> lines;
    ModelCommand model;
    DocsCommand docs;
    LedgerCommand ledger;
    CompareCommand compare;
    std::vector<const char*> terms;
    std::string route;  // of agent run
    bool provisional = false, dry_run = false;
};

// Behind an answer whose probability is below the setting `doubt`.
void say_doubt(const Caller& caller, const JsonNode& result) {
    if (caller.reader().find(result, "doubtful") == nullptr) return;
    const JsonNode* const p = caller.reader().find(result, "probability");
    fprintf(stderr, "slmctl: the answer is doubtful: probability %.2f\n", p != nullptr ? p->number : 0.0);
}

int ask(Connection& connection, const Options& o, std::string text) {
    if (text == "-") text = read_all(stdin);
    if (!utf8_valid(text)) return complain(Error::make(Code::invalid_characters, "the text is not UTF-8"), exit_failed);
    Caller caller(connection);
    if (auto r = caller.wait_for_model(); !r) return outcome(r.error());
    const std::string params = "\"prompt\":" + quoted(text) + ",\"stream\":true,\"progress\":true" + o.settings;
    const JsonNode* result = nullptr;
    const auto done = [&]() -> Result<void> {
        if (!connection.tty() || params.size() < 180) {
            result = TRY(caller.call("gen", params, true));
            return {};
        }
        if (!o.settings.empty())
            return Error::make(
                Code::text_too_long,
                "a long prompt and settings do not fit a serial line together; set them by AT#SET first");
        return caller.ask_at(text);
    }();
    caller.progress_off();
    if (!done) {
        if (caller.printed()) fputs("\n", stdout);
        return outcome(done.error());
    }
    fputs("\n", stdout);
    if (result != nullptr) say_doubt(caller, *result);
    return 0;
}

int classify(Connection& connection, const Options& o, std::string text) {
    if (text == "-") text = read_all(stdin);
    std::string labels;
    for (const std::string& label : o.labels) {
        if (!utf8_valid(label))
            return complain(Error::make(Code::invalid_characters, "a label is not UTF-8"), exit_failed);
        labels += (labels.empty() ? "" : ",") + quoted(label);
    }
    if (!utf8_valid(text)) return complain(Error::make(Code::invalid_characters, "the text is not UTF-8"), exit_failed);
    Caller caller(connection);
    if (auto r = caller.wait_for_model(); !r) return outcome(r.error());
    const auto r =
        caller.call("cls",
                    "\"prompt\":" + quoted(text) + ",\"labels\":[" + labels + "],\"top\":" + std::to_string(o.top) +
                        (o.none ? ",\"none\":true" : "") + (connection.tty() ? "" : ",\"progress\":true") + o.settings,
                    true);
    caller.progress_off();
    if (!r) return outcome(r.error());
    if (o.json) return puts(caller.line().c_str()), 0;
    const wire::JsonLine& reader = caller.reader();
    const JsonNode* chosen = reader.find(*r.value(), "labels");
    if (chosen == nullptr) return complain(Error::make(Code::unknown, "no labels came back"), exit_failed);
    for (int i = reader.first(*chosen); i < chosen->next; i = reader.node(i).next) {
        const JsonNode *label = reader.find(reader.node(i), "label"),
                       *probability = reader.find(reader.node(i), "probability");
        if (label == nullptr || probability == nullptr) continue;
        printf("%.*s\t%.4f\n", static_cast<int>(label->text.size()), label->text.data(), probability->number);
    }
    return 0;
}

int chat(Connection& connection, const Options& o) {
    Caller caller(connection);
    if (auto r = caller.wait_for_model(); !r) return outcome(r.error());
    char* line = nullptr;
    std::size_t size = 0;
    int code = 0;
    for (;;) {
        if (isatty(STDIN_FILENO)) fputs("> ", stdout), fflush(stdout);
        const ssize_t n = getline(&line, &size, stdin);
        if (n <= 0) break;
        std::string text(line, static_cast<std::size_t>(n));
        while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
        if (text.empty()) continue;
        interrupts = 0;
        const auto r =
            caller.call("chat", "\"prompt\":" + quoted(text) + ",\"stream\":true,\"progress\":true" + o.settings, true);
        fputs("\n", stdout);
        if (!r && r.error().code != Code::aborted) {
            code = outcome(r.error());
            if (code == exit_connection) break;
        } else if (r) {
            say_doubt(caller, *r.value());
        }
    }
    free(line);
    return code;
}

int show_status(Connection& connection, const Options& o, bool forever) {
    Caller caller(connection);
    do {
        const auto r = caller.call("stat", "", false);
        if (!r) return outcome(r.error());
        if (o.json) {
            puts(caller.line().c_str());
        } else {
            for (int i = caller.reader().first(*r.value()); i < r.value()->next; i = caller.reader().node(i).next) {
                const JsonNode& n = caller.reader().node(i);
                const char* const sep = forever ? "  " : "\n";
                if (n.type == JsonType::null)
                    printf("%.*s -%s", static_cast<int>(n.key.size()), n.key.data(), sep);
                else
                    printf("%.*s %.*s%s", static_cast<int>(n.key.size()), n.key.data(), static_cast<int>(n.text.size()),
                           n.text.data(), sep);
            }
            if (forever) puts("");
        }
        fflush(stdout);
        if (forever) sleep(1);
    } while (forever && interrupts == 0);
    return 0;
}

void print_item(const char* name, std::size_t size, double bytes) {
    printf("%14.0f  %.*s\n", bytes, static_cast<int>(size), name);
}

int show_plan(Connection& connection, const Options& o) {
    Caller caller(connection);
    const auto r = caller.call("plan", "", false);
    if (!r) return outcome(r.error());
    if (o.json) return puts(caller.line().c_str()), 0;
    const wire::JsonLine& reader = caller.reader();
    const JsonNode *items = reader.find(*r.value(), "items"), *total = reader.find(*r.value(), "total");
    if (items == nullptr || total == nullptr) return complain(Error::make(Code::unknown, "not a plan"), exit_failed);
    for (int i = reader.first(*items); i < items->next; i = reader.node(i).next) {
        const JsonNode *name = reader.find(reader.node(i), "name"), *bytes = reader.find(reader.node(i), "bytes");
        if (name != nullptr && bytes != nullptr) print_item(name->text.data(), name->text.size(), bytes->number);
    }
    printf("%14.0f  total (%.1f MiB)\n", total->number, total->number / 1048576);
    return 0;
}

int show_hardware(Connection& connection, const Options& o) {
    Caller caller(connection);
    const auto r = caller.call("hw", "", false);
    if (!r) return outcome(r.error());
    if (o.json) return puts(caller.line().c_str()), 0;
    const wire::JsonLine& reader = caller.reader();
    for (int i = reader.first(*r.value()); i < r.value()->next; i = reader.node(i).next) {
        const JsonNode& n = reader.node(i);
        printf("%-16.*s", static_cast<int>(n.key.size()), n.key.data());
        const auto value = [](const JsonNode& v) { printf(" %.*s", static_cast<int>(v.text.size()), v.text.data()); };
        if (n.type == JsonType::array)
            for (int k = reader.first(n); k < n.next; k = reader.node(k).next) value(reader.node(k));
        else
            value(n);
        puts("");
    }
    return 0;
}

int plan_image(const char* path, const Options& o) {
    const auto p = [&]() -> Result<daemon::Plan> {
        daemon::Config config = o.plan;
        TRY(daemon::set_text("IMAGE", path, config.model, sizeof config.model));
        for (const char* file : o.adapters) TRY(daemon::add_adapter(config, file));
        return daemon::plan(TRY(daemon::open_indexes(config)), config);
    }();
    if (!p) return complain(p.error(), exit_failed);
    printf("%s, %d slots of %d tokens\n", path, o.plan.engine.slots, p.value().context);
    for (const auto& item : p.value().view()) print_item(item.name, strlen(item.name), static_cast<double>(item.bytes));
    const auto total = static_cast<double>(p.value().total());
    printf("%14.0f  total (%.1f MiB)\n", total, total / 1048576);
    return 0;
}

// Without a connection: the table is here, too.
int help(const char* verb) {
    if (verb == nullptr) {
        for (const wire::Command& c : wire::commands())
            printf("%-16s %-10s %s\n", c.name != nullptr ? ("AT" + std::string(c.name)).c_str() : c.method,
                   c.name != nullptr && c.method != nullptr ? c.method : "", c.help);
        return 0;
    }
    const wire::Command* c = wire::find_method(verb);
    if (c == nullptr) c = wire::find_command(strncmp(verb, "AT", 2) == 0 ? verb + 2 : verb);
    if (c == nullptr) c = wire::find_command("#" + std::string(verb));
    if (c == nullptr)
        return complain(Error::make(Code::not_found, "no verb \"%s\"; slmctl help lists them", verb), exit_usage);
    printf("%s%s: %s\n", c->name != nullptr ? "AT" : "", c->name != nullptr ? c->name : c->method, c->help);
    for (const wire::Param& p : c->params) printf("  %-10s %s%s\n", p.name, p.required ? "" : "(optional) ", p.help);
    if (c->settings)
        for (const wire::Setting& s : wire::settings_table()) printf("  %-12s %s\n", s.name, s.help);
    printf("example: %s\n", c->example);
    return 0;
}

enum Option {
    opt_set = 256,
    opt_json,
    opt_draft_model,
    opt_stream,
    opt_context,
    opt_slots,
    opt_threads,
    opt_clients,
    opt_queue,
    opt_seconds,
    opt_line,
    opt_label,
    opt_labels,
    opt_none,
    opt_top,
    opt_board,
    opt_boards,
    opt_config,
    opt_no_restart,
    opt_schema,
    opt_regex,
    opt_adapter,
    opt_format,
    opt_embed_model,
    opt_by,
    opt_route,
    opt_provisional,
    opt_dry_run,
    opt_ask_upstream,
    opt_term,
    opt_last,
    opt_key,
    opt_agent,
    opt_since,
    opt_prices,
    opt_csv,
    opt_svg,
    opt_requests,
    opt_pairs,
    opt_agents,
    opt_upstream_answers,
    opt_quality,
    opt_volume
};
constexpr option options[] = {{"socket", required_argument, nullptr, 's'},
                              {"tty", required_argument, nullptr, 't'},
                              {"max", required_argument, nullptr, 'n'},
                              {"set", required_argument, nullptr, opt_set},
                              {"json", no_argument, nullptr, opt_json},
                              {"seconds", required_argument, nullptr, opt_seconds},
                              {"line", required_argument, nullptr, opt_line},
                              {"label", required_argument, nullptr, opt_label},
                              {"labels", required_argument, nullptr, opt_labels},
                              {"none", no_argument, nullptr, opt_none},
                              {"top", required_argument, nullptr, opt_top},
                              {"board", required_argument, nullptr, opt_board},
                              {"boards", required_argument, nullptr, opt_boards},
                              {"draft-model", required_argument, nullptr, opt_draft_model},
                              {"stream", no_argument, nullptr, opt_stream},
                              {"context", required_argument, nullptr, opt_context},
                              {"slots", required_argument, nullptr, opt_slots},
                              {"threads", required_argument, nullptr, opt_threads},
                              {"clients", required_argument, nullptr, opt_clients},
                              {"queue", required_argument, nullptr, opt_queue},
                              {"config", required_argument, nullptr, opt_config},
                              {"term", required_argument, nullptr, opt_term},
                              {"key", required_argument, nullptr, opt_key},
                              {"last", required_argument, nullptr, opt_last},
                              {"agent", required_argument, nullptr, opt_agent},
                              {"since", required_argument, nullptr, opt_since},
                              {"prices", required_argument, nullptr, opt_prices},
                              {"csv", required_argument, nullptr, opt_csv},
                              {"svg", required_argument, nullptr, opt_svg},
                              {"requests", required_argument, nullptr, opt_requests},
                              {"pairs", required_argument, nullptr, opt_pairs},
                              {"agents", required_argument, nullptr, opt_agents},
                              {"upstream-answers", required_argument, nullptr, opt_upstream_answers},
                              {"quality", required_argument, nullptr, opt_quality},
                              {"volume", required_argument, nullptr, opt_volume},
                              {"no-restart", no_argument, nullptr, opt_no_restart},
                              {"schema", required_argument, nullptr, opt_schema},
                              {"format", required_argument, nullptr, opt_format},
                              {"embed-model", required_argument, nullptr, opt_embed_model},
                              {"by", required_argument, nullptr, opt_by},
                              {"route", required_argument, nullptr, opt_route},
                              {"provisional", no_argument, nullptr, opt_provisional},
                              {"dry-run", no_argument, nullptr, opt_dry_run},
                              {"ask-upstream", no_argument, nullptr, opt_ask_upstream},
                              {"regex", required_argument, nullptr, opt_regex},
                              {"adapter", required_argument, nullptr, opt_adapter},
                              {"help", no_argument, nullptr, 'h'},
                              {"version", no_argument, nullptr, 'V'},
                              {nullptr, 0, nullptr, 0}};

Result<void> add_setting(Options& o, const std::string& name, const std::string& value) {
    const wire::Setting* s = wire::find_setting(name);
    if (s == nullptr)
        return Error::make(Code::incorrect_parameters, "no setting \"%s\"; slmctl help set lists them", name.c_str());
    const bool text =
        s->type == wire::SettingType::texts || s->type == wire::SettingType::bias || s->type == wire::SettingType::name;
    char* end = nullptr;
    const double number = strtod(value.c_str(), &end);
    wire::Settings scratch;
    const wire::Arg a = text ? wire::Arg{wire::Arg::text, value, 0} : wire::Arg{wire::Arg::number, value, number};
    if (!text && (value.empty() || *end != 0))
        return Error::make(Code::incorrect_parameters, "%s=%s: not a number", name.c_str(), value.c_str());
    TRY(wire::assign(scratch, *s, {&a, 1}));
    wire::Line shown;
    wire::show(shown, scratch, *s, true);
    const std::string member = ",\"" + name + "\":" + std::string(shown.view());
    o.settings += member;
    if (s->type == wire::SettingType::name) o.adapter = member;
    return {};
}

// Sent as a string, so that its size is not bounded by what the wire reads of one line.
Result<void> add_schema(Options& o, const char* path) {
    const std::string text = TRY(read_text(path, "--schema "));
    if (!utf8_valid(text)) return Error::make(Code::invalid_characters, "--schema %s: it is not UTF-8", path);
    o.settings += ",\"schema\":" + quoted(text);
    return {};
}

std::vector<std::string> lines_of(const std::string& all) {
    std::vector<std::string> lines;
    for (std::size_t at = 0; at < all.size();) {
        const std::size_t end = std::min(all.find('\n', at), all.size());
        std::string line = all.substr(at, end - at);
        if (!line.empty() && line.back() == '\r') line.pop_back();
        lines.push_back(std::move(line));
        at = end + 1;
    }
    return lines;
}

// A label a line; empty lines are none.
Result<void> add_labels(Options& o, const char* path) {
    for (std::string& label : lines_of(TRY(read_text(path, "--labels "))))
        if (!label.empty()) o.labels.push_back(std::move(label));
    return {};
}

int report(const Result<void>& done) { return done ? 0 : complain(done.error(), exit_failed); }

Result<void> take_option(int c, Options& o) {
    const auto number = [](const char* name, int low, int high, int& out) -> Result<void> {
        char* end;
        const long v = strtol(optarg, &end, 10);
        if (end == optarg || *end != 0)
            return Error::make(Code::incorrect_parameters, "%s %s: not a whole number", name, optarg);
        return daemon::set_number(name, v, low, high, out);
    };
    const auto real = [](const char* name, double low, double high, double& out) -> Result<void> {
        char* end;
        const double v = strtod(optarg, &end);
        if (end == optarg || *end != 0 || !(v >= low && v <= high))
            return Error::make(Code::incorrect_parameters, "%s %s: a number from %g to %g", name, optarg, low, high);
        return out = v, Result<void>();
    };
    switch (c) {
        case 's': o.address.socket = optarg; return {};
        case 't': {
            TRY(daemon::add_tty(o.plan, optarg));  // counts in a plan, too
            const auto& tty = o.plan.ttys[o.plan.tty_count - 1];
            o.address.tty = tty.path;
            o.address.baud = tty.baud;
            return {};
        }
        case 'n': return add_setting(o, "max", optarg);
        case opt_set: {
            const std::string text = optarg;
            const std::size_t eq = text.find('=');
            if (eq == std::string::npos)
                return Error::make(Code::incorrect_parameters, "--set %s: write NAME=VALUE", optarg);
            return add_setting(o, text.substr(0, eq), text.substr(eq + 1));
        }
        case opt_json: o.json = true; return {};
        case opt_seconds: return number("--seconds", 1, 1 << 30, o.seconds);
        case opt_line: o.lines.push_back(optarg); return {};
        case opt_label: o.labels.emplace_back(optarg); return {};
        case opt_labels: return add_labels(o, optarg);
        case opt_none: o.none = true; return {};
        case opt_top:
            TRY(number("--top", 1, wire::LabelSet::max_top, o.top));
            return o.docs.top = o.top, Result<void>();
        case opt_by: o.docs.by = optarg; return {};
        case opt_ask_upstream: o.compare.ask_upstream = true; return {};
        case opt_route:
            if (strcmp(optarg, "local") != 0 && strcmp(optarg, "remote") != 0)
                return Error::make(Code::incorrect_parameters, "--route is local or remote");
            o.route = optarg;
            return {};
        case opt_provisional: o.provisional = true; return {};
        case opt_dry_run: o.dry_run = true; return {};
        case opt_term: o.terms.push_back(optarg); return {};
        case opt_key: o.ledger.key = optarg; return {};
        case opt_last: return number("--last", 1, 1 << 30, o.ledger.last);
        case opt_agent: o.ledger.agent = optarg; return {};
        case opt_since: o.ledger.since = optarg; return {};
        case opt_prices: o.ledger.prices = optarg; return {};
        case opt_csv: o.ledger.csv = optarg; return {};
        case opt_svg: o.ledger.svg = optarg; return {};
        case opt_requests: o.ledger.requests = optarg; return {};
        case opt_pairs: o.ledger.pairs = optarg; return {};
        case opt_agents: o.compare.agents = optarg; return {};
        case opt_upstream_answers: o.compare.answers = optarg; return {};
        case opt_quality: return real("--quality", 0, 1, o.compare.quality);
        case opt_volume: return real("--volume", 1, 1e12, o.compare.volume);
        case opt_board: return daemon::set_text("--board", optarg, o.plan.board.name, sizeof o.plan.board.name);
        case opt_boards: return daemon::set_text("--boards", optarg, o.plan.board.files, sizeof o.plan.board.files);
        case opt_draft_model:
            return daemon::set_text("--draft-model", optarg, o.plan.draft_model, sizeof o.plan.draft_model);
        case opt_embed_model:
            return daemon::set_text("--embed-model", optarg, o.plan.embed_model, sizeof o.plan.embed_model);
        case opt_format:
            o.bytes = strcmp(optarg, "i8") == 0;
            if (o.bytes || strcmp(optarg, "f32") == 0) return {};
            return Error::make(Code::incorrect_parameters, "--format %s: it is i8 or f32", optarg);
        case opt_stream: o.plan.engine.residency = image::Residency::streamed; return {};
        case opt_context: return number("--context", 0, 1 << 20, o.plan.engine.context);
        case opt_slots: return number("--slots", 1, 16, o.plan.engine.slots);
        case opt_threads: return number("--threads", 0, 16, o.plan.engine.threads);
        case opt_clients: return number("--clients", 1, daemon::Config::max_clients, o.plan.clients);
        case opt_config: o.model.config = optarg; return {};
        case opt_no_restart: o.model.restart = false; return {};
        case opt_regex: o.settings += ",\"regex\":" + quoted(optarg); return {};
        case opt_schema: return add_schema(o, optarg);
        case opt_adapter: o.adapters.push_back(optarg); return {};
        case opt_queue: return number("--queue", 1, daemon::Config::max_queue, o.plan.queue);
        default: return Error::make(Code::incorrect_parameters, "slmctl --help shows the options");
    }
}

int judged(const Result<bool>& good) { return !good ? outcome(good.error()) : good.value() ? 0 : exit_failed; }

// Of the running slmd, when there is something to ask it.
int replay(const Options& o) {
    if (o.ledger.requests == nullptr) return judged(replay_ledger(o.ledger, {}, stdout));
    auto connection = Connection::open(o.address);
    if (!connection) return complain(connection.error(), exit_connection);
    Caller caller(*connection);
    if (auto r = caller.wait_for_model(); !r) return outcome(r.error());
    const auto model = caller.call("model", "", false);
    if (!model) return outcome(model.error());
    const Replayer replayer{
        [&](const std::string& agent, const std::string& input, bool object) -> Result<std::string> {
            const JsonNode* const r = TRY(caller.call("run", local_params(agent.c_str(), input, object), true));
            return answer_of(caller.reader(), *r);
        },
        [&](const std::string& agent) -> Result<Replayer::Agent> {
            const JsonNode* const r = TRY(caller.call("agent", "\"name\":" + quoted(agent), false));
            return Replayer::Agent{text_of(caller.reader(), *r, "adapter_sha256")};
        },
        text_of(caller.reader(), *model.value(), "image")};
    return judged(replay_ledger(o.ledger, replayer, stdout));
}

int run_compare(Options& o) {
    o.compare.prices = o.ledger.prices, o.compare.csv = o.ledger.csv, o.compare.svg = o.ledger.svg;
    auto connection = Connection::open(o.address);
    if (!connection) return complain(connection.error(), exit_connection);
    Caller caller(*connection);
    if (auto r = caller.wait_for_model(); !r) return outcome(r.error());
    if (o.compare.ask_upstream && o.compare.answers == nullptr)
        return complain(
            Error::make(Code::incorrect_parameters, "--ask-upstream keeps answers: --upstream-answers FILE"),
            exit_usage);
    if (o.compare.ask_upstream)
        if (auto r = ask_upstream(caller, o.compare); !r) return outcome(r.error());
    const Ask ask = [&](const std::string& agent, const Labelled& one) -> Result<Asked> {
        const JsonNode& r = *TRY(caller.call("run", local_params(agent.c_str(), one.input, one.object), true));
        const wire::JsonLine& reader = caller.reader();
        const auto number = [&](const char* name, double otherwise) {
            const JsonNode* const n = reader.find(r, name);
            return n != nullptr ? n->number : otherwise;
        };
        Asked a{judged_of(reader, r), {}};
        a.said.failed = text_of(reader, r, "verdict") == "fail";
        a.said.confidence = static_cast<float>(number("confidence", 0));
        a.said.ms = number("total_ms", 0), a.said.joules = number("joules", -1);
        return a;
    };
    return report(compare(o.compare, ask, stdout));
}

int run_ledger(const Options& o) {
    const LedgerCommand& c = o.ledger;
    const std::string verb = c.verb;
    if (verb == "verify") return judged(verify_ledger(c, stdout));
    if (verb == "sign" && c.key != nullptr) return report(sign_ledger(c, stdout));
    if (verb == "show") return report(show_ledger(c, stdout));
    if (verb == "report") return report(report_ledger(c, stdout));
    if (verb == "replay") return replay(o);
    if (verb == "export" && c.pairs != nullptr) return report(export_pairs(c, stdout, stderr));
    fputs(
        "slmctl: ledger verify, sign --key FILE, show, report, replay or export --pairs FILE; slmctl --help shows "
        "them\n",
        stderr);
    return exit_usage;
}

int main(int argc, char** argv) {
    Options o;
    const char* const env = getenv("SLMD_SOCKET");
    o.address.socket = env != nullptr && env[0] != 0 ? env : "/run/slmd/slmd.sock";
    for (int c; (c = getopt_long(argc, argv, "s:t:n:hV", options, nullptr)) != -1;) {
        if (c == 'h') return fputs(usage, stdout), 0;
        if (c == 'V') return puts("slmctl " SLMD_VERSION), 0;
        if (auto r = take_option(c, o); !r) return complain(r.error(), exit_usage);
    }
    const std::string command = optind < argc ? argv[optind] : "";
    const char* const argument = optind + 1 < argc ? argv[optind + 1] : nullptr;
    if (command == "ledger") {
        o.ledger.verb = argument != nullptr ? argument : "";
        o.ledger.paths.assign(argv + std::min(optind + 2, argc), argv + argc);
        o.ledger.json = o.json;
        return run_ledger(o);
    }
    if (command == "compare") {
        if (argument == nullptr || optind + 2 < argc || o.compare.agents.empty()) {
            fputs("slmctl: compare FILE --agents A,B, of lines {\"input\": ..., \"output\": ...}\n", stderr);
            return exit_usage;
        }
        o.compare.cases = argument;
        return run_compare(o);
    }
    const bool known = command == "ask" || command == "classify" || command == "chat" || command == "status" ||
                       command == "plan" || command == "monitor" || command == "help" || command == "hw" ||
                       command == "board" || command == "model" || command == "agent" || command == "extract" ||
                       command == "calibrate" || command == "adapter" || command == "embed" || command == "docs" ||
                       command == "route" || command == "queue";
    const bool budget = command == "route" && argument != nullptr && strcmp(argument, "budget") == 0;
    const bool local = command == "board" || command == "model" || (command == "route" && !budget) ||
                       (command == "hw" && argument != nullptr);  // no slmd is asked
    if (local) {
        const std::string verb = argument == nullptr ? "" : argument;
        const std::span<char* const> rest{argv + std::min(optind + 2, argc), argv + argc};
        struct sigaction stop {};
        stop.sa_handler = [](int) { interrupts = interrupts + 1; };
        sigaction(SIGINT, &stop, nullptr);
        if (command == "model" && rest.size() < 2) {
            o.model.verb = verb.c_str();
            o.model.argument = rest.empty() ? nullptr : rest[0];
            return run_model(o.model);
        }
        if (command == "route" && verb == "preview" && rest.size() == 1)
            return preview_route(strcmp(rest[0], "-") == 0 ? read_all(stdin) : rest[0], o.terms);
        if (command == "board" && verb == "show" && rest.empty())
            return report(show_board(o.plan.board.files, o.plan.board.name));
        if (command == "board" && verb == "check" && !rest.empty()) return check_boards(rest);
        if (command == "hw" && verb == "record" && rest.size() == 1)
            return report(record(rest[0], o.lines, o.seconds, o.plan.board.files, o.plan.board.name, interrupts));
        fputs(
            "slmctl: board show, board check FILE..., hw, hw record FILE, model ..., route preview TEXT, route budget; "
            "slmctl --help "
            "shows them\n",
            stderr);
        return exit_usage;
    }
    const std::string verb = command == "agent" && argument != nullptr ? argument : "";
    const char* const name = optind + 2 < argc ? argv[optind + 2] : nullptr;
    const char* const last = optind + 3 < argc ? argv[optind + 3] : nullptr;
    if (verb == "check" && name != nullptr) return check_agents({argv + optind + 2, argv + argc});
    if (verb == "graph" && name != nullptr && last == nullptr) return graph_pipeline(name);
    if (command == "agent" && !(verb == "list" && name == nullptr) && !(verb == "show" && name != nullptr && !last) &&
        !((verb == "run" || verb == "bench") && name != nullptr && optind + 4 >= argc)) {
        fputs("slmctl: agent list, show NAME, check FILE..., graph FILE, run NAME [INPUT] or bench NAME [FILE]\n",
              stderr);
        return exit_usage;
    }
    if (command == "calibrate" && (name == nullptr || last != nullptr)) {
        fputs("slmctl: calibrate NAME FILE, of lines {\"input\": ..., \"output\": ...}\n", stderr);
        return exit_usage;
    }
    if (!known ||
        (command != "agent" && command != "calibrate" && command != "embed" && command != "docs" &&
         command != "queue" && optind + 2 < argc) ||
        (command == "ask" && argument == nullptr)) {
        if (command.empty())
            fputs(usage, stderr);
        else if (!known)
            fprintf(stderr, "slmctl: no command \"%s\"; slmctl --help lists them\n", command.c_str());
        else if (command == "ask" && argument == nullptr)
            fputs("slmctl: ask what? slmctl ask \"TEXT\"\n", stderr);
        else
            fprintf(stderr, "slmctl: too many arguments; put the text in quotes\n");
        return exit_usage;
    }
    const std::string what = command == "queue" && argument != nullptr ? argument : "";
    if (command == "queue" && !(what == "list" && name == nullptr) &&
        !((what == "show" || what == "drop") && name != nullptr && last == nullptr)) {
        fputs("slmctl: queue list, show KEY or drop KEY\n", stderr);
        return exit_usage;
    }
    if (command == "docs") {
        o.docs.arguments.assign(argv + optind + 1, argv + argc);
        o.docs.json = o.json;
        if (const char* const wrong = wrong_docs(o.docs); *wrong != 0) {
            fprintf(stderr, "slmctl: %s\n", wrong);
            return exit_usage;
        }
    }
    if (command == "classify" && o.labels.size() < 2) {
        fputs("slmctl: classify among what? --label LABEL, twice or more, or --labels FILE\n", stderr);
        return exit_usage;
    }
    if (command == "extract" && o.settings.find(",\"schema\":") == std::string::npos) {
        fputs("slmctl: extract what? --schema FILE says it\n", stderr);
        return exit_usage;
    }
    if (command == "help") return help(argument);
    if (command == "plan" && argument != nullptr) return plan_image(argument, o);
    if (o.adapters.size() > 1) {
        fputs("slmctl: one --adapter: a request is answered by one\n", stderr);
        return exit_usage;
    }
    if (!o.adapters.empty())
        if (auto r = add_setting(o, "adapter", o.adapters[0]); !r) return complain(r.error(), exit_usage);
    if (command == "adapter") {
        if (argument == nullptr || strcmp(argument, "list") != 0) {
            fputs("slmctl: adapter list; slmpack adapter makes one, [[adapter]] in slmd.toml names it\n", stderr);
            return exit_usage;
        }
    }

    struct sigaction action {};
    action.sa_handler = [](int) { interrupts = interrupts + 1; };
    sigaction(SIGINT, &action, nullptr);
    auto connection = Connection::open(o.address);
    if (!connection) return complain(connection.error(), exit_connection);
    if (command == "ask") return ask(*connection, o, argument);
    if (command == "extract") return extract(*connection, argument != nullptr ? argument : "-", o.settings, o.json);
    if (command == "calibrate") return calibrate_agent(*connection, argument, name);
    if (command == "adapter") return list_adapters(*connection, o.json);
    if (verb == "list") return list_agents(*connection, o.json);
    if (verb == "show") return show_agent(*connection, name);
    if (verb == "run")
        return run_agent(*connection, name, last != nullptr ? last : "-",
                         o.adapter + (o.route.empty() ? "" : ",\"route\":" + quoted(o.route)) +
                             (o.provisional ? ",\"provisional\":true" : "") + (o.dry_run ? ",\"dry_run\":true" : ""),
                         o.json);
    if (what == "list") return list_queue(*connection, o.json);
    if (what == "show") return show_queued(*connection, name, o.json);
    if (what == "drop") return drop_queued(*connection, name);
    if (budget) return show_budget(*connection, o.json);
    if (verb == "bench") return bench_agent(*connection, name, last);
    if (command == "docs") return run_docs(*connection, o.docs);
    if (command == "embed") {
        const bool given = argument != nullptr && (name != nullptr || strcmp(argument, "-") != 0);
        return embed(*connection,
                     given ? std::vector<std::string>(argv + optind + 1, argv + argc) : lines_of(read_all(stdin)),
                     o.bytes, o.json);
    }
    if (command == "classify") return classify(*connection, o, argument != nullptr ? argument : "-");
    if (command == "chat") return chat(*connection, o);
    if (command == "plan") return show_plan(*connection, o);
    if (command == "hw") return show_hardware(*connection, o);
    return show_status(*connection, o, command == "monitor");
}

}  // namespace
}  // namespace slmd::client

int main(int argc, char** argv) { return slmd::client::main(argc, argv); }
