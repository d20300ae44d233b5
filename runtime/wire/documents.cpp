// Documents in both renderings: what is asked of them, and what comes back, a piece at a time.
#include <algorithm>

#include "wire/session.h"

namespace slmd::wire {

namespace {

constexpr std::size_t text_a_piece = 1000;

}  // namespace

// args: as in the tables.
Result<int> Session::submit_documents(Verb verb, std::span<const Arg> args, Settings settings) {
    const auto given = [&](std::size_t i) { return i < args.size() && args[i].type != Arg::absent; };
    DocumentsRequest wanted{DocumentsRequest::list};
    Turn turn{false, {}};
    if (verb == Verb::documents) {
        if (given(0)) wanted.name = args[0].string;
    } else if (verb == Verb::document_add || verb == Verb::document_remove) {
        if (!options_.trusted)
            return Error::make(Code::not_permitted,
                               "this port may not change the documents; trusted = true in its [[tty]] or [socket] does "
                               "that");
        wanted.what = verb == Verb::document_add ? DocumentsRequest::add : DocumentsRequest::remove;
        wanted.name = args[0].string;
        if (verb == Verb::document_add) return submit_document(args, wanted, settings);
    } else {
        wanted.what = verb == Verb::ask ? DocumentsRequest::ask : DocumentsRequest::search;
        turn.text = args[0].string;
        if (given(1)) wanted.top = static_cast<int>(args[1].value);
        if (verb == Verb::ask && given(2)) settings.deadline_ms = static_cast<std::int64_t>(args[2].value);
        wanted.by = "both";
        if (verb == Verb::find && given(2)) wanted.by = args[2].string;
        if (wanted.by != "both" && wanted.by != "words" && wanted.by != "meaning")
            return Error::make(Code::incorrect_parameters, "by is \"both\", \"words\" or \"meaning\"");
    }
    Request request{{&turn, 1}, &settings, false};
    request.documents = &wanted;
    return host_->submit(request);
}

// args: name, sha256, bytes, texts, headings, spans, part, last.
Result<int> Session::submit_document(std::span<const Arg> args, DocumentsRequest& wanted, const Settings& settings) {
    enum { name, sha256, bytes, texts, headings, spans, part, last };
    PassageGiven passages[DocumentsRequest::max_passages];
    const JsonLine& json = *options_.reader;
    std::size_t counts[3] = {};
    for (const int which : {texts, headings, spans}) {
        const JsonNode& array = json.node(static_cast<int>(args[static_cast<std::size_t>(which)].value));
        std::size_t& n = counts[which - texts];
        for (int k = json.first(array); k < array.next; k = json.node(k).next, n++) {
            const JsonNode& one = json.node(k);
            if (one.type != (which == spans ? JsonType::number : JsonType::string))
                return Error::make(Code::incorrect_parameters, "texts and headings are texts, spans are numbers");
            if (n == std::size(passages) * (which == spans ? 2 : 1))
                return Error::make(Code::incorrect_parameters, "at most %zu passages a part", std::size(passages));
            const auto number = static_cast<std::int64_t>(std::clamp(one.number, 0.0, 1e15));
            if (which == texts)
                passages[n].text = one.text;
            else if (which == headings)
                passages[n].heading = one.text;
            else
                (n % 2 == 0 ? passages[n / 2].begin : passages[n / 2].end) = number;
        }
    }
    if (counts[1] != counts[0] || counts[2] != 2 * counts[0])
        return Error::make(
            Code::incorrect_parameters,
            "%zu texts, %zu headings and %zu numbers in spans: one heading and two numbers for each text", counts[0],
            counts[1], counts[2]);
    wanted.sha256 = args[sha256].string;
    wanted.bytes = static_cast<std::int64_t>(args[bytes].value);
    wanted.passages = {passages, counts[0]};
    if (args[part].type != Arg::absent) wanted.part = static_cast<int>(args[part].value);
    if (args[last].type != Arg::absent) wanted.last = args[last].value != 0;
    const Turn none{false, {}};
    Request request{{&none, 1}, &settings, false};
    request.documents = &wanted;
    return host_->submit(request);
}

// ---- AT

// False when all was told but the final result.
bool Session::at_documents_step() {
    const Outcome& o = *host_->view(list_active_->handle).outcome;
    if (o.failed || o.documents == nullptr) return false;
    const DocumentsOutcome& d = *o.documents;
    const auto width = static_cast<std::size_t>(width_);
    const auto at = static_cast<std::size_t>(list_at_ - 1);
    const auto left = [&] { return width - std::min(width, out_.size() + 10); };
    const auto text = [&](std::string_view s, std::size_t room) { out_.at_string(s.substr(0, fit_at(s, room))); };
    if (at < d.list.size()) {
        const DocumentInfo& i = d.list[at];
        out_.put("#DOCS: ").number(i.passages).put(',').number(i.embedded).put(',').number(i.bytes).put(',');
        out_.number(i.whole).put(',');
        text(i.name, left());
        return info(out_), true;
    }
    if (at < d.found.size()) {
        const PassageFound& p = d.found[at];
        const bool cites = d.what == DocumentsRequest::ask;
        out_.put(cites ? "#CITE: " : "#FIND: ").number(p.passage).put(',').number(p.begin).put(',').number(p.end);
        if (!cites) out_.put(',').real(static_cast<double>(p.coverage), 3);
        out_.put(',');
        text(p.document, cites ? left() : left() / 2);
        if (!cites) out_.put(','), text(p.text, left());
        return info(out_), true;
    }
    if (at == d.found.size() && d.what == DocumentsRequest::ask) {
        out_.put("#ASK: ").number(d.answered).put(',');
        text(d.why, 40);
        out_.put(',').number(o.prompt_tokens).put(',').number(o.tokens).put(',').number(o.total_ms);
        return info(out_), true;
    }
    return false;
}

// ---- JSON-RPC

// Of one passage: its head, its heading, then its text in pieces. list_sub_ counts: 4 a passage.
void Session::rpc_passage(const PassageFound& p, std::size_t item, bool ranked) {
    const auto at = static_cast<std::size_t>(list_at_ - 1);
    const auto go = [&](int stage) { list_sub_ = static_cast<int>(4 * item) + stage, list_at_ = 0; };
    switch (list_sub_ % 4) {
        case 1:
            out_.put(item > 0 ? ",{" : "{").put("\"passage\":").number(p.passage).put(",\"document\":");
            out_.json_string(p.document).put(",\"begin\":").number(p.begin).put(",\"end\":").number(p.end);
            if (ranked) {
                out_.put(",\"score\":").real(static_cast<double>(p.score), 6);
                out_.put(",\"coverage\":").real(static_cast<double>(p.coverage), 4);
                out_.put(",\"words\":").number(p.words).put(",\"meaning\":").number(p.meaning);
            }
            go(2);
            return rpc_piece(out_);
        case 2:
            out_.put(",\"heading\":").json_string(p.heading).put(ranked ? ",\"text\":\"" : ",\"quote\":\"");
            go(3);
            return rpc_piece(out_);
        default: {
            std::string_view rest = p.text;
            for (std::size_t i = 0; i < at; i++) rest.remove_prefix(fit_json(rest, text_a_piece));
            if (!rest.empty()) {
                out_.json_escaped(rest.substr(0, fit_json(rest, text_a_piece)));
                return rpc_piece(out_);
            }
            list_sub_ = static_cast<int>(4 * (item + 1)) + 1, list_at_ = 0;
            return rpc_piece(out_.put("\"}"));
        }
    }
}

void Session::rpc_documents_step() {
    Active& a = *list_active_;
    const View v = host_->view(a.handle);
    const Outcome& o = *v.outcome;
    const DocumentsOutcome& d = *o.documents;
    const bool asks = d.what == DocumentsRequest::ask;
    const auto truth = [](bool b) { return b ? "true" : "false"; };
    if (list_sub_ == 0) {  // what was said, or the beginning
        if (list_at_ == 1) {
            rpc_open(a.id_view());
            if (asks) {
                out_.put("{\"answered\":").put(truth(d.answered)).put(",\"answer\":").put(d.answered ? "\"" : "null");
                return rpc_piece(out_);
            }
        }
        if (asks && !v.text.empty()) {
            const std::size_t n = fit_json(v.text, text_a_piece);
            out_.json_escaped(v.text.substr(0, n));
            host_->take(a.handle, n);
            return rpc_piece(out_);
        }
        if (asks && !d.answered) out_.put(",\"why\":").json_string(d.why);
        if (asks) out_.put(d.answered ? "\"" : "").put(",\"citations\":[");
        if (d.what == DocumentsRequest::search) out_.put("{\"meaning\":").put(truth(d.meaning)).put(",\"passages\":[");
        if (d.what == DocumentsRequest::list) out_.put("{\"documents\":[");
        list_sub_ = 1, list_at_ = 0;
        return rpc_piece(out_);
    }
    const auto item = static_cast<std::size_t>(list_sub_ / 4);
    if (item < d.found.size()) return rpc_passage(d.found[item], item, !asks);
    const auto at = static_cast<std::size_t>(list_at_ - 1);
    if (at < d.list.size()) {
        const DocumentInfo& i = d.list[at];
        out_.put(at > 0 ? ",{" : "{").put("\"name\":").json_string(i.name).put(",\"passages\":").number(i.passages);
        out_.put(",\"embedded\":").number(i.embedded).put(",\"bytes\":").number(i.bytes);
        out_.put(",\"whole\":").put(truth(i.whole)).put(",\"sha256\":").json_string(i.sha256).put('}');
        return rpc_piece(out_);
    }
    switch (d.what) {
        case DocumentsRequest::list:
            out_.put("],\"all\":").number(d.documents).put(",\"passages\":").number(d.passages);
            out_.put(",\"meaning\":").put(truth(d.meaning));
            break;
        case DocumentsRequest::add:
            out_.put("{\"passages\":").number(d.passages).put(",\"unchanged\":").put(truth(d.unchanged));
            break;
        case DocumentsRequest::remove: out_.put("{\"passages\":").number(d.passages); break;
        case DocumentsRequest::search: out_.put("],\"total_ms\":").number(o.total_ms); break;
        case DocumentsRequest::ask:
            out_.put("],\"coverage\":").real(static_cast<double>(d.coverage), 4);
            out_.put(",\"prompt_tokens\":").number(o.prompt_tokens).put(",\"tokens\":").number(o.tokens);
            out_.put(",\"probability\":").real(static_cast<double>(o.probability), 4);
            out_.put(",\"total_ms\":").number(o.total_ms);
    }
    rpc_piece(out_.put('}'));
    rpc_end();
    release(a);
    end_list();
}

}  // namespace slmd::wire
