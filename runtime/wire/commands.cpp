#include "wire/commands.h"

namespace slmd::wire {
namespace {

using enum ParamType;

constexpr Param on_off[] = {{"value", integer, false, 0, 1, "0 off, 1 on"}};
constexpr Param errors_params[] = {{"mode", integer, true, 0, 2, "0 ERROR, 1 number, 2 text"}};
constexpr Param help_params[] = {{"verb", text, false, 0, 32, "a command; without it, one line for each"}};
constexpr Param proto_params[] = {{"version", integer, true, 1, 1, "protocol version that the client speaks"}};
constexpr Param crc_params[] = {{"mode", integer, true, 0, 1, "1: every line both ways ends in *HHHH, CRC-16/XMODEM"}};
constexpr Param window_params[] = {{"lines", integer, true, 0, 8, "#TOK lines that may be unacknowledged; 0 is off"}};
constexpr Param width_params[] = {{"bytes", integer, true, 48, 1024, "longest line that the client can take"}};
constexpr Param model_params[] = {{"name", text, false, 1, 64, "the model to use"}};
constexpr Param set_params[] = {{"name", text, true, 1, 16, "a setting; AT#SET=? lists them"},
                                {"value", any, true, 0, 256, "its value"},
                                {"value2", any, false, 0, 32, "second text of stop"},
                                {"value3", any, false, 0, 32, "third text of stop"},
                                {"value4", any, false, 0, 32, "fourth text of stop"}};
constexpr Param generate_params[] = {
    {"prompt", text, false, 1, 65536, "the request; without it the device prompts \"> \": Ctrl-Z sends, ESC drops"},
    {"max", integer, false, 1, 32768, "tokens of the answer, at most"},
    {"schema", text, false, 1, 32768, "JSON Schema that the answer obeys"},
    {"regex", text, false, 1, 4096, "regular expression that the answer matches, whole"},
    {"source", text, false, 1, 16384,
     "what values of the schema with \"from\": \"source\" stand in; without it the prompt"},
    {"tools", text, false, 2, 32768, "functions that may be called, as OpenAI has them (JSON only)"},
    {"tool_choice", text, false, 1, 64, "auto, none, required, or the name of the one to call (JSON only)"}};
constexpr Param chat_params[] = {
    {"prompt", text, false, 1, 65536, "a turn of this session's conversation (JSON only)"},
    {"schema", text, false, 1, 32768, "JSON Schema that the answer obeys (JSON only)"},
    {"regex", text, false, 1, 4096, "regular expression that the answer matches, whole (JSON only)"},
    {"source", text, false, 1, 16384,
     "what values of the schema with \"from\": \"source\" stand in; without it the turn"},
    {"tools", text, false, 2, 32768, "functions that may be called, as OpenAI has them (JSON only)"},
    {"tool_choice", text, false, 1, 64, "auto, none, required, or the name of the one to call (JSON only)"}};
constexpr Param classify_params[] = {
    {"prompt", text, true, 1, 65536, "what the labels are about: the text, and what is asked about it"},
    {"labels", texts, true, 2, 512, "2 to 512 labels of up to 64 bytes: an array, in AT \"one|two|three\""},
    {"none", flag, false, 0, 1, "1: \"none\" is a label too; the prompt is to say for what"},
    {"top", integer, false, 1, 16, "labels to tell, the most probable first; without it 1 in AT, 3 in JSON"},
    {"priors", numbers, false, 2, 512, "how frequent each label is, any scale, \"none\" last; without it all the same"},
    {"raw", flag, false, 0, 1, "1: the prompt as it is, no chat template"},
    {"deadline_ms", integer, false, 0, 86400000, "milliseconds from now, 0 is none"},
    {"adapter", text, false, 0, 23, "adapter that chooses; \"\" is the model alone"}};
constexpr Param embed_params[] = {
    {"text", text, false, 0, 65536, "what is embedded, as it is: no chat template"},
    {"format", text, false, 2, 3,
     "i8: bytes in base64, times one scale; f32: numbers. Without it i8 in AT, f32 in JSON"},
    {"texts", texts, false, 1, 64, "several instead of one (JSON only)"},
    {"deadline_ms", integer, false, 0, 86400000, "milliseconds from now, 0 is none"}};
constexpr Param extract_params[] = {
    {"prompt", text, true, 1, 65536, "the text, and what is to be taken from it"},
    {"schema", text, true, 1, 32768, "JSON Schema of the values; \"from\": \"source\" binds one to the text"},
    {"max", integer, false, 1, 32768, "tokens of the answer, at most"},
    {"source", text, false, 1, 16384, "the text alone, which the spans are of; without it the prompt"}};
constexpr Param run_params[] = {
    {"agent", text, true, 1, 32, "its name; AT#AGENT? lists them"},
    {"input", text, true, 1, 65536, "what it works on: a text; of an agent with several fields a JSON object of them"},
    {"deadline_ms", integer, false, 0, 86400000, "milliseconds from now, 0 is none; without it the agent's"},
    {"adapter", text, false, 0, 23, "adapter instead of the agent's; \"\" is the model alone"},
    {"route", text, false, 5, 6, "local: it stays here; remote: the large model is asked, where the agent allows it"},
    {"provisional", flag, false, 0, 1, "1: while the large model is asked, what the local one said is told already"},
    {"dry_run", flag, false, 0, 1, "1: the agent's calls switch nothing"}};
constexpr Param key_params[] = {{"key", text, true, 32, 32, "a request that was queued; queue lists them"}};
constexpr Param queue_params[] = {
    {"key", text, false, 32, 32, "a request that was queued: its answer; without it all of them"}};
constexpr Param agent_params[] = {{"name", text, false, 1, 32, "an agent; without it all of them"}};
constexpr Param documents_params[] = {
    {"after", text, false, 0, 511, "goes on behind this name: 32 at a time are told"}};
constexpr Param document_params[] = {
    {"name", text, true, 1, 511, "what it is called; one of this name is replaced, when the last part is there"},
    {"sha256", text, true, 64, 64, "of the document, in lower case; one that is there with it stays as it is"},
    {"bytes", integer, true, 0, 1e12, "of the document"},
    {"texts", texts, true, 0, 64, "its passages, up to 64 of 1,500 bytes"},
    {"headings", texts, true, 0, 64, "where in the document each stands, up to 255 bytes"},
    {"spans", numbers, true, 0, 128, "the first byte of each and the one behind its last"},
    {"part", integer, false, 0, 1e6, "of a document that is more than one line, from 0; without it 0"},
    {"last", flag, false, 0, 1, "1: the document is whole now; without it 1"}};
constexpr Param document_remove_params[] = {{"name", text, true, 1, 511, "a document; docs lists them"}};
constexpr Param find_params[] = {
    {"query", text, true, 1, 4096, "words, or a question"},
    {"top", integer, false, 1, 16, "passages to tell, the best first; without it 5"},
    {"by", text, false, 4, 7, "both, words (BM25) or meaning (vectors, by an encoder); without it both"}};
constexpr Param ask_params[] = {
    {"question", text, true, 1, 2048, "what is answered from the documents, in their words, or not at all"},
    {"top", integer, false, 1, 8, "passages that the model reads, at most; without it 3"},
    {"deadline_ms", integer, false, 0, 86400000, "milliseconds from now, 0 is none"}};
constexpr Param context_params[] = {{"forget", integer, false, 0, 0, "0 forgets the conversation"}};
constexpr Param events_params[] = {
    {"mask", integer, true, 0, 7, "sum of 1 heat, power and memory, 2 lines and triggers, 4 the model; 0 is none"}};
constexpr Param gpio_params[] = {{"name", text, false, 1, 23, "a configured output"},
                                 {"value", integer, false, 0, 1, "1 on, 0 off"},
                                 {"ms", integer, false, 1, 3600000, "off again after so many milliseconds"}};
constexpr Param cancel_params[] = {{"id", any, true, 0, 64, "id of the request to end"}};

constexpr Command table[] = {
    {Verb::ping, "", nullptr, run, {}, false, "is anyone there", "AT"},
    {Verb::echo, "E", nullptr, run, on_off, false, "echo what is typed", "ATE0"},
    {Verb::verbose, "V", nullptr, run, on_off, false, "final results as words or numbers", "ATV1"},
    {Verb::quiet, "Q", nullptr, run, on_off, false, "1: no final results", "ATQ0"},
    {Verb::info, "I", "info", run, {}, false, "who this is", "ATI"},
    {Verb::reset, "Z", nullptr, run, {}, false, "abort, and the session as configured", "ATZ"},
    {Verb::factory, "&F", nullptr, run, {}, false, "abort, and the session as from the factory", "AT&F"},
    {Verb::maker, "+GMI", nullptr, run, {}, false, "maker", "AT+GMI"},
    {Verb::model_name, "+GMM", nullptr, run, {}, false, "product", "AT+GMM"},
    {Verb::version, "+GMR", nullptr, run, {}, false, "version", "AT+GMR"},
    {Verb::serial, "+GSN", nullptr, run, {}, false, "serial number of the board", "AT+GSN"},
    {Verb::list, "+CLAC", nullptr, run, {}, false, "all commands", "AT+CLAC"},
    {Verb::errors, "+CMEE", nullptr, read | write, errors_params, false, "how errors are shown", "AT+CMEE=2"},
    {Verb::help, "#HELP", "help", run | write, help_params, false, "this", "AT#HELP=\"#GEN\""},
    {Verb::proto, "#PROTO", "proto", run | read | write, proto_params, false, "protocol version", "AT#PROTO?"},
    {Verb::crc, "#CRC", nullptr, read | write, crc_params, false, "check of every line", "AT#CRC=1"},
    {Verb::window, "#WIN", nullptr, read | write, window_params, false,
     "wait for ACK 0x06, resend at NAK 0x15 (needs CRC)", "AT#WIN=1"},
    {Verb::width, "#W", nullptr, read | write, width_params, false, "longest line to the client", "AT#W=56"},
    {Verb::model, "#MODEL", "model", read | write, model_params, false, "models", "AT#MODEL?"},
    {Verb::set, "#SET", "set", read | write, set_params, true, "how answers are generated", "AT#SET=\"temp\",0.7"},
    {Verb::generate, "#GEN", "gen", run | write, generate_params, true, "generate an answer",
     "AT#GEN=\"Name one use of a relay\",24"},
    {Verb::classify, "#CLS", "cls", write, classify_params, false, "which label fits: label, probability, margin",
     "AT#CLS=\"Pump 2 is leaking. Alarm or report?\",\"alarm|report\""},
    {Verb::embed, "#EMB", "emb", write, embed_params, false,
     "a text as a vector of length 1: dimensions, tokens, cut, scale, ms", "AT#EMB=\"Pump 2 is leaking\""},
    {Verb::extract, "#EXT", "ext", write, extract_params, true, "values from a text, each with its place in it",
     "AT#EXT=\"Pump 2 at 81 C. Which pump?\",\"{\\\"type\\\":\\\"integer\\\"}\""},
    {Verb::run, "#RUN", "run", write, run_params, false, "an agent by name: its answer, confidence, checks",
     "AT#RUN=\"sentiment\",\"Works well, thank you\""},
    {Verb::agent, "#AGENT", "agent", read | write, agent_params, false,
     "agents: name, answer, calibrated, answers, drift, description", "AT#AGENT?"},
    {Verb::adapter,
     "#ADAPTER",
     "adapter",
     read,
     {},
     false,
     "adapters: name, largest rank, bytes, title",
     "AT#ADAPTER?"},
    {Verb::queue, "#QUEUE", "queue", read | write, queue_params, false,
     "requests to the large model: key, answered, priority, Unix time, agent", "AT#QUEUE?"},
    {Verb::queue_show, nullptr, "queue.show", 0, key_params, false, "the answer of one that was queued",
     "{\"jsonrpc\":\"2.0\", \"id\":1, \"method\":\"queue.show\", \"params\":{\"key\": "
     "\"0123456789abcdef0123456789abcdef\"}}"},
    {Verb::queue_drop, "#DROP", "queue.drop", write, key_params, false, "forgets one that was queued, and its answer",
     "AT#DROP=\"0123456789abcdef0123456789abcdef\""},
    {Verb::budget,
     "#BUDGET",
     "budget",
     run | read,
     {},
     false,
     "what was spent for the large model: agent, period, what, used, limit",
     "AT#BUDGET?"},
    {Verb::documents, "#DOCS", "docs", read | write, documents_params, false,
     "documents: name, passages, with a vector, bytes, whole", "AT#DOCS?"},
    {Verb::document_add, nullptr, "docs.add", 0, document_params, false,
     "adds a document's passages (trusted ports); slmctl docs add makes them",
     "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"docs.add\",\"params\":{...}}"},
    {Verb::document_remove, nullptr, "docs.remove", 0, document_remove_params, false,
     "removes a document (trusted ports)",
     "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"docs.remove\",\"params\":{\"name\":\"pump.md\"}}"},
    {Verb::find, "#FIND", "docs.search", write, find_params, false, "passages: number, document, bytes, coverage, text",
     "AT#FIND=\"oil change interval\""},
    {Verb::ask, "#ASK", "ask", write, ask_params, false,
     "an answer from the documents, with where it stands, or that there is none",
     "AT#ASK=\"How often is the oil of pump 2 changed?\""},
    {Verb::chat, "#CHAT", "chat", run, chat_params, true, "talk: a line is a turn; Ctrl-Z or +++ ends", "AT#CHAT"},
    {Verb::context, "#CTX", "ctx", read | write, context_params, false, "tokens of the conversation", "AT#CTX=0"},
    {Verb::plan, "#PLAN", "plan", run | read, {}, false, "every byte of memory", "AT#PLAN?"},
    {Verb::status,
     "#STAT",
     "stat",
     run | read,
     {},
     false,
     "state, queue, deg C, MiB used, MiB limit, tok/s, dropped lines",
     "AT#STAT?"},
    {Verb::events, "#EVT", "evt", read | write, events_params, false, "events that are told unasked", "AT#EVT=3"},
    {Verb::hardware, "#HW", "hw", run | read, {}, false, "the board and how it does (trusted ports)", "AT#HW?"},
    {Verb::gpio, "#GPIO", "gpio", read | write, gpio_params, false, "lines; drive an output (trusted ports)",
     "AT#GPIO=\"relay\",1,250"},
    {Verb::discover,
     nullptr,
     "rpc.discover",
     0,
     {},
     false,
     "all methods (OpenRPC)",
     "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.discover\"}"},
    {Verb::cancel, nullptr, "$/cancelRequest", 0, cancel_params, false, "end a request",
     "{\"jsonrpc\":\"2.0\",\"method\":\"$/cancelRequest\",\"params\":{\"id\":1}}"},
};

char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

bool same(std::string_view a, std::string_view b) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); i++)
        if (upper(a[i]) != upper(b[i])) return false;
    return true;
}

}  // namespace

std::span<const Command> commands() { return table; }

const Command* find_command(std::string_view name) {
    for (const Command& c : table)
        if (c.name != nullptr && same(name, c.name)) return &c;
    return nullptr;
}

const Command* find_method(std::string_view method) {
    for (const Command& c : table)
        if (c.method != nullptr && method == c.method) return &c;
    return nullptr;
}

}  // namespace slmd::wire
