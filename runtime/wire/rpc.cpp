// The JSON rendering: JSON-RPC 2.0, one object a line; $/cancelRequest as in LSP; rpc.discover as in OpenRPC 1.2.
#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "wire/session.h"

namespace slmd::wire {
namespace {

constexpr std::size_t reserve = 768, piece_text = 256;

int rpc_code(Code code) {
    switch (code) {
        case Code::not_supported: return -32601;
        case Code::incorrect_parameters: return -32602;
        case Code::line_too_long: return -32600;
        case Code::aborted: return -32800;
        case Code::unknown: return -32603;
        default: return static_cast<int>(code);
    }
}

bool is_of_documents(Verb verb) {
    return verb == Verb::documents || verb == Verb::document_add || verb == Verb::document_remove ||
           verb == Verb::find || verb == Verb::ask;
}

// It is answered when the engine, or who has the documents, has worked on it.
bool is_request(Verb verb) {
    return verb == Verb::generate || verb == Verb::chat || verb == Verb::classify || verb == Verb::extract ||
           verb == Verb::run || verb == Verb::embed || verb == Verb::queue_show || is_of_documents(verb);
}

// Numbers of a vector that are told at a time. Of bytes whole groups of base64.
constexpr std::size_t numbers_a_piece = 90, bytes_a_piece = 720;

// An id as it is written back; false when it is neither number, string nor null, or too long.
bool render_id(Line& line, const JsonNode* id) {
    line.clear();
    if (id == nullptr || id->type == JsonType::null)
        line.put("null");
    else if (id->type == JsonType::number)
        line.put(id->text);
    else if (id->type == JsonType::string)
        line.json_string(id->text);
    else
        return false;
    return line.size() <= 96;
}

void schema(Line& line, const char* name, const char* type, bool required, const char* help) {
    line.put("{\"name\":")
        .json_string(name)
        .put(",\"required\":")
        .put(required ? "true" : "false")
        .put(",\"description\":")
        .json_string(help);
    line.put(",\"schema\":{\"type\":").put(type);
}

}  // namespace

// ---- lines in pieces

void Session::rpc_open(std::string_view id) {
    json_crc_ = 0;
    Line line;
    rpc_piece(line.put("{\"jsonrpc\":\"2.0\",\"id\":").put(id).put(",\"result\":"));
}

void Session::rpc_piece(const Line& line) {
    json_crc_ = crc16_xmodem(line.view(), json_crc_);
    push(line.view());
    out_.clear();
}

// Closes the outer object and the line.
void Session::rpc_end() {
    Line line;
    rpc_piece(line.put('}'));
    line.clear();
    if (crc_) line.put('*').hex4(json_crc_);
    push(line.put(options_.tty ? "\r\n" : "\n").view());
    first_info_ = true;
}

void Session::rpc_error(std::string_view id, const Error& error, int tokens) {
    Line line;
    json_crc_ = 0;
    line.put("{\"jsonrpc\":\"2.0\",\"id\":")
        .put(id)
        .put(",\"error\":{\"code\":")
        .number(rpc_code(error.code))
        .put(",\"message\":");
    line.json_string(error.text[0] != 0 ? error.text : code_text(error.code));
    if (tokens >= 0) line.put(",\"data\":{\"tokens\":").number(tokens).put('}');
    rpc_piece(line.put('}'));
    rpc_end();
}

// ---- requests

void Session::rpc_line(std::span<char> text) {
    JsonLine& json_ = *options_.reader;
    Line id;
    if (auto parsed = json_.parse(text); !parsed) {
        Line line;
        json_crc_ = 0;
        line.put("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":")
            .json_string(parsed.error().text)
            .put('}');
        rpc_piece(line);
        return rpc_end();
    }
    const JsonNode& root = json_.root();
    const JsonNode *version = json_.find(root, "jsonrpc"), *method = json_.find(root, "method"),
                   *params = json_.find(root, "params"), *id_node = json_.find(root, "id");
    const Error invalid = Error::make(Code::line_too_long,
                                      "not a JSON-RPC 2.0 request: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"help\"}");
    if (!render_id(id, id_node))
        return rpc_error("null", Error::make(Code::line_too_long, "an id is a number or a string of at most 90 bytes"));
    if (version == nullptr || version->type != JsonType::string || version->text != "2.0" || method == nullptr ||
        method->type != JsonType::string ||
        (params != nullptr && params->type != JsonType::object && params->type != JsonType::null))
        return rpc_error(id.view(), invalid);
    const Command* command = find_method(method->text);
    if (command == nullptr) {
        if (id_node == nullptr) return;  // an unknown notification is ignored
        const int n = static_cast<int>(fit_json(method->text, 40));
        return rpc_error(id.view(), Error::make(Code::not_supported, "no method \"%.*s\"; rpc.discover lists them", n,
                                                method->text.data()));
    }
    rpc_run(*command, params, id_node);
}

void Session::rpc_run(const Command& command, const JsonNode* params, const JsonNode* id_node) {
    const JsonLine& json_ = *options_.reader;
    Line id;
    render_id(id, id_node);
    const bool quiet = id_node == nullptr;
    const auto refuse = [&](const Error& e) {
        if (!quiet) rpc_error(id.view(), e);
    };
    Arg args[8];
    const std::span<Arg> given{args, command.params.size()};
    Settings settings = settings_;
    bool stream = false, progress = false;
    const bool generating = command.verb == Verb::generate || command.verb == Verb::chat;
    const bool answers = is_request(command.verb);
    if (params != nullptr && params->type == JsonType::object) {
        for (int i = json_.first(*params); i < params->next; i = json_.node(i).next) {
            const JsonNode& n = json_.node(i);
            if (n.type == JsonType::null) continue;
            const auto to_arg = [](const JsonNode& v) {
                if (v.type == JsonType::boolean) return Arg{Arg::number, {}, v.truth ? 1.0 : 0.0};
                if (v.type == JsonType::number) return Arg{Arg::number, v.text, v.number};
                const bool unread = v.type == JsonType::object || v.type == JsonType::array;
                return Arg{Arg::text, v.text, unread ? 1.0 : 0.0};
            };
            // What was left unread counts as its text.
            const bool scalar = (n.type != JsonType::array && n.type != JsonType::object) || !n.text.empty();
            const auto p = std::find_if(command.params.begin(), command.params.end(),
                                        [&](const Param& q) { return n.key == q.name; });
            if ((generating && (n.key == "stream" || n.key == "progress")) || (answers && n.key == "progress")) {
                if (n.type != JsonType::boolean)
                    return refuse(Error::make(Code::incorrect_parameters, "stream and progress are true or false"));
                (n.key == "stream" ? stream : progress) = n.truth;
            } else if (const Setting* s =
                           command.settings ? find_setting(n.key == "max_tokens" ? "max" : n.key) : nullptr) {
                Arg values[Settings::max_stops + 1];
                std::size_t count = 0;
                if (n.type == JsonType::array) {
                    for (int k = json_.first(n); k < n.next && count < std::size(values); k = json_.node(k).next)
                        values[count++] = to_arg(json_.node(k));
                } else if (n.type == JsonType::object) {
                    return refuse(Error::make(Code::incorrect_parameters, "%s is not an object", s->name));
                } else {
                    values[count++] = to_arg(n);
                }
                if (auto r = assign(settings, *s, {values, count}); !r) return refuse(r.error());
            } else if (p != command.params.end() && command.verb != Verb::set) {
                const bool several = p->type == ParamType::texts || p->type == ParamType::numbers;
                if (several && n.type != JsonType::array)
                    return refuse(Error::make(Code::incorrect_parameters, "%s is an array", p->name));
                if (several) {
                    args[p - command.params.begin()] = {Arg::array, {}, static_cast<double>(i)};
                    continue;
                }
                if (!scalar) return refuse(Error::make(Code::incorrect_parameters, "%s is a single value", p->name));
                args[p - command.params.begin()] = to_arg(n);
            } else {
                const int size = static_cast<int>(fit_json(n.key, 40));
                return refuse(Error::make(Code::incorrect_parameters,
                                          "%s has no parameter \"%.*s\"; rpc.discover lists them", command.method, size,
                                          n.key.data()));
            }
        }
    }
    if (command.verb != Verb::set)
        if (auto checked = check_args(command, given); !checked) return refuse(checked.error());

    if (command.verb == Verb::cancel) {
        Line wanted;
        const JsonNode* target = params != nullptr ? json_.find(*params, "id") : nullptr;
        render_id(wanted, target);
        for (Active& a : actives_) {
            if (a.handle < 0 || !a.json || a.id_view() != wanted.view() ||
                (list_ == List::rpc_result && list_active_ == &a))
                continue;
            const int tokens = host_->view(a.handle).tokens;
            if (a.chat) turn_done(false);
            release(a);
            rpc_error(wanted.view(), Error::make(Code::aborted, "cancelled"), tokens);
        }
        if (!quiet) rpc_open(id.view()), rpc_piece(out_.put("{}")), rpc_end();
        return;
    }
    if (answers) {
        if (auto r = rpc_request(command, given, settings, stream, progress, id.view()); !r) refuse(r.error());
        return;
    }
    const bool has = !given.empty() && args[0].type != Arg::absent;
    if (command.verb == Verb::set) settings_ = settings;
    if (command.verb == Verb::context && has) forget();
    if (command.verb == Verb::events) {
        event_mask_ = static_cast<int>(args[0].value);
        events_json_ = true;
    }
    if (command.verb == Verb::hardware || command.verb == Verb::gpio)
        if (auto may = trusted(); !may) return refuse(may.error());
    if (command.verb == Verb::gpio && has)
        if (auto driven = drive(*host_, given); !driven) return refuse(driven.error());
    if (command.verb == Verb::queue_drop)
        if (auto dropped = host_->drop(args[0].string); !dropped) return refuse(dropped.error());
    if (quiet) return;
    list_id_size_ = static_cast<std::uint8_t>(id.size());
    std::memcpy(list_id_, id.view().data(), id.size());
    out_.clear();
    switch (command.verb) {
        case Verb::plan: return start_list(List::rpc_plan);
        case Verb::hardware: return start_list(List::rpc_hardware);
        case Verb::gpio: return start_list(List::rpc_pins);
        case Verb::adapter: return start_list(List::rpc_adapters);
        case Verb::queue: return start_list(List::rpc_queue);
        case Verb::budget: return start_list(List::rpc_budget);
        case Verb::agent:
            if (!has) return start_list(List::rpc_agents);
            break;
        case Verb::discover: return start_list(List::rpc_discover);
        case Verb::help:
            list_command_ = nullptr;
            if (has) {
                list_command_ = find_method(args[0].string);
                if (list_command_ == nullptr) list_command_ = find_command(args[0].string);
                if (list_command_ == nullptr)
                    return refuse(Error::make(Code::not_found, "no such method; rpc.discover lists them"));
            }
            return start_list(List::rpc_help);
        default: break;
    }
    Line result;
    switch (command.verb) {
        case Verb::info: {
            const Identity& who = options_.identity;
            result.put("{\"product\":")
                .json_string(who.product)
                .put(",\"version\":")
                .json_string(who.version)
                .put(",\"maker\":")
                .json_string(who.maker);
            result.put(",\"serial\":").json_string(who.serial).put(",\"proto\":1}");
            break;
        }
        case Verb::agent: {
            const auto found = find_agent(args[0].string);
            if (!found) return refuse(found.error());
            rpc_agent(result, *found.value());
            break;
        }
        case Verb::proto: result.put("{\"version\":1,\"min\":1,\"max\":1}"); break;
        case Verb::model: {
            const ModelInfo m = host_->model();
            if (m.name.empty()) return refuse(Error::make(Code::no_model, "no model is loaded"));
            if (has && args[0].string != m.name)
                return refuse(Error::make(Code::not_found, "no such model; model without a name shows them"));
            result.put("{\"name\":").json_string(m.name);
            if (!m.image.empty()) result.put(",\"image\":").json_string(m.image);
            result.put(",\"bytes\":").number(static_cast<long long>(m.bytes));
            result.put(",\"context\":")
                .number(m.context)
                .put(",\"resident\":")
                .put(m.resident ? "true" : "false")
                .put('}');
            break;
        }
        case Verb::set: {
            char separator = '{';
            for (const Setting& s : settings_table()) {
                result.put(separator).json_string(s.name).put(':');
                show(result, settings_, s, true);
                separator = ',';
            }
            result.put('}');
            break;
        }
        case Verb::context:
            result.put("{\"tokens\":")
                .number(conversation_tokens_)
                .put(",\"context\":")
                .number(host_->model().context)
                .put('}');
            break;
        case Verb::status: rpc_stat(result); break;
        case Verb::queue_drop: result.put("{}"); break;
        case Verb::events: result.put("{\"mask\":").number(event_mask_).put('}'); break;
        default: return;
    }
    rpc_open(id.view());
    rpc_piece(result);
    rpc_end();
}

void Session::rpc_stat(Line& line) {
    const Status s = host_->status();
    line.put("{\"state\":")
        .json_string(s.state)
        .put(",\"loading\":")
        .number(s.loading)
        .put(",\"queue\":")
        .number(s.queue)
        .put(",\"clients\":")
        .number(s.clients);
    line.put(",\"temp_c\":");
    s.temp_c > -274 ? line.real(s.temp_c, 1) : line.put("null");
    line.put(",\"mem_mib\":")
        .number(static_cast<long long>(s.used_mib))
        .put(",\"limit_mib\":")
        .number(static_cast<long long>(s.limit_mib));
    line.put(",\"tokens_s\":").real(s.rate, 1).put(",\"dropped\":").number(static_cast<long long>(dropped_)).put('}');
}

Result<void> Session::rpc_request(const Command& command, std::span<const Arg> args, const Settings& base, bool stream,
                                  bool progress, std::string_view id) {
    Settings settings = base;
    const bool embed = command.verb == Verb::embed, documents = is_of_documents(command.verb);
    if (!embed && !documents && args[0].type != Arg::text)
        return Error::make(Code::incorrect_parameters, "prompt is missing: the text to answer");
    if (id == "null") return Error::make(Code::not_allowed, "a request that is answered needs an id");
    Active* slot = nullptr;
    for (Active& a : actives_) {
        if (a.handle >= 0 && a.json && a.id_view() == id)
            return Error::make(Code::not_allowed, "a request with this id is running");
        if (a.handle >= 0 && a.chat && command.verb == Verb::chat)
            return Error::make(Code::not_allowed, "the conversation's last turn is still being answered");
        if (&a != &foreground() && a.handle < 0 && slot == nullptr) slot = &a;
    }
    if (slot == nullptr)
        return Error::make(Code::busy, "at most %d requests at a time on one connection", max_actives - 1);
    const bool chat = command.verb == Verb::chat;
    const bool labels = command.verb == Verb::classify, spans = command.verb == Verb::extract;
    const bool late = command.verb == Verb::queue_show, agent = command.verb == Verb::run || late;
    bool bytes = false;
    const int handle = TRY(embed       ? submit_embed(args, settings, bytes)
                           : documents ? submit_documents(command.verb, args, settings)
                           : labels    ? submit_labels(args, settings, 3)
                           : spans     ? submit_extract(args, settings, false)
                           : late      ? submit_queued(args[0].string)
                           : agent     ? submit_agent(args, settings)
                           : chat      ? submit_turn(args[0].string, settings, stream, args.subspan(1))
                                       : submit_prompt(args, settings, stream));
    *slot = {};
    slot->handle = handle;
    slot->embed = embed, slot->bytes = bytes, slot->documents = documents;
    slot->labels = labels, slot->spans = spans, slot->agent = agent;
    const std::size_t tools = command.verb == Verb::generate ? 5 : 4;  // of the parameters
    slot->provisional = command.verb == Verb::run && args[5].type == Arg::number && args[5].value != 0;
    if (chat || command.verb == Verb::generate) {
        slot->tools = args[tools].type != Arg::absent;
        slot->doubt = static_cast<float>(settings.doubt);
    }
    slot->json = true, slot->stream = stream, slot->progress = progress, slot->chat = chat;
    slot->id_size = static_cast<std::uint8_t>(id.size());
    std::memcpy(slot->id, id.data(), id.size());
    return {};
}

void Session::rpc_outcome(Line& line, const Outcome& o, bool labels) {
    line.put("\"finish\":").json_string(o.finish).put(",\"prompt_tokens\":").number(o.prompt_tokens);
    if (!labels) line.put(",\"tokens\":").number(o.tokens).put(",\"first_ms\":").number(o.first_ms);
    line.put(",\"total_ms\":").number(o.total_ms);
    if (!labels && o.labels.empty()) line.put(",\"probability\":").real(static_cast<double>(o.probability), 4);
    if (o.joules >= 0) line.put(",\"joules\":").real(o.joules, 3);
}

// An answer in pieces: what was said or chosen, then what there is to say about it.
void Session::rpc_result_step() {
    enum {
        open,
        vectors,
        text,
        labels,
        calls,
        steps,
        verdict,
        checks,
        spans,
        tail
    };  // list_sub_; list_at_ counts within
    Active& a = *list_active_;
    if (a.documents) return rpc_documents_step();
    const View v = host_->view(a.handle);
    const Outcome& o = *v.outcome;
    const auto at = static_cast<std::size_t>(list_at_ - 1);
    const auto go = [&](int stage) { list_sub_ = stage, list_at_ = 0; };
    const auto label = [&](const LabelScore& l) {
        out_.put("\"label\":")
            .json_string(l.label)
            .put(",\"probability\":")
            .real(static_cast<double>(l.probability), 6);
    };
    switch (list_sub_) {
        case open:
            rpc_open(a.id_view());
            out_.put('{');
            if (a.embed) {
                out_.put("\"dim\":")
                    .number(static_cast<long long>(o.texts.empty() ? 0 : o.vectors.size() / o.texts.size()));
                out_.put(",\"embeddings\":[");
                go(vectors);
            } else if (a.labels || !o.labels.empty()) {
                if (!o.labels.empty()) label(o.labels[0]), out_.put(',');
                out_.put("\"margin\":").real(static_cast<double>(o.margin), 6).put(",\"labels\":[");
                go(labels);
            } else if (!a.stream) {
                if (!a.tools || !o.json) out_.put(o.json ? "\"value\":" : "\"text\":\"");
                go(text);
            } else {
                go(verdict);
            }
            return rpc_piece(out_);
        case vectors: {
            const std::size_t most = a.bytes ? bytes_a_piece : numbers_a_piece;
            const std::size_t dim = o.texts.empty() ? 1 : o.vectors.size() / o.texts.size();
            if (at < o.texts.size() * ((dim + most - 1) / most)) return rpc_vectors(o, a.bytes, at);
            out_.put("],");
            go(tail);
            return rpc_piece(out_);
        }
        case text:
            if (v.text.empty()) {
                out_.put(o.json ? "," : "\",");
                go(calls);
                return rpc_piece(out_);
            } else {
                // Of tools the answer is an object whose members, calls or text, become those of the result.
                const bool inside = a.tools && o.json;
                const std::size_t most = inside ? std::max<std::size_t>(v.text.size(), 2) - 1 : v.text.size();
                const std::size_t n = o.json ? std::min<std::size_t>(most, 1000) : fit_json(v.text, 1000);
                const bool brace = inside && (at == 0 || v.text == "}");
                if (o.json)
                    out_.put(v.text.substr(brace ? 1 : 0, brace ? n - 1 : n));
                else
                    out_.json_escaped(v.text.substr(0, n));
                rpc_piece(out_);
                if (a.chat) remember(v.text.substr(0, n));
                return host_->take(a.handle, n);
            }
        case labels:
            if (at < o.labels.size()) {
                out_.put(at > 0 ? ",{" : "{");
                label(o.labels[at]);
                return rpc_piece(out_.put('}'));
            }
            out_.put("],");
            if (a.labels) out_.put("\"calibrated\":false,");
            go(verdict);
            return rpc_piece(out_);
        case calls:
            if (o.calls.empty()) return go(steps);
            if (at == 0) out_.put("\"calls\":[");
            if (at < o.calls.size()) {
                const CallResult& c = o.calls[at];
                out_.put(at > 0 ? ",{" : "{").put("\"name\":").json_string(c.name);
                out_.put(",\"arguments\":").put(c.arguments);
                out_.put(c.failed ? ",\"error\":" : ",\"result\":").json_string(c.result);
                return rpc_piece(out_.put('}'));
            }
            out_.put("],");
            go(steps);
            return rpc_piece(out_);
        case steps:
            if (o.steps.empty()) return go(verdict);
            if (at == 0) out_.put("\"steps\":[");
            if (at < o.steps.size()) {
                const StepResult& s = o.steps[at];
                out_.put(at > 0 ? ",{" : "{").put("\"name\":").json_string(s.name).put(",\"agent\":");
                out_.json_string(s.agent).put(",\"verdict\":").json_string(s.verdict).put(",\"confidence\":");
                out_.real(static_cast<double>(s.confidence), 6).put(",\"tokens\":").number(s.tokens);
                out_.put(",\"ms\":").number(s.ms).put(s.failed ? ",\"error\":" : ",\"answer\":").json_string(s.answer);
                return rpc_piece(out_.put('}'));
            }
            out_.put("],");
            go(verdict);
            return rpc_piece(out_);
        case verdict:
            if (!a.agent) return go(spans);
            out_.put("\"verdict\":").json_string(o.verdict).put(",\"route\":").json_string(o.route);
            if (o.away != nullptr) rpc_away(*o.away);
            out_.put(",\"confidence\":").real(static_cast<double>(o.confidence), 6);
            out_.put(",\"calibrated\":").put(o.calibrated ? "true" : "false");
            // Near 1 all that tells them apart is far behind the point.
            out_.put(",\"features\":{\"min\":").real(static_cast<double>(o.features.min), 9);
            out_.put(",\"mean\":").real(static_cast<double>(o.features.mean), 9);
            out_.put(",\"margin\":").real(static_cast<double>(o.features.margin), 9);
            out_.put(",\"entropy\":").real(static_cast<double>(o.features.entropy), 9).put("},\"checks\":[");
            go(checks);
            return rpc_piece(out_);
        case checks:
            if (at < o.checks.size()) {
                const CheckResult& c = o.checks[at];
                out_.put(at > 0 ? ",{" : "{").put("\"name\":").json_string(c.name).put(",\"verdict\":");
                out_.json_string(c.verdict);
                if (!c.why.empty()) out_.put(",\"why\":").json_string(c.why);
                return rpc_piece(out_.put('}'));
            }
            out_.put("],");
            go(spans);
            return rpc_piece(out_);
        case spans:
            if (!a.spans && o.spans.empty()) return go(tail);
            if (at == 0) out_.put("\"spans\":[");
            if (at < o.spans.size()) {
                const ValueSpan& s = o.spans[at];
                out_.put(at > 0 ? ",{" : "{").put("\"at\":").json_string(s.at);
                if (s.begin >= 0) out_.put(",\"begin\":").number(s.begin).put(",\"end\":").number(s.end);
                return rpc_piece(out_.put('}'));
            }
            out_.put("],");
            go(tail);
            return rpc_piece(out_);
        default: break;
    }
    if (a.doubtful(o)) out_.put("\"doubtful\":true,");
    rpc_outcome(out_, o, a.labels || a.embed);
    rpc_piece(out_.put('}'));
    rpc_end();
    if (a.chat) conversation_tokens_ = o.prompt_tokens + o.tokens, turn_done(true);
    release(a);
    end_list();
}

// Part of one text's vector.
void Session::rpc_vectors(const Outcome& o, bool bytes, std::size_t piece) {
    const std::size_t most = bytes ? bytes_a_piece : numbers_a_piece, dim = o.vectors.size() / o.texts.size(),
                      pieces = (dim + most - 1) / most, text = piece / pieces, first = piece % pieces * most;
    const auto vector = o.vectors.subspan(text * dim, dim), part = vector.subspan(first, std::min(most, dim - first));
    const float scale = scale_of(vector);
    if (first == 0) {
        out_.put(text > 0 ? ",{" : "{").put("\"tokens\":").number(o.texts[text].tokens);
        out_.put(",\"cut\":").put(o.texts[text].cut ? "true" : "false");
        if (bytes)
            out_.put(",\"scale\":").real(static_cast<double>(scale), 9).put(",\"i8\":\"");
        else
            out_.put(",\"vector\":[");
    }
    if (bytes) {
        std::int8_t q[bytes_a_piece];
        out_.base64({q, quantize(part, scale, q)});
    } else {
        for (std::size_t i = 0; i < part.size(); i++)
            (first + i > 0 ? out_.put(',') : out_).real(static_cast<double>(part[i]), 8);
    }
    if (first + part.size() == dim) out_.put(bytes ? "\"}" : "]}");
    rpc_piece(out_);
}

void Session::rpc_agent(Line& line, const AgentInfo& agent) {
    line.put("{\"name\":").json_string(agent.name).put(",\"file\":").json_string(agent.file);
    if (!agent.error.empty()) {
        line.put(",\"error\":").json_string(agent.error).put('}');
        return;
    }
    line.put(",\"answer\":").json_string(agent.answer).put(",\"calibrated\":");
    line.put(agent.calibrated ? "true" : "false");
    if (agent.calibrated) line.put(",\"answers\":").number(agent.answers).put(",\"drift\":").real(agent.drift, 3);
    line.put(",\"sha256\":").json_string(agent.sha256);
    if (!agent.adapter.empty())
        line.put(",\"adapter\":")
            .json_string(agent.adapter)
            .put(",\"adapter_sha256\":")
            .json_string(agent.adapter_sha256);
    line.put(",\"description\":").json_string(agent.description).put('}');
}

void Session::pump_rpc(Active& a) {
    const auto notify = [&](const char* method) -> Line& {
        json_crc_ = 0;
        out_.clear();
        return out_.put("{\"jsonrpc\":\"2.0\",\"method\":\"")
            .put(method)
            .put("\",\"params\":{\"id\":")
            .put(a.id_view());
    };
    // As much of a text as one notification takes.
    const auto say = [&](const char* method, std::string_view text) {
        const std::size_t n = fit_json(text.substr(0, piece_text), 800);
        notify(method).put(",\"text\":\"").json_escaped(text.substr(0, n)).put("\"}");
        rpc_piece(out_), rpc_end();
        return n;
    };
    for (;;) {
        const View v = host_->view(a.handle);
        if (a.progress && v.state == View::waiting && v.place != a.place && room() >= reserve + 256) {
            a.place = v.place;
            notify("queue").put(",\"place\":").number(v.place).put('}');
            rpc_piece(out_), rpc_end();
        }
        if (a.progress && v.total > 0 && v.done != a.done && room() >= reserve + 256) {
            a.done = v.done;
            notify("progress").put(",\"done\":").number(v.done).put(",\"total\":").number(v.total).put('}');
            rpc_piece(out_), rpc_end();
        }
        if (a.provisional && v.provisional.size() > a.shown) {
            if (room() < reserve + 1024) return;
            a.shown += say("provisional", v.provisional.substr(a.shown));
            continue;
        }
        if (!a.stream) {
            if (v.state != View::finished || room() < reserve) return;
        } else if (!v.text.empty()) {
            if (room() < reserve + 1024) return;
            const std::size_t n = say("tok", v.text);
            if (a.chat) remember(v.text.substr(0, n));
            host_->take(a.handle, n);
            continue;
        }
        if (v.state != View::finished || room() < reserve) return;
        const Outcome& o = *v.outcome;
        if (o.failed) {
            rpc_error(a.id_view(), o.error, v.tokens);
            if (a.chat) turn_done(false);
            return release(a);
        }
        list_active_ = &a;
        return start_list(List::rpc_result);
    }
}

// ---- help and discovery

void Session::rpc_help_step() {
    const auto table = commands();
    const int at = list_at_ - 1;
    const auto entry = [&](const Command& c) {
        out_.put('"').json_escaped(c.method).put(": ").json_escaped(c.help).put("\"");
    };
    if (at == 0) {
        rpc_open({list_id_, list_id_size_});
        if (list_command_ == nullptr) return rpc_piece(out_.put("{\"methods\":["));
        const Command& c = *list_command_;
        out_.put("{\"name\":")
            .json_string(c.method != nullptr ? c.method : c.name)
            .put(",\"help\":")
            .json_string(c.help);
        out_.put(",\"example\":").json_string(c.example).put(",\"params\":{");
        for (std::size_t i = 0; i < c.params.size(); i++) {
            if (i > 0) out_.put(',');
            out_.json_string(c.params[i].name).put(':').json_string(c.params[i].help);
        }
        return rpc_piece(out_.put('}'));
    }
    if (list_command_ == nullptr && static_cast<std::size_t>(at) <= table.size()) {
        const Command& c = table[static_cast<std::size_t>(at - 1)];
        if (c.method == nullptr) return;
        if (list_sub_++ > 0) out_.put(',');
        entry(c);
        return rpc_piece(out_);
    }
    rpc_piece(out_.put(list_command_ == nullptr ? "]}" : "}"));
    rpc_end();
    end_list();
}

// One method's head, one parameter, or a tail at a time: a piece never exceeds the ring.
void Session::rpc_discover_step() {
    const auto table = commands();
    if (list_at_ == 1) {
        rpc_open({list_id_, list_id_size_});
        out_.put("{\"openrpc\":\"1.2.6\",\"info\":{\"title\":\"SLM-AT\",\"version\":")
            .json_string(options_.identity.version)
            .put("},\"methods\":[");
        rpc_piece(out_);
        list_sub_ = -1;
        list_command_ = table.data();
        return;
    }
    const Command* const end = table.data() + table.size();
    while (list_command_ < end && list_command_->method == nullptr) list_command_++;
    if (list_command_ >= end) {
        rpc_piece(out_.put("]}"));
        rpc_end();
        return end_list();
    }
    const Command& c = *list_command_;
    const auto settings = settings_table();
    if (list_sub_ == -1) {
        if (&c != table.data() && std::any_of(table.data(), &c, [](const Command& b) { return b.method != nullptr; }))
            out_.put(',');
        out_.put("{\"name\":")
            .json_string(c.method)
            .put(",\"summary\":")
            .json_string(c.help)
            .put(",\"paramStructure\":\"by-name\",\"params\":[");
        list_sub_ = 0;
        return rpc_piece(out_);
    }
    const std::size_t own = c.verb == Verb::set ? 0 : c.params.size(), shared = c.settings ? settings.size() : 0;
    const bool generating = c.verb == Verb::generate || c.verb == Verb::chat;
    const auto sub = static_cast<std::size_t>(list_sub_++);
    const std::size_t all = own + shared + (generating ? 2 : is_request(c.verb) ? 1 : 0);
    const bool streams = generating && sub == own + shared;
    if (sub < all) {
        const char* const name = sub < own            ? c.params[sub].name
                                 : sub < own + shared ? settings[sub - own].name
                                 : streams            ? "stream"
                                                      : "progress";
        const bool twice = sub < own && c.settings && find_setting(name) != nullptr;  // "max" is a setting, too
        if (!twice) {
            if (sub > 0) out_.put(',');
            if (sub < own) {
                const Param& p = c.params[sub];
                const bool number = p.type == ParamType::integer || p.type == ParamType::real;
                schema(out_, name,
                       p.type == ParamType::any                                     ? "[\"number\",\"string\"]"
                       : p.type == ParamType::texts || p.type == ParamType::numbers ? "\"array\""
                       : p.type == ParamType::flag                                  ? "\"boolean\""
                       : number ? (p.type == ParamType::real ? "\"number\"" : "\"integer\"")
                                : "\"string\"",
                       p.required || (generating && sub == 0), p.help);
                if (number)
                    out_.put(",\"minimum\":").real(p.min).put(",\"maximum\":").real(p.max);
                else if (p.type == ParamType::text)
                    out_.put(",\"maxLength\":").real(p.max);
                else if (p.type == ParamType::texts || p.type == ParamType::numbers)
                    out_.put(",\"items\":{\"type\":")
                        .put(p.type == ParamType::texts ? "\"string\"" : "\"number\"")
                        .put("},\"maxItems\":")
                        .real(p.max);
            } else if (sub < own + shared) {
                const Setting& s = settings[sub - own];
                const char* const type = s.type == SettingType::real      ? "\"number\""
                                         : s.type == SettingType::integer ? "\"integer\""
                                         : s.type == SettingType::flag    ? "\"boolean\""
                                         : s.type == SettingType::texts   ? "[\"string\",\"array\"]"
                                                                          : "\"string\"";
                schema(out_, name, type, false, s.help);
                if (s.type == SettingType::real || s.type == SettingType::integer)
                    out_.put(",\"minimum\":")
                        .real(s.min)
                        .put(",\"maximum\":")
                        .real(s.max)
                        .put(",\"default\":")
                        .put(s.fallback);
            } else {
                schema(out_, name, "\"boolean\"", false,
                       streams ? "send the text in tok notifications as it comes"
                               : "send progress notifications while the prompt is read");
            }
            out_.put("}}");
            return rpc_piece(out_);
        }
        return;
    }
    out_.put("],\"result\":{\"name\":\"result\",\"schema\":{\"type\":\"object\"}}}");
    rpc_piece(out_);
    list_command_++;
    list_sub_ = -1;
}

}  // namespace slmd::wire
