#include "wire/session.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "base/bytes.h"

namespace slmd::wire {
namespace {

constexpr char ctrl_c = 0x03, ack = 0x06, backspace = 0x08, nak = 0x15, can = 0x18, ctrl_z = 0x1A, esc = 0x1B,
               del = 0x7F;
constexpr std::size_t input_reserve =
    1536;  // no input is taken with less room than this: the longest direct answer fits
constexpr std::size_t list_room = 1600;

bool cancels(char c) { return c == esc || c == ctrl_c || c == can; }

}  // namespace

void Session::open(const SessionOptions& options, Host& host) {
    options_ = options;
    host_ = &host;
    mode_ = Mode::command;
    now_ = last_byte_ = dropped_ = 0;
    size_ = head_ = used_ = closing_size_ = 0;
    swallow_ = pending_ = last_cr_ = smp_ = overflow_ = false;
    first_info_ = true;
    before_ = 0;
    sent_ = acked_ = 0;
    list_ = List::none;
    event_head_ = event_count_ = 0;
    event_at_ = 0;
    for (Active& a : actives_) a = {};
    forget();
    reset(false);
    echo_ = options.tty;
}

void Session::reset(bool factory) {
    for (Active& a : actives_)
        if (a.handle >= 0) {
            if (a.json) rpc_error(a.id_view(), Error::make(Code::aborted, "cancelled"));
            release(a);
        }
    echo_ = options_.tty, verbose_ = true, quiet_ = false, crc_ = false;
    errors_ = 1, window_ = 0, width_ = options_.tty ? 80 : max_width;
    event_mask_ = 0;
    events_json_ = false;
    settings_ = factory || options_.defaults == nullptr ? Settings{} : *options_.defaults;
}

void Session::close() {
    for (Active& a : actives_)
        if (a.handle >= 0) release(a);
    list_ = List::none;
}

void Session::greet() {
    out_.clear();
    info(out_.put("#READY: 1,").at_string(options_.identity.product).put(',').at_string(options_.identity.version));
    first_info_ = true;
}

void Session::stop() {
    const Error error = Error::make(Code::shutting_down, "slmd is stopping; ask again when it is back");
    list_ = List::none;
    for (Active& a : actives_) {
        if (a.handle < 0) continue;
        if (a.json)
            rpc_error(a.id_view(), error);
        else
            fail(error);
        release(a);
    }
}

void Session::notify(const Event& event, bool forced) {
    if (!forced && (event_mask_ & event.kind) == 0) return;
    if (event_count_ == max_events) {  // the newest count
        event_head_ = (event_head_ + 1) % max_events, event_count_--;
        event_at_ = 0;
        dropped_++;
    }
    events_[(event_head_ + event_count_++) % max_events] = event;
}

// Not between the first byte of a command and its final result, and not in data mode.
void Session::tell_events() {
    while (event_count_ > 0 && room() >= input_reserve + list_room) {
        const Event& e = events_[event_head_];
        out_.clear();
        const std::string_view text = e.text;
        if (events_json_) {
            out_.put("{\"jsonrpc\":\"2.0\",\"method\":\"evt\",\"params\":{\"name\":").json_string(e.name);
            if (e.subject[0] != 0) out_.put(",\"subject\":").json_string(e.subject);
            if (e.text[0] != 0)
                out_.put(",\"text\":").json_string(text);
            else
                out_.put(",\"value\":").real(e.value, 3);
            if (e.number >= 0) out_.put(",\"threads\":").number(e.number);
            json_crc_ = 0;
            rpc_piece(out_.put('}'));
            rpc_end();
        } else if (mode_ != Mode::command || size_ > 0 || swallow_ || foreground().handle >= 0) {
            return;
        } else if (e.text[0] != 0) {
            const std::size_t n = fit_at(text.substr(event_at_), static_cast<std::size_t>(width_ - 42));
            const bool more = event_at_ + n < text.size();
            info(out_.put('#').put(e.name).put(": ").at_string(e.subject).put(',').number(more).put(',').at_string(
                text.substr(event_at_, n)));
            event_at_ += n;
            if (more) continue;
        } else {
            out_.put("#EVT: ").at_string(e.name).put(',');
            if (e.subject[0] != 0) out_.at_string(e.subject).put(',');
            out_.real(e.value, 3);
            if (e.number >= 0) out_.put(',').number(e.number);
            info(out_);
        }
        first_info_ = true;
        event_at_ = 0;
        event_head_ = (event_head_ + 1) % max_events, event_count_--;
    }
}

bool Session::active() const {
    return std::any_of(std::begin(actives_), std::end(actives_), [](const Active& a) { return a.handle >= 0; });
}

bool Session::wants_time() const {
    return size_ > 0 || swallow_ || mode_ != Mode::command || (window_ > 0 && unacked() > 0) || pending_;
}

// ---- output

void Session::push(std::string_view text) {
    for (const char c : text) {
        if (used_ == ring_bytes) return;  // callers looked at room() before
        ring_[(head_ + used_++) % ring_bytes] = c;
        if (!closing_now_) continue;
        if (closing_size_ < sizeof closing_) closing_[closing_size_] = c;
        closing_size_++;
    }
}

std::string_view Session::output() const { return {ring_ + head_, std::min(used_, ring_bytes - head_)}; }

void Session::consume(std::size_t bytes) {
    bytes = std::min(bytes, used_);
    head_ = (head_ + bytes) % ring_bytes;
    used_ -= bytes;
}

void Session::info(std::string_view text) {
    if (first_info_) push("\r\n");
    first_info_ = false;
    push(text);
    if (crc_) {
        Line check;
        push(check.put('*').hex4(crc16_xmodem(text)).view());
    }
    push("\r\n");
}

void Session::info(const Line& line) { info(line.view()); }

void Session::final(std::string_view words, int number) {
    first_info_ = true;
    if (quiet_) return;
    char digits[8];
    if (!verbose_ && number >= 0) {
        const int n = std::snprintf(digits, sizeof digits, "%d", number);
        words = {digits, static_cast<std::size_t>(n)};
    }
    if (verbose_) push("\r\n");
    push(words);
    if (crc_) {
        Line check;
        push(check.put('*').hex4(crc16_xmodem(words)).view());
    }
    push(verbose_ ? "\r\n" : "\r");
}

void Session::fail(const Error& error) {
    if (errors_ == 0) return final("ERROR", 4);
    Line line;
    line.put("+CME ERROR: ");
    if (errors_ == 1)
        line.number(static_cast<int>(error.code));
    else {
        line.put(code_text(error.code));
        if (error.text[0] != 0 && std::string_view(error.text) != code_text(error.code)) line.put(": ").put(error.text);
    }
    final(line.view(), -1);
}

// ---- input

std::size_t Session::feed(std::string_view bytes, std::uint64_t now) {
    std::size_t i = 0;
    now_ = now;
    while (i < bytes.size() && list_ == List::none && room() >= input_reserve) byte(bytes[i++], now);
    return i;
}

void Session::byte(char c, std::uint64_t now) {
    const std::uint64_t before = last_byte_;
    last_byte_ = now;
    switch (mode_) {
        case Mode::command: return command_byte(c);
        case Mode::prompt: return prompt_byte(c);
        case Mode::chat:
            // +++ counts only after a second of silence, and ends the mode after another (pump)
            if (c == '+' && size_ == 0 && (pluses_ > 0 || now - before >= guard_ms) && pluses_ < 3) {
                pluses_++;
                return;
            }
            for (; pluses_ > 0; pluses_--) chat_byte('+');
            return chat_byte(c);
    }
}

void Session::echo(std::string_view text) {
    if (echo_) push(text);
}

bool Session::erase_last() {
    if (size_ == 0) return false;
    while (--size_ > 0 && (options_.line[size_] & 0xC0) == 0x80) {
    }
    echo("\b \b");
    return true;
}

void Session::drop_line() {
    if (size_ > 0 || swallow_ || pending_) dropped_++;
    size_ = 0;
    swallow_ = pending_ = smp_ = false;
}

void Session::command_byte(char c) {
    const char before = before_;
    before_ = c;
    const bool busy = foreground().handle >= 0;
    // Zephyr SMP frames are recognised and refused as a whole.
    if (size_ == 0 && !swallow_ && !pending_ && ((before == ack && c == 0x09) || (before == 0x04 && c == 0x14))) {
        swallow_ = smp_ = true;
        return;
    }
    if (cancels(c)) {
        if (size_ > 0 && !busy) echo("\r\n");
        drop_line();
        cancel_foreground(true);
        return;
    }
    if (c == ack) return acknowledge();
    if (c == nak) {
        if (size_ > 0 || swallow_) {
            if (!busy) echo("\r\n");
            drop_line();
        }
        if (window_ > 0) resend();
        return;
    }
    if (pending_) {  // one line may wait for the running command; the rest is lost, and counted at the line's end
        if (c == '\r') dropped_++;
        return;
    }
    if (c == '\r' || c == '\n') {
        if (swallow_) {
            const bool smp = smp_;
            swallow_ = smp_ = false;
            size_ = 0;
            if (c == '\r') last_cr_ = true;
            dropped_++;
            if (smp)
                fail(Error::make(Code::not_supported, "SMP frames are not served"));
            else
                fail(Error::make(Code::line_too_long, "a line here is at most %zu bytes",
                                 options_.tty ? tty_line_bytes : options_.line.size()));
            return;
        }
        if (size_ == 0) return;
        if (!busy) echo("\r");
        return line_end();
    }
    if (swallow_) return;
    if (c == backspace || c == del) {
        if (!busy)
            erase_last();
        else if (size_ > 0)
            size_--;
        return;
    }
    if (size_ >= (options_.tty ? std::min(tty_line_bytes, options_.line.size()) : options_.line.size())) {
        swallow_ = true;
        return;
    }
    options_.line[size_++] = c;
    if (!busy && (static_cast<unsigned char>(c) >= 0x20 || c == '\t')) echo({&c, 1});
}

void Session::line_end() {
    std::size_t begin = 0;
    while (begin < size_ && options_.line[begin] == ' ') begin++;
    const bool json = begin < size_ && options_.line[begin] == '{';
    if (foreground().handle >= 0 && !json) {
        pending_ = true;
        return;
    }
    execute();
}

// The check at the end of a line, when it has one: `*HHHH`, upper case.
std::string_view Session::take_check(std::string_view line, bool& present, bool& good) const {
    present = good = false;
    if (line.size() < 5 || line[line.size() - 5] != '*') return line;
    unsigned value = 0;
    for (const char c : line.substr(line.size() - 4)) {
        const int d = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (d < 0) return line;
        value = value << 4 | static_cast<unsigned>(d);
    }
    line.remove_suffix(5);
    present = true;
    good = crc16_xmodem(line) == value;
    return line;
}

void Session::execute() {
    pending_ = false;
    std::span<char> line = options_.line.first(size_);
    size_ = 0;
    while (!line.empty() && (line.back() == ' ' || line.back() == '\t')) line = line.first(line.size() - 1);
    while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line = line.subspan(1);
    if (line.empty()) return;
    const std::string_view text{line.data(), line.size()};
    const Error damaged = Error::make(Code::check_failed, "the check *HHHH is missing or wrong; send the line again");

    if (text.front() == '{') {
        bool present, good;
        const std::string_view body = take_check(text, present, good);
        if ((crc_ && !present) || (present && !good)) {
            rpc_error("null", damaged);
            return;
        }
        closing_size_ = 0;
        return rpc_line(line.first(body.size()));
    }
    if (!crc_ && (text == "help" || text == "?" || text == "HELP")) return start_list(List::help);

    // Hunt: garbage before AT is dropped. With a check, it says which AT is the right one.
    bool seen = false, damage = false;
    for (std::size_t i = 0; i + 1 < text.size(); i++) {
        const bool upper = text[i] == 'A' && text[i + 1] == 'T', lower = text[i] == 'a' && text[i + 1] == 't';
        if (!upper && !lower) continue;
        bool present, good;
        const std::string_view body = take_check(text.substr(i), present, good);
        const std::string_view rest = body.substr(2);
        if (!rest.empty() && std::string_view("+#&EVQIZOevqizo").find(rest[0]) == std::string_view::npos) continue;
        seen = true;
        const bool exempt = !present && (rest.empty() || rest == "#CRC=0" || rest == "#crc=0");
        if ((present && !good) || (crc_ && !present && !exempt)) {
            damage = true;
            continue;
        }
        closing_size_ = 0;
        return at_line(line.subspan(i + 2, rest.size()));
    }
    if (seen && damage) return fail(damaged);
    dropped_++;
}

void Session::prompt_byte(char c) {
    if (cancels(c)) {
        drop_line();
        mode_ = Mode::command;
        return fail(Error::make(Code::aborted, "the prompt was dropped"));
    }
    if (c == ctrl_z) {
        const std::string_view prompt{options_.line.data(), size_};
        mode_ = Mode::command;
        size_ = 0;
        if (overflow_) {
            overflow_ = false;
            return fail(Error::make(Code::text_too_long, "a prompt is at most %zu bytes here", options_.line.size()));
        }
        if (prompt.empty()) return fail(Error::make(Code::incorrect_parameters, "the prompt is empty"));
        if (!utf8_valid(prompt)) return fail(Error::make(Code::invalid_characters, "the prompt is not UTF-8"));
        Arg args[2] = {{Arg::text, prompt, 0}, {}};
        if (prompt_max_ > 0) args[1] = {Arg::number, {}, static_cast<double>(prompt_max_)};
        return at_generate(args);
    }
    const bool after_cr = last_cr_;
    last_cr_ = c == '\r';
    if (c == '\n' && after_cr) return;
    if (c == backspace || c == del) {
        if (size_ > 0 && options_.line[size_ - 1] != '\n') erase_last();
        return;
    }
    if (c == '\r' || c == '\n') {
        echo("\r\n> ");
        c = '\n';
    } else if (static_cast<unsigned char>(c) < 0x20 && c != '\t') {
        return;
    } else {
        echo({&c, 1});
    }
    if (size_ >= options_.line.size())
        overflow_ = true;
    else
        options_.line[size_++] = c;
}

void Session::chat_byte(char c) {
    const bool busy = foreground().handle >= 0;
    const bool after_cr = last_cr_;
    last_cr_ = c == '\r';
    if (c == ctrl_z) {
        cancel_foreground(false);
        return chat_end();
    }
    if (cancels(c)) {
        if (busy) cancel_foreground(false);
        size_ = 0;
        return push("\r\n");
    }
    if (pending_ || (c == '\n' && after_cr)) return;
    if (c == backspace || c == del) {
        erase_last();
        return;
    }
    if (c == '\r' || c == '\n') {
        if (!busy) echo("\r\n");
        if (size_ == 0) return;
        if (busy)
            pending_ = true;
        else
            chat_turn();
        return;
    }
    if (static_cast<unsigned char>(c) < 0x20 && c != '\t') return;
    if (size_ >= options_.line.size()) return;
    options_.line[size_++] = c;
    if (!busy) echo({&c, 1});
}

void Session::chat_turn() {
    pending_ = false;
    const std::string_view text{options_.line.data(), size_};
    size_ = 0;
    if (!utf8_valid(text)) return push("(not UTF-8)\r\n");
    const auto handle = submit_turn(text, settings_, true);
    if (!handle) {
        out_.clear();
        push(out_.put("(error ")
                 .number(static_cast<int>(handle.error().code))
                 .put(": ")
                 .put(handle.error().text)
                 .put(")\r\n")
                 .view());
        return;
    }
    Active& a = foreground();
    a = {};
    a.handle = handle.value();
    a.stream = a.chat = true;
}

void Session::chat_end() {
    mode_ = Mode::command;
    size_ = 0;
    pending_ = false;
    pluses_ = 0;
    ok();
}

void Session::cancel_foreground(bool report) {
    Active& a = foreground();
    if (a.handle < 0) return;
    if (a.chat) turn_done(true);
    release(a);
    if (report) fail(Error::make(Code::aborted, "command aborted by user"));
}

void Session::release(Active& a) {
    host_->release(a.handle);
    a.handle = -1;
    if (&a == &foreground()) sent_ = acked_ = 0;
}

// ---- time and requests

void Session::pump(std::uint64_t now) {
    now_ = now;
    if (mode_ == Mode::command && (size_ > 0 || swallow_) && !pending_ && now - last_byte_ >= half_line_ms) {
        if (echo_ && foreground().handle < 0) push("\r\n");
        drop_line();
    }
    if (mode_ == Mode::prompt && now - last_byte_ >= prompt_ms) {
        drop_line();
        mode_ = Mode::command;
        fail(Error::make(Code::aborted, "no byte for 5 minutes: the prompt was dropped"));
    }
    if (mode_ == Mode::chat && pluses_ == 3 && now - last_byte_ >= guard_ms) {
        cancel_foreground(false);
        chat_end();
    }
    if (window_ > 0 && unacked() > 0 && now - window_since_ >= window_ms) {
        if (++window_tries_ > 3) {
            release(foreground());
            fail(Error::make(Code::client_too_slow, "no ACK for %d x 2 s", 3));
        } else {
            resend();
        }
    }
    while (list_ != List::none && room() >= list_room) list_step();
    for (Active& a : actives_) {
        if (list_ != List::none) return;
        if (a.handle < 0) continue;
        if (a.json)
            pump_rpc(a);
        else if (a.chat)
            pump_chat(a);
        else
            pump_at(a);
    }
    if (pending_ && foreground().handle < 0 && room() >= input_reserve && list_ == List::none)
        mode_ == Mode::chat ? chat_turn() : execute();
    while (list_ != List::none && room() >= list_room) list_step();
    if (list_ == List::none && !pending_) tell_events();
}

// args: prompt, max, schema, regex, source.
Result<int> Session::submit_prompt(std::span<const Arg> args, const Settings& settings, bool stream) {
    const Turn turn{false, args[0].string};
    Request request{{&turn, 1}, &settings, stream};
    TRY(bind(request, args.subspan(std::min<std::size_t>(args.size(), 2))));
    return host_->submit(request);
}

// bound: schema, regex, source, tools, tool_choice.
Result<void> Session::bind(Request& request, std::span<const Arg> bound) {
    if (!bound.empty()) request.schema = bound[0].string;
    if (bound.size() > 1) request.regex = bound[1].string;
    if (bound.size() > 2) request.source = bound[2].string;
    if (bound.size() > 3) request.tools = bound[3].string;
    if (bound.size() > 4) request.tool_choice = bound[4].string;
    if (!request.schema.empty() + !request.regex.empty() + !request.tools.empty() > 1)
        return Error::make(Code::incorrect_parameters, "either a schema or a regex or tools");
    if (request.tools.empty() && !request.tool_choice.empty())
        return Error::make(Code::incorrect_parameters, "tool_choice without tools");
    return {};
}

namespace {

// As AT has several: with | between them. Stops at the first that is too many.
template <class F>
Result<void> split(std::string_view list, F&& each) {
    for (std::size_t bar = 0; bar != std::string_view::npos;) {
        bar = list.find('|');
        TRY(each(list.substr(0, bar)));
        list.remove_prefix(bar == std::string_view::npos ? list.size() : bar + 1);
    }
    return {};
}

// A label is said back as it is: short, printable, once.
Result<void> check_labels(std::span<const std::string_view> labels) {
    for (std::size_t i = 0; i < labels.size(); i++) {
        const std::string_view l = labels[i];
        const int shown = static_cast<int>(fit_json(l, 64));
        if (l.empty()) return Error::make(Code::incorrect_parameters, "label %zu is empty", i + 1);
        if (l.size() > LabelSet::label_bytes)
            return Error::make(Code::text_too_long, "label %zu, \"%.*s...\", is %zu bytes: at most %zu", i + 1, shown,
                               l.data(), l.size(), LabelSet::label_bytes);
        if (std::any_of(l.begin(), l.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }))
            return Error::make(Code::invalid_characters, "label %zu holds a control character", i + 1);
        for (std::size_t k = 0; k < i; k++)
            if (labels[k] == l)
                return Error::make(Code::incorrect_parameters, "labels %zu and %zu are both \"%.*s\"", k + 1, i + 1,
                                   shown, l.data());
    }
    return {};
}

}  // namespace

// args: as in the table.
Result<int> Session::submit_labels(std::span<const Arg> args, Settings settings, int top) {
    enum { prompt, labels, none, top_of, priors, raw, deadline_ms, adapter };
    const auto given = [&](std::size_t i) { return i < args.size() && args[i].type != Arg::absent; };
    std::string_view texts[LabelSet::max_labels];
    float weights[LabelSet::max_labels];
    std::size_t count = 0, weight_count = 0;
    const auto add = [&](std::string_view label) -> Result<void> {
        if (count == LabelSet::max_labels)
            return Error::make(Code::incorrect_parameters, "labels: 2 to %zu", LabelSet::max_labels);
        texts[count++] = label;
        return {};
    };
    const auto add_weight = [&](std::string_view number) -> Result<void> {
        char copy[32];
        const std::size_t n = std::min(number.size(), sizeof copy - 1);
        std::memcpy(copy, number.data(), n);
        copy[n] = 0;
        char* end;
        const float weight = std::strtof(copy, &end);
        if (n == 0 || *end != 0 || n != number.size() || !(weight > 0) || !std::isfinite(weight))
            return Error::make(Code::incorrect_parameters, "prior %zu is a number above 0", weight_count + 1);
        if (weight_count == LabelSet::max_labels)
            return Error::make(Code::incorrect_parameters, "priors: one for each label");
        weights[weight_count++] = weight;
        return {};
    };
    const auto each = [&](const Arg& list, JsonType type, const char* what, auto&& take) -> Result<void> {
        if (list.type == Arg::text) return split(list.string, take);
        const JsonLine& json = *options_.reader;
        const JsonNode& array = json.node(static_cast<int>(list.value));
        for (int k = json.first(array); k < array.next; k = json.node(k).next) {
            if (json.node(k).type != type) return Error::make(Code::incorrect_parameters, "%s", what);
            TRY(take(json.node(k).text));
        }
        return {};
    };
    TRY(each(args[labels], JsonType::string, "labels is an array of texts", add));
    if (given(none) && args[none].value != 0) TRY(add("none"));
    if (count < 2) return Error::make(Code::incorrect_parameters, "labels: 2 to %zu", LabelSet::max_labels);
    TRY(check_labels({texts, count}));
    if (given(priors)) {
        TRY(each(args[priors], JsonType::number, "priors is an array of numbers", add_weight));
        if (weight_count != count)
            return Error::make(Code::incorrect_parameters, "%zu priors for %zu labels: one for each", weight_count,
                               count);
    }
    if (given(raw)) settings.raw = args[raw].value != 0;
    if (given(deadline_ms)) settings.deadline_ms = static_cast<std::int64_t>(args[deadline_ms].value);
    if (given(adapter)) TRY(assign(settings, *find_setting("adapter"), args.subspan(adapter, 1)));
    if (given(top_of)) top = static_cast<int>(args[top_of].value);
    const Turn turn{false, args[prompt].string};
    const LabelSet set{{texts, count}, {weights, weight_count}, std::min(top, static_cast<int>(count))};
    return host_->submit({{&turn, 1}, &settings, false, &set});
}

Result<int> Session::submit_turn(std::string_view text, const Settings& settings, bool stream,
                                 std::span<const Arg> bound) {
    const std::uint32_t begin = turn_count_ == 0 ? 0 : turns_[turn_count_ - 1].end;
    if (conversation_full_ || turn_count_ + 2 > max_turns || begin + text.size() > conversation_bytes)
        return Error::make(Code::context_full,
                           "the conversation is full; AT#CTX=0 or ctx with forget 0 begins a new one");
    std::memcpy(conversation_ + begin, text.data(), text.size());
    turns_[turn_count_++] = {false, begin, begin + static_cast<std::uint32_t>(text.size())};
    Turn turns[max_turns];
    for (int i = 0; i < turn_count_; i++)
        turns[i] = {turns_[i].assistant, {conversation_ + turns_[i].begin, turns_[i].end - turns_[i].begin}};
    Request request{{turns, static_cast<std::size_t>(turn_count_)}, &settings, stream};
    Result<int> handle = 0;
    if (const auto good = bind(request, bound); !good)
        handle = good.error();
    else
        handle = host_->submit(request);
    if (!handle) {
        turn_count_--;
        return handle;
    }
    const std::uint32_t end = turns_[turn_count_ - 1].end;
    turns_[turn_count_++] = {true, end, end};  // the answer, as it comes
    return handle;
}

// args: as in the table. bytes: what is told without a format, and then what was asked for.
Result<int> Session::submit_embed(std::span<const Arg> args, Settings settings, bool& bytes) {
    enum { text, format, several, deadline_ms };
    const auto given = [&](std::size_t i) { return i < args.size() && args[i].type != Arg::absent; };
    if (given(format)) {
        bytes = args[format].string == "i8";
        if (!bytes && args[format].string != "f32")
            return Error::make(Code::incorrect_parameters, "format is \"i8\" or \"f32\"");
    }
    if (given(deadline_ms)) settings.deadline_ms = static_cast<std::int64_t>(args[deadline_ms].value);
    if (given(text) == given(several))
        return Error::make(Code::incorrect_parameters, "%s",
                           given(text) ? "either text or texts" : "text is missing: what to embed");
    Turn turns[max_turns];
    std::size_t count = 0;
    if (given(text)) turns[count++] = {false, args[text].string};
    if (given(several) && args[several].type != Arg::array)
        return Error::make(Code::incorrect_parameters, "texts is an array, of JSON; here one text at a time");
    if (given(several)) {
        const JsonLine& json = *options_.reader;
        const JsonNode& array = json.node(static_cast<int>(args[several].value));
        for (int k = json.first(array); k < array.next; k = json.node(k).next) {
            if (json.node(k).type != JsonType::string || count == std::size(turns))
                return Error::make(Code::incorrect_parameters, "texts is an array of 1 to %d texts", max_turns);
            turns[count++] = {false, json.node(k).text};
        }
        if (count == 0) return Error::make(Code::incorrect_parameters, "texts is an array of 1 to %d texts", max_turns);
    }
    Request request{{turns, count}, &settings, false};
    request.embed = true;
    return host_->submit(request);
}

// args: prompt, schema, max, source.
Result<int> Session::submit_extract(std::span<const Arg> args, Settings settings, bool stream) {
    if (args.size() > 2 && args[2].type == Arg::number) settings.max = static_cast<std::int64_t>(args[2].value);
    const Turn turn{false, args[0].string};
    Request request{{&turn, 1}, &settings, stream};
    request.schema = args[1].string;
    if (args.size() > 3) request.source = args[3].string;
    request.spans = true;
    return host_->submit(request);
}

// args: agent, input, deadline_ms, adapter.
Result<int> Session::submit_agent(std::span<const Arg> args, Settings settings) {
    const bool timed = args.size() > 2 && args[2].type == Arg::number;
    settings.deadline_ms = timed ? static_cast<std::int64_t>(args[2].value) : -1;
    const Turn turn{false, args[1].string};
    Request request{{&turn, 1}, &settings, false};
    request.agent = args[0].string;
    request.fields = args[1].value != 0;
    request.trusted = options_.trusted;
    if (args.size() > 3 && args[3].type == Arg::text) request.adapter = args[3].string;
    if (args.size() > 4 && args[4].type == Arg::text) {
        if (args[4].string != "local" && args[4].string != "remote")
            return Error::make(Code::incorrect_parameters,
                               "route is \"local\" or \"remote\"; without it the agent's file decides");
        request.wish = args[4].string == "local" ? Wish::local : Wish::remote;
    }
    request.dry_run = args.size() > 6 && args[6].type == Arg::number && args[6].value != 0;
    return host_->submit(request);
}

Result<const AgentInfo*> Session::find_agent(std::string_view name) {
    for (const AgentInfo& a : host_->agents())
        if (a.name == name) return &a;
    return Error::make(Code::not_found, "no agent \"%.*s\"; AT#AGENT? and the method agent list them",
                       static_cast<int>(fit_json(name, 40)), name.data());
}

void Session::remember(std::string_view text) {
    auto& turn = turns_[turn_count_ - 1];
    const std::size_t n = std::min(text.size(), conversation_bytes - turn.end);
    std::memcpy(conversation_ + turn.end, text.data(), n);
    turn.end += static_cast<std::uint32_t>(n);
    if (n < text.size()) conversation_full_ = true;
}

// keep: the answer, perhaps cut short, stays in the conversation; otherwise the turn never was.
void Session::turn_done(bool keep) {
    if (turn_count_ < 2) return;
    if (!keep || turns_[turn_count_ - 1].begin == turns_[turn_count_ - 1].end) {
        turn_count_ -= 2;
        conversation_full_ = false;
    }
}

void Session::forget() {
    turn_count_ = 0;
    conversation_full_ = false;
    conversation_tokens_ = 0;
}

// ---- hardware

Result<void> Session::trusted() const {
    if (options_.trusted) return {};
    return Error::make(
        Code::not_permitted,
        "this port is not trusted with the hardware; trusted = true in its [[tty]] or [socket] does that");
}

Result<int> Session::drive(Host& host, std::span<const Arg> args) {
    if (args.size() < 2 || args[0].type != Arg::text || args[1].type != Arg::number)
        return Error::make(Code::incorrect_parameters, "name and value: which output, and 1 or 0");
    const bool timed = args.size() > 2 && args[2].type == Arg::number;
    TRY(host.drive(args[0].string, args[1].value != 0, timed ? static_cast<int>(args[2].value) : 0));
    return 0;
}

// ---- lists: replies longer than the ring, one piece at a time

void Session::start_list(List kind) {
    list_ = kind;
    list_at_ = list_sub_ = 0;
    while (list_ != List::none && room() >= list_room) list_step();
}

void Session::end_list() { list_ = List::none; }

void Session::list_step() {
    const auto table = commands();
    const auto at = static_cast<std::size_t>(list_at_++);
    out_.clear();
    switch (list_) {
        case List::names:
            if (at >= table.size()) return end_list(), ok();
            if (table[at].name != nullptr && table[at].name[0] != 0) info(out_.put(table[at].name));
            return;
        case List::help:
            if (at >= table.size()) {
                info("{\"jsonrpc\":\"2.0\",...} lines are answered too: rpc.discover");
                return end_list(), ok();
            }
            if (table[at].name != nullptr) help_line(out_, table[at]), info(out_);
            return;
        case List::help_one: {
            const Command& c = *list_command_;
            if (at == 0) return help_line(out_, c), info(out_);
            if (at <= c.params.size()) {
                const Param& p = c.params[at - 1];
                out_.put("  ").put(p.name).put(p.required ? ": " : " (optional): ").put(p.help);
                if (p.type == ParamType::integer || p.type == ParamType::real)
                    out_.put(", ").real(p.min).put(" to ").real(p.max);
                return info(out_);
            }
            info(out_.put("  example: ").put(c.example));
            return end_list(), ok();
        }
        case List::setting_values:
        case List::setting_ranges: {
            const auto settings = settings_table();
            if (at >= settings.size()) return end_list(), ok();
            const Setting& s = settings[at];
            out_.put("#SET: ").at_string(s.name).put(',');
            if (list_ == List::setting_values)
                show(out_, settings_, s, false);
            else if (s.type == SettingType::texts || s.type == SettingType::bias || s.type == SettingType::name)
                out_.put("\"text\"");
            else
                out_.put('(').real(s.min).put('-').real(s.max).put(')');
            return info(out_);
        }
        case List::plan: {
            const auto plan = host_->plan();
            std::uint64_t total = 0;
            for (const PlanItem& i : plan) total += i.bytes;
            const bool last = at >= plan.size();
            info(out_.put("#PLAN: ")
                     .at_string(last ? "total" : plan[at].name)
                     .put(',')
                     .number(static_cast<long long>(last ? total : plan[at].bytes)));
            if (last) end_list(), ok();
            return;
        }
        case List::hardware: {
            const auto items = host_->hardware();
            if (at >= items.size()) return end_list(), ok();
            const HardwareItem& i = items[at];
            out_.put("#HW: ").at_string(i.name);
            if (i.text != nullptr) out_.put(',').at_string(i.text);
            for (int v = 0; v < i.count; v++) out_.put(',').real(i.values[v], 3);
            return info(out_);
        }
        case List::pins: {
            const auto pins = host_->pins();
            if (at >= pins.size()) return end_list(), ok();
            out_.put("#GPIO: ").at_string(pins[at].name).put(',').at_string(pins[at].use);
            return info(pins[at].active < 0 ? out_.put(',') : out_.put(',').number(pins[at].active));
        }
        case List::rpc_hardware: {
            const auto items = host_->hardware();
            if (at == 0) rpc_open({list_id_, list_id_size_});
            if (at >= items.size()) {
                rpc_piece(out_.put(items.empty() ? "{}" : "}"));
                return rpc_end(), end_list();
            }
            const HardwareItem& i = items[at];
            out_.put(at == 0 ? '{' : ',').json_string(i.name).put(':');
            if (i.text != nullptr) {
                out_.json_string(i.text);
            } else {
                if (i.count != 1) out_.put('[');
                for (int v = 0; v < i.count; v++) (v > 0 ? out_.put(',') : out_).real(i.values[v], 3);
                if (i.count != 1) out_.put(']');
            }
            return rpc_piece(out_);
        }
        case List::rpc_pins: {
            const auto pins = host_->pins();
            if (at == 0) rpc_open({list_id_, list_id_size_}), rpc_piece(out_.put("{\"lines\":["));
            if (at >= pins.size()) {
                rpc_piece(out_.put("]}"));
                return rpc_end(), end_list();
            }
            if (at > 0) out_.put(',');
            out_.put("{\"name\":").json_string(pins[at].name).put(",\"use\":").json_string(pins[at].use);
            out_.put(",\"active\":").put(pins[at].active < 0 ? "null" : pins[at].active > 0 ? "true" : "false");
            return rpc_piece(out_.put('}'));
        }
        case List::rpc_plan: {
            const auto plan = host_->plan();
            std::uint64_t total = 0;
            for (const PlanItem& i : plan) total += i.bytes;
            if (at == 0)
                rpc_open({list_id_, list_id_size_}), rpc_piece(out_.put("{\"items\":["));
            else if (at <= plan.size()) {
                if (at > 1) out_.put(',');
                rpc_piece(out_.put("{\"name\":")
                              .json_string(plan[at - 1].name)
                              .put(",\"bytes\":")
                              .number(static_cast<long long>(plan[at - 1].bytes))
                              .put('}'));
            } else {
                rpc_piece(out_.put("],\"total\":").number(static_cast<long long>(total)).put('}'));
                rpc_end();
                end_list();
            }
            return;
        }
        case List::rpc_help: return rpc_help_step();
        case List::rpc_discover: return rpc_discover_step();
        case List::result: return at_result_step();
        case List::agents: {
            const auto agents = host_->agents();
            if (at >= agents.size()) return end_list(), ok();
            agent_line(out_, agents[at]);
            return info(out_);
        }
        case List::adapters: {
            const auto adapters = host_->adapters();
            if (at >= adapters.size()) return end_list(), ok();
            const AdapterInfo& a = adapters[at];
            out_.put("#ADAPTER: ").at_string(a.name).put(',').number(a.rank).put(',');
            out_.number(static_cast<long long>(a.bytes)).put(',');
            const std::string_view title = a.title;
            const auto width = static_cast<std::size_t>(width_);
            return info(out_.at_string(title.substr(0, fit_at(title, width - std::min(width, out_.size() + 10)))));
        }
        case List::rpc_adapters: {
            const auto adapters = host_->adapters();
            if (at == 0) rpc_open({list_id_, list_id_size_}), rpc_piece(out_.put("{\"adapters\":["));
            if (at >= adapters.size()) {
                rpc_piece(out_.put("]}"));
                return rpc_end(), end_list();
            }
            const AdapterInfo& a = adapters[at];
            if (at > 0) out_.put(',');
            out_.put("{\"name\":").json_string(a.name).put(",\"title\":").json_string(a.title).put(",\"rank\":");
            return rpc_piece(out_.number(a.rank).put(",\"bytes\":").number(static_cast<long long>(a.bytes)).put('}'));
        }
        case List::rpc_agents: {
            const auto agents = host_->agents();
            if (at == 0) rpc_open({list_id_, list_id_size_}), rpc_piece(out_.put("{\"agents\":["));
            if (at >= agents.size()) {
                rpc_piece(out_.put("]}"));
                return rpc_end(), end_list();
            }
            if (at > 0) out_.put(',');
            rpc_agent(out_, agents[at]);
            return rpc_piece(out_);
        }
        case List::queue: return at_queue_step();
        case List::budget: return at_budget_step();
        case List::rpc_queue: return rpc_queue_step();
        case List::rpc_budget: return rpc_budget_step();
        case List::rpc_result: return rpc_result_step();
        case List::none: return;
    }
}

}  // namespace slmd::wire
