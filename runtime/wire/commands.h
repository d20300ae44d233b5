// The one table of commands: parsing, help, `=?`, JSON-RPC methods and their schemas all come from it.
#pragma once
#include <span>
#include <string_view>

namespace slmd::wire {

enum class Verb : unsigned char {
    ping,
    echo,
    verbose,
    quiet,
    info,
    reset,
    factory,
    maker,
    model_name,
    version,
    serial,
    list,
    errors,
    help,
    proto,
    crc,
    window,
    width,
    model,
    set,
    generate,
    classify,
    embed,
    extract,
    run,
    agent,
    adapter,
    queue,
    queue_show,
    queue_drop,
    budget,
    documents,
    document_add,
    document_remove,
    find,
    ask,
    chat,
    context,
    plan,
    status,
    events,
    hardware,
    gpio,
    discover,
    cancel,
};

// texts, numbers: several; an array in JSON, in AT one text with | between them.
enum class ParamType : unsigned char { integer, real, text, any, flag, texts, numbers };

struct Param {
    const char* name;
    ParamType type;
    bool required;
    double min, max;  // of a number; of a text: bytes; of several: how many
    const char* help;
};

// What may follow the name: nothing, "?", "=...".  "=?" always may.
enum Forms : unsigned char { run = 1, read = 2, write = 4 };

struct Command {
    Verb verb;
    const char* name;    // as in AT: "#GEN", "+CMEE", "E"; null: only JSON
    const char* method;  // as in JSON-RPC; null: only AT
    unsigned char forms;
    std::span<const Param> params;
    bool settings;  // in JSON every setting is a parameter too
    const char* help;
    const char* example;
};

std::span<const Command> commands();
const Command* find_command(std::string_view name);  // exact, upper or lower case
const Command* find_method(std::string_view method);

}  // namespace slmd::wire
