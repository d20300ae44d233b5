// The AT rendering: ITU-T V.250 syntax, 3GPP TS 27.007 errors, 27.005 prompt.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "wire/session.h"

namespace slmd::wire {
namespace {

constexpr std::size_t reserve = 768;  // room that token lines leave for final results and errors
constexpr std::size_t max_args = 8;

int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

// Of a line of so many bytes: whole groups of base64, or numbers of up to ten characters and a comma.
std::size_t numbers_a_line(std::size_t width, bool bytes) { return bytes ? (width - 24) / 4 * 3 : (width - 22) / 11; }

}  // namespace

// arg *("," arg); arg = "" / number / string. Strings are unescaped in place.
Result<int> Session::parse_args(std::span<char> text, std::span<Arg> args) const {
    std::size_t at = 0;
    int count = 0;
    const auto wrong = [&](const char* what) {
        return Error::make(Code::incorrect_parameters, "parameter %d: %s", count + 1, what);
    };
    for (;;) {
        if (static_cast<std::size_t>(count) == args.size()) return wrong("too many parameters");
        Arg& a = args[static_cast<std::size_t>(count)];
        a = {};
        while (at < text.size() && text[at] == ' ') at++;
        if (at < text.size() && text[at] == '"') {
            const std::size_t begin = ++at;
            std::size_t out = begin;
            for (;; at++) {
                if (at >= text.size()) return wrong("a closing quote is missing");
                const char c = text[at];
                if (c == '"') break;
                if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f)
                    return Error::make(Code::invalid_characters, "parameter %d: a control character; write it as \\xHH",
                                       count + 1);
                if (c != '\\') {
                    text[out++] = c;
                    continue;
                }
                const char e = ++at < text.size() ? text[at] : 0;
                if (e == '"' || e == '\\')
                    text[out++] = e;
                else if (e == 'n')
                    text[out++] = '\n';
                else if (e == 'r')
                    text[out++] = '\r';
                else if (e == 't')
                    text[out++] = '\t';
                else if (e == 'x' && at + 2 < text.size() && hex(text[at + 1]) >= 0 && hex(text[at + 2]) >= 0) {
                    text[out++] = static_cast<char>(hex(text[at + 1]) << 4 | hex(text[at + 2]));
                    at += 2;
                } else
                    return wrong("an escape is \\\" \\\\ \\n \\r \\t or \\xHH");
            }
            at++;
            a = {Arg::text, {text.data() + begin, out - begin}, 0};
            if (!utf8_valid(a.string))
                return Error::make(Code::invalid_characters, "parameter %d: not UTF-8", count + 1);
        } else if (at < text.size() && text[at] != ',') {
            const std::size_t begin = at;
            if (text[at] == '-') at++;
            const auto digits = [&] {
                const std::size_t from = at;
                while (at < text.size() && text[at] >= '0' && text[at] <= '9') at++;
                return at - from;
            };
            bool good = digits() > 0;
            if (good && at < text.size() && text[at] == '.') at++, good = digits() > 0;
            char copy[40];
            const std::size_t n = at - begin;
            if (!good || n >= sizeof copy) return wrong("a number, or a text in quotes");
            std::memcpy(copy, text.data() + begin, n);
            copy[n] = 0;
            a = {Arg::number, {text.data() + begin, n}, std::strtod(copy, nullptr)};
        }
        count++;
        while (at < text.size() && text[at] == ' ') at++;
        if (at == text.size()) return count;
        if (text[at++] != ',') {
            count--;
            return wrong("a comma is missing behind it");
        }
    }
}

Result<void> Session::check_args(const Command& command, std::span<const Arg> args) {
    if (args.size() > command.params.size())
        return Error::make(Code::incorrect_parameters, "%s takes at most %zu parameters",
                           command.name != nullptr ? command.name : command.method, command.params.size());
    for (std::size_t i = 0; i < command.params.size(); i++) {
        const Param& p = command.params[i];
        const Arg a = i < args.size() ? args[i] : Arg{};
        if (a.type == Arg::absent) {
            if (p.required) return Error::make(Code::incorrect_parameters, "%s is missing: %s", p.name, p.help);
            continue;
        }
        const bool number = p.type == ParamType::integer || p.type == ParamType::real || p.type == ParamType::flag;
        if (number && a.type != Arg::number) return Error::make(Code::incorrect_parameters, "%s is a number", p.name);
        const bool several = p.type == ParamType::texts || p.type == ParamType::numbers;
        if (several && a.type != Arg::array && a.type != Arg::text)
            return Error::make(Code::incorrect_parameters, "%s: an array, in AT a text with | between", p.name);
        if (several) continue;  // how many there are is seen when they are read
        if (p.type == ParamType::text && a.type != Arg::text)
            return Error::make(Code::incorrect_parameters, "%s is a text in quotes", p.name);
        if (number && (!(a.value >= p.min && a.value <= p.max) ||
                       (p.type != ParamType::real && a.value != std::floor(a.value)))) {
            Line range;
            range.real(p.min).put(" to ").real(p.max).put('\0');
            return Error::make(Code::incorrect_parameters, "%s is %s", p.name, range.view().data());
        }
        if (a.type == Arg::text && static_cast<double>(a.string.size()) < p.min)
            return p.min > 1 ? Error::make(Code::incorrect_parameters, "%s is %.0f bytes: %s", p.name, p.min, p.help)
                             : Error::make(Code::incorrect_parameters, "%s is empty", p.name);
        if (a.type == Arg::text && static_cast<double>(a.string.size()) > p.max)
            return Error::make(Code::text_too_long, "%s is at most %.0f bytes", p.name, p.max);
    }
    return {};
}

void Session::at_line(std::span<char> text) {
    const std::string_view view{text.data(), text.size()};
    const bool extended = !view.empty() && (view[0] == '+' || view[0] == '#');
    std::size_t name_size = extended                ? std::min(view.find_first_of("=?"), view.size())
                            : view.starts_with('&') ? std::min<std::size_t>(2, view.size())
                                                    : std::min<std::size_t>(1, view.size());
    while (extended && name_size > 1 && view[name_size - 1] == ' ') name_size--;
    const std::string_view name = view.substr(0, name_size);
    std::string_view rest = view.substr(name_size);
    while (extended && rest.starts_with(' ')) rest.remove_prefix(1);
    const Command* command = find_command(name);
    if (command == nullptr) {
        const int n = static_cast<int>(fit_at(name, 24));
        return fail(Error::make(Code::not_supported, "no command \"%.*s\"; AT+CLAC lists them",
                                utf8_valid(name) ? n : 0, name.data()));
    }
    const auto form_error = [&] {
        return Error::make(Code::not_supported, "AT%s has no such form; AT#HELP=\"%s\" shows it", command->name,
                           command->name);
    };
    Arg args[max_args];
    if (!extended) {
        // V.250: a digit follows at once, no digit is 0.
        if (rest.size() > 1 || (rest.size() == 1 && (rest[0] < '0' || rest[0] > '9')) ||
            (rest.size() == 1 && command->params.empty() && rest != "0"))
            return fail(
                Error::make(Code::not_supported, "AT%s takes at most one digit; one command a line", command->name));
        args[0] = {Arg::number, rest, rest.empty() ? 0.0 : rest[0] - '0'};
        const std::span<const Arg> given{args, command->params.empty() ? 0u : 1u};
        if (auto checked = check_args(*command, given); !checked) return fail(checked.error());
        return at_run(*command, run, given);
    }
    if (rest == "=?") return at_test(*command);
    if (rest.empty() || rest == "?") {
        const Forms form = rest.empty() ? run : read;
        if (!(command->forms & form)) return fail(form_error());
        if (form == run && !command->params.empty() && command->params[0].required)
            return fail(Error::make(Code::incorrect_parameters, "%s is missing: %s", command->params[0].name,
                                    command->params[0].help));
        return at_run(*command, form, {});
    }
    if (rest[0] != '=' || !(command->forms & write)) return fail(form_error());
    const auto count = parse_args(text.last(rest.size() - 1), args);
    if (!count) return fail(count.error());
    const std::span<const Arg> given{args, static_cast<std::size_t>(count.value())};
    if (auto checked = check_args(*command, given); !checked) return fail(checked.error());
    at_run(*command, write, given);
}

void Session::start_line(Line& line, const Command& command) const {
    line.clear();
    line.put(command.name).put(": ");
}

void Session::help_line(Line& line, const Command& command) const {
    line.clear();
    line.put("AT").put(command.name);
    if (command.params.size() == 1 && command.name[0] >= 'A' && command.name[0] <= 'Z') line.put("0|1");
    while (line.size() < 10) line.put(' ');
    line.put(command.help);
}

// The ranges of the parameters, as 27.007 has it: (min-max) a number, "name" a text, [] optional.
void Session::at_test(const Command& command) {
    if (command.verb == Verb::set) return start_list(List::setting_ranges);
    start_line(out_, command);
    if (command.verb == Verb::model) {
        const ModelInfo model = host_->model();
        if (!model.name.empty()) info(out_.put('(').at_string(model.name).put(')'));
        return ok();
    }
    for (std::size_t i = 0; i < command.params.size(); i++) {
        const Param& p = command.params[i];
        if (i > 0) out_.put(',');
        if (!p.required) out_.put('[');
        if (p.type == ParamType::text || p.type == ParamType::any || p.type == ParamType::texts ||
            p.type == ParamType::numbers)
            out_.at_string(p.name);
        else
            out_.put('(').real(p.min).put('-').real(p.max).put(')');
        if (!p.required) out_.put(']');
    }
    if (!command.params.empty()) info(out_);
    ok();
}

void Session::stat_line(Line& line) {
    const Status s = host_->status();
    line.put("#STAT: ").at_string(s.state).put(',').number(s.queue).put(',');
    if (s.temp_c > -274) line.real(s.temp_c, 1);
    line.put(',')
        .number(static_cast<long long>(s.used_mib))
        .put(',')
        .number(static_cast<long long>(s.limit_mib))
        .put(',')
        .real(s.rate, 1);
    line.put(',').number(static_cast<long long>(dropped_));
    if (s.loading < 100) line.put(',').number(s.loading);
}

void Session::at_run(const Command& command, Forms form, std::span<const Arg> args) {
    const auto value = [&](std::size_t i) { return static_cast<int>(args[i].value); };
    const bool has = !args.empty() && args[0].type != Arg::absent;
    const auto answer = [&](long long v) {
        start_line(out_, command);
        info(out_.number(v));
        ok();
    };
    const auto text = [&](std::string_view t) {
        info(t);
        ok();
    };
    const Identity& who = options_.identity;
    out_.clear();
    switch (command.verb) {
        case Verb::ping: return ok();
        case Verb::echo: echo_ = value(0) != 0; return ok();
        case Verb::verbose: verbose_ = value(0) != 0; return ok();
        case Verb::quiet: quiet_ = value(0) != 0; return ok();
        case Verb::info: {
            info(out_.put(who.product).put(' ').put(who.version));
            const ModelInfo model = host_->model();
            out_.clear();
            if (!model.name.empty()) info(out_.put("model ").put(model.name));
            out_.clear();
            return text(out_.put("serial ").put(who.serial).view());
        }
        case Verb::maker: return text(who.maker);
        case Verb::model_name: return text(who.product);
        case Verb::version: return text(who.version);
        case Verb::serial: return text(who.serial);
        case Verb::reset:
        case Verb::factory:
            reset(command.verb == Verb::factory);
            forget();
            return ok();
        case Verb::list: return start_list(List::names);
        case Verb::help:
            if (!has) return start_list(List::help);
            list_command_ = find_command(args[0].string.starts_with("AT") ? args[0].string.substr(2) : args[0].string);
            if (list_command_ == nullptr)
                return fail(Error::make(Code::not_found, "no such command; AT+CLAC lists them"));
            return start_list(List::help_one);
        case Verb::errors:
            if (form == read) return answer(errors_);
            errors_ = value(0);
            return ok();
        case Verb::proto:
            if (form == write) return ok();  // 1 is the only one that passes the range
            return answer(1);
        case Verb::crc:
            if (form == read) return answer(crc_);
            if (value(0) == 0) window_ = 0;
            crc_ = value(0) != 0;
            return ok();
        case Verb::window:
            if (form == read) return answer(window_);
            if (value(0) > 0 && !crc_)
                return fail(Error::make(Code::not_allowed, "a window needs checked lines: AT#CRC=1 first"));
            window_ = value(0);
            return ok();
        case Verb::width:
            if (form == read) return answer(width_);
            width_ = value(0);
            return ok();
        case Verb::model: {
            const ModelInfo model = host_->model();
            if (form == write) {
                if (has && args[0].string == model.name) return ok();
                return fail(Error::make(Code::not_found, "no such model; AT#MODEL=? lists them"));
            }
            if (model.name.empty()) return fail(Error::make(Code::no_model, "no model is loaded"));
            start_line(out_, command);
            info(out_.put("0,")
                     .at_string(model.name)
                     .put(',')
                     .number(static_cast<long long>((model.bytes + (1u << 19)) >> 20))
                     .put(',')
                     .number(model.resident));
            return ok();
        }
        case Verb::set: {
            if (form == read) return start_list(List::setting_values);
            const Setting* s = find_setting(args[0].string);
            if (s == nullptr) return fail(Error::make(Code::not_found, "no such setting; AT#SET=? lists them"));
            if (auto r = assign(settings_, *s, args.subspan(1)); !r) return fail(r.error());
            return ok();
        }
        case Verb::generate:
            if (form == write && has) return at_generate(args);
            if (crc_)
                return fail(
                    Error::make(Code::not_allowed, "with AT#CRC=1 the prompt stands in the line, where it is checked"));
            prompt_max_ = args.size() > 1 && args[1].type == Arg::number ? value(1) : 0;
            mode_ = Mode::prompt;
            size_ = 0;
            overflow_ = last_cr_ = false;
            last_cr_ = true;  // an LF that belongs to this line's CR is not part of the prompt
            return push("\r\n> ");
        case Verb::classify: return at_classify(args);
        case Verb::embed: {
            Active embed;
            embed.embed = embed.bytes = true;
            const auto handle = submit_embed(args, settings_, embed.bytes);
            return at_request(handle, false, embed);
        }
        case Verb::extract: {
            Active extract;
            extract.spans = true;
            return at_request(submit_extract(args, settings_, true), true, extract);
        }
        case Verb::run: {
            Active agent;
            agent.agent = true;
            agent.provisional = args.size() > 5 && args[5].type == Arg::number && args[5].value != 0;
            return at_request(submit_agent(args, settings_), false, agent);
        }
        case Verb::agent: {
            if (form == read) return start_list(List::agents);
            const auto found = find_agent(args[0].string);
            if (!found) return fail(found.error());
            agent_line(out_, *found.value());
            info(out_);
            return ok();
        }
        case Verb::adapter: return start_list(List::adapters);
        case Verb::budget: return start_list(List::budget);
        case Verb::queue: {
            if (form == read) return start_list(List::queue);
            Active agent;
            agent.agent = true;
            return at_request(submit_queued(args[0].string), false, agent);
        }
        case Verb::queue_drop:
            if (auto dropped = host_->drop(args[0].string); !dropped) return fail(dropped.error());
            return ok();
        case Verb::documents:
        case Verb::find:
        case Verb::ask: {
            Active documents;
            documents.documents = true;
            return at_request(submit_documents(command.verb, args, settings_), false, documents);
        }
        case Verb::chat:
            if (crc_) return fail(Error::make(Code::not_allowed, "data mode carries no checks; AT#CRC=0 first"));
            mode_ = Mode::chat;
            size_ = 0;
            pluses_ = 0;
            last_cr_ = true;
            return final("CONNECT", 1);
        case Verb::context:
            if (form == write) {
                if (has) forget();
                return ok();
            }
            start_line(out_, command);
            info(out_.number(conversation_tokens_).put(',').number(host_->model().context));
            return ok();
        case Verb::plan: return start_list(List::plan);
        case Verb::status:
            stat_line(out_);
            info(out_);
            return ok();
        case Verb::events:
            if (form == read) return answer(event_mask_);
            event_mask_ = value(0);
            events_json_ = false;
            return ok();
        case Verb::hardware:
            if (auto may = trusted(); !may) return fail(may.error());
            return start_list(List::hardware);
        case Verb::gpio:
            if (auto may = trusted(); !may) return fail(may.error());
            if (form == read) return start_list(List::pins);
            if (auto driven = drive(*host_, args); !driven) return fail(driven.error());
            return ok();
        case Verb::queue_show:
        case Verb::document_add:
        case Verb::document_remove:
        case Verb::discover:
        case Verb::cancel: return;  // no AT name leads here
    }
}

// What runs in the foreground: kind says how it is told.
void Session::at_request(const Result<int>& handle, bool stream, Active kind) {
    if (!handle) return fail(handle.error());
    Active& a = foreground();
    a = kind;
    a.handle = handle.value();
    a.stream = stream;
    sent_ = acked_ = 0;
    window_tries_ = 0;
}

void Session::at_generate(std::span<const Arg> args) {
    Settings settings = settings_;
    if (args.size() > 1 && args[1].type == Arg::number) settings.max = static_cast<std::int64_t>(args[1].value);
    Active kind;
    kind.doubt = static_cast<float>(settings.doubt);
    at_request(submit_prompt(args, settings, true), true, kind);
}

void Session::at_classify(std::span<const Arg> args) {
    // A label is told in one line or not at all.
    const auto width = static_cast<std::size_t>(width_ - 28);
    for (std::string_view rest = args[1].string; !rest.empty();) {
        const std::string_view label = rest.substr(0, rest.find('|'));
        if (fit_at(label, width) < label.size() && label.size() <= LabelSet::label_bytes)
            return fail(
                Error::make(Code::text_too_long,
                            "label \"%.*s\" does not fit a line of %d bytes; AT#W sets what the client can take",
                            static_cast<int>(label.size()), label.data(), width_));
        rest.remove_prefix(std::min(rest.size(), label.size() + 1));
    }
    Active labels;
    labels.labels = true;
    at_request(submit_labels(args, settings_, 1), false, labels);
}

void Session::pump_at(Active& a) {
    const auto width = static_cast<std::size_t>(width_);
    for (;;) {
        const View v = host_->view(a.handle);
        if (v.place != a.place) {
            a.place = v.place;
            if (v.place > 0 && room() >= reserve) {
                out_.clear();
                info(out_.put("#Q: ").number(v.place));
            }
        }
        if (a.provisional && v.provisional.size() > a.shown) {
            if (room() < width + reserve) return;
            out_.clear();
            const std::size_t n = fit_at(v.provisional.substr(a.shown), width - 16);
            info(out_.put("#PROV: ").at_string(v.provisional.substr(a.shown, n)));
            a.shown += n;
            continue;
        }
        if (!v.text.empty()) {
            if (room() < width + reserve || (window_ > 0 && unacked() >= window_)) return;
            out_.clear();
            out_.put("#TOK: \"");
            const std::size_t n = fit_at(v.text, width - 24);
            out_.at_escaped(v.text.substr(0, n)).put('"');
            if (window_ > 0) {
                out_.put(',').number(sent_ + 1);
                hold(out_.view());
            }
            info(out_);
            host_->take(a.handle, n);
            continue;
        }
        if (v.state != View::finished || room() < reserve || (window_ > 0 && unacked() > 0)) return;
        closing_size_ = 0;
        closing_now_ = window_ > 0;
        list_active_ = &a;
        return start_list(List::result);
    }
}

// Numbers of a vector, from which on they are, as bytes or as they are. The bytes of all lines are one text of base64.
void Session::at_vector(const Outcome& o, bool bytes, std::size_t line) {
    const std::size_t most = numbers_a_line(static_cast<std::size_t>(width_), bytes), first = line * most;
    const auto part = o.vectors.subspan(first, std::min(most, o.vectors.size() - first));
    out_.put("#VEC: ").number(static_cast<long long>(first)).put(',');
    if (bytes) {
        std::int8_t q[max_width];
        out_.put('"').base64({q, quantize(part, scale_of(o.vectors), q)}).put('"');
    } else {
        for (std::size_t i = 0; i < part.size(); i++)
            (i > 0 ? out_.put(',') : out_).real(static_cast<double>(part[i]), 7);
    }
    info(out_);
}

// What ends an answer, a line at a time: labels (the best one with its margin), calls, checks, places, the result.
void Session::at_result_step() {
    Active& a = *list_active_;
    const Outcome& o = *host_->view(a.handle).outcome;
    const auto width = static_cast<std::size_t>(width_);
    auto at = static_cast<std::size_t>(list_at_ - 1);
    if (a.documents && at_documents_step()) return;
    if (!o.failed && a.embed && at * numbers_a_line(width, a.bytes) < o.vectors.size())
        return at_vector(o, a.bytes, at);
    if (!o.failed && at < o.labels.size()) {
        const LabelScore& l = o.labels[at];
        out_.put("#CLS: ").at_string(l.label.substr(0, fit_at(l.label, width - 28)));
        out_.put(',').real(static_cast<double>(l.probability), 4);
        if (at == 0) out_.put(',').real(static_cast<double>(o.margin), 4);
        return info(out_);
    }
    at -= o.labels.size();
    if (!o.failed && at < o.calls.size()) {
        const CallResult& c = o.calls[at];
        out_.put("#CALL: ").at_string(c.name).put(',').number(!c.failed).put(',');
        out_.at_string(c.arguments.substr(0, fit_at(c.arguments, width / 2)));
        const std::size_t left = width - std::min(width, out_.size() + 10);
        if (const std::size_t n = fit_at(c.result, left); n > 0) out_.put(',').at_string(c.result.substr(0, n));
        return info(out_);
    }
    at -= o.calls.size();
    if (!o.failed && at < o.steps.size()) {
        const StepResult& s = o.steps[at];
        out_.put("#STEP: ").at_string(s.name).put(',').at_string(s.verdict).put(',');
        out_.real(static_cast<double>(s.confidence), 4).put(',').number(s.ms);
        const std::size_t left = width - std::min(width, out_.size() + 10);
        if (const std::size_t n = fit_at(s.answer, left); n > 0) out_.put(',').at_string(s.answer.substr(0, n));
        return info(out_);
    }
    at -= o.steps.size();
    if (!o.failed && at < o.checks.size()) {
        const CheckResult& c = o.checks[at];
        out_.put("#CHK: ").at_string(c.name.substr(0, fit_at(c.name, width - 20))).put(',').at_string(c.verdict);
        const std::size_t left = width - std::min(width, out_.size() + 10);
        if (const std::size_t n = fit_at(c.why, left); n > 0) out_.put(',').at_string(c.why.substr(0, n));
        return info(out_);
    }
    at -= o.checks.size();
    if (!o.failed && a.agent && o.away != nullptr) {
        if (at == 0) return at_away(*o.away, o.route);
        at--;
    }
    if (!o.failed && a.spans && at < o.spans.size()) {
        const ValueSpan& s = o.spans[at];
        if (fit_at(s.at, width - 36) < s.at.size()) return;
        out_.put("#SPAN: ").at_string(s.at);
        if (s.begin >= 0) out_.put(',').number(s.begin).put(',').number(s.end);
        return info(out_);
    }
    at_end(a);
}

void Session::at_end(Active& a) {
    const Outcome outcome = *host_->view(a.handle).outcome;
    const bool labels = a.labels, agent = a.agent, spans = a.spans, doubtful = a.doubtful(outcome);
    if (a.embed && !outcome.failed) {
        const TextRead& text = outcome.texts[0];
        out_.put("#EMB: ").number(static_cast<long long>(outcome.vectors.size())).put(',').number(text.tokens);
        out_.put(',').number(text.cut).put(',');
        if (a.bytes) out_.real(static_cast<double>(scale_of(outcome.vectors)), 9);
        out_.put(',').number(outcome.total_ms);
        info(out_);
    }
    const bool told = labels || a.embed || a.documents;
    const std::uint32_t lines = sent_, acked = acked_;
    release(a);
    sent_ = lines, acked_ = acked;  // a NAK may still ask for them
    end_list();
    if (outcome.failed) {
        fail(outcome.error);
    } else if (told) {
        ok();
    } else {
        if (doubtful) info(out_.put("#DOUBT: ").real(static_cast<double>(outcome.probability), 4));
        if (agent) {
            out_.put("#RUN: ").at_string(outcome.verdict).put(',').real(static_cast<double>(outcome.confidence), 4);
            out_.put(',').number(outcome.calibrated).put(',').at_string(outcome.route).put(',');
        } else {
            out_.put(spans ? "#EXT: " : "#GEN: ");
        }
        out_.at_string(outcome.finish).put(',').number(outcome.prompt_tokens).put(',').number(outcome.tokens);
        out_.put(',').number(outcome.first_ms).put(',').number(outcome.total_ms);
        if (window_ > 0) out_.put(',').number(sent_);
        info(out_);
        ok();
    }
    if (closing_now_ && closing_size_ > sizeof closing_) closing_size_ = 0;  // it cannot be said again in part
    closing_now_ = false;
}

// Of AT#AGENT.
void Session::agent_line(Line& line, const AgentInfo& agent) {
    const auto width = static_cast<std::size_t>(width_);
    line.put("#AGENT: ").at_string(agent.name).put(',');
    if (agent.error.empty())
        line.at_string(agent.answer).put(',').number(agent.calibrated).put(',').number(agent.answers);
    else
        line.put("\"bad\",0,0");
    line.put(',').real(agent.drift, 3).put(',');
    const std::string_view text = agent.error.empty() ? agent.description : agent.error;
    line.at_string(text.substr(0, fit_at(text, width - std::min(width, line.size() + 10))));
}

// ---- window: numbered #TOK lines, go back n. The number lets the receiver drop what it already has.

void Session::hold(std::string_view text) {
    Held& h = held_[sent_ % (max_window + 2)];
    h.size = static_cast<std::uint16_t>(std::min(text.size(), sizeof h.text));
    std::memcpy(h.text, text.data(), h.size);
    if (unacked() == 0) window_since_ = now_, window_tries_ = 0;
    sent_++;
}

void Session::acknowledge() {
    if (window_ == 0 || unacked() == 0) return;
    acked_++;
    window_since_ = now_;
    window_tries_ = 0;
}

// NAK or no ACK in time: everything unacknowledged again, and the line before, whose ACK may have been noise.
void Session::resend() {
    window_since_ = now_;
    if (sent_ == 0 && closing_size_ == 0) return;
    if (acked_ > 0 && unacked() <= max_window) acked_--;
    std::size_t need = closing_size_ + 64;
    for (std::uint32_t i = acked_; i < sent_; i++) need += held_[i % (max_window + 2)].size + 16u;
    if (room() < need) return;  // what is already on its way comes first; the client asks again
    for (std::uint32_t i = acked_; i < sent_; i++) {
        const Held& h = held_[i % (max_window + 2)];
        info(std::string_view{h.text, h.size});
    }
    if (foreground().handle >= 0) return;
    acked_ = sent_;  // the answer is complete: nothing waits for these any more
    push({closing_, closing_size_});
}

// ---- data mode

void Session::pump_chat(Active& a) {
    for (;;) {
        const View v = host_->view(a.handle);
        if (!v.text.empty()) {
            if (room() < reserve + 64) return;
            std::size_t n = std::min<std::size_t>(v.text.size(), 32);
            while (n < v.text.size() && n > 0 && (v.text[n] & 0xC0) == 0x80) n--;
            const std::string_view text = v.text.substr(0, n);
            for (const char c : text) c == '\n' ? push("\r\n") : push({&c, 1});
            remember(text);
            host_->take(a.handle, n);
            continue;
        }
        if (v.state != View::finished || room() < reserve) return;
        const Outcome outcome = *v.outcome;
        release(a);
        turn_done(!outcome.failed);
        if (outcome.failed) {
            out_.clear();
            push(out_.put("(error ")
                     .number(static_cast<int>(outcome.error.code))
                     .put(": ")
                     .put(outcome.error.text)
                     .put(')')
                     .view());
        } else {
            conversation_tokens_ = outcome.prompt_tokens + outcome.tokens;
        }
        return push("\r\n");
    }
}

}  // namespace slmd::wire
