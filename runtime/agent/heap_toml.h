// A TOML file of which what is kept lies in a Heap: agents and pipelines.
#pragma once
#include <stdio.h>

#include <algorithm>
#include <new>
#include <span>
#include <string>
#include <string_view>

#include "agent/agent.h"
#include "grammar/automaton.h"
#include "hal/toml.h"

namespace slmd::agent {

inline bool is_name(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    });
}

struct HeapToml : hal::TomlFile {
    grammar::Heap& heap;

    // NAME of NAME.toml.
    Result<std::string_view> name_of_file() const {
        const std::string_view whole = path;
        std::string_view name = whole.substr(whole.rfind('/') + 1);
        if (name.ends_with(".toml")) name.remove_suffix(5);
        if (!is_name(name) || name.size() > Agent::name_bytes)
            return Error::make(Code::incorrect_parameters,
                               "%s: an agent's file is NAME.toml; a name is letters, digits, - and _, at most 32",
                               path);
        return name;
    }
    Error full() const {
        return Error::make(Code::memory_full, "%s: no room for it among the agents; [limits] agents is what they have",
                           path);
    }
    Result<std::string_view> keep(std::string_view text) {
        char* const at = heap.take<char>(text.size());
        if (at == nullptr) return full();
        std::copy(text.begin(), text.end(), at);
        return std::string_view{at, text.size()};
    }
    template <class T>
    Result<std::span<T>> many(std::size_t n) {
        T* const at = heap.take<T>(n);
        if (at == nullptr) return full();
        for (std::size_t i = 0; i < n; i++) new (at + i) T{};
        return std::span<T>{at, n};
    }

    Result<std::string_view> text(const char* name, const toml::node& node, std::size_t most) {
        const auto* s = node.as_string();
        if (s == nullptr) return at(node, (std::string(name) + " is a text in quotes").c_str());
        if (s->get().size() > most)
            return at(node, (std::string(name) + " is at most " + std::to_string(most) + " bytes").c_str());
        return keep(s->get());
    }
    Result<double> number(const char* name, const toml::node& node, double low, double high, bool whole) const {
        const auto v = node.value<double>();
        if (!v || node.is_boolean() || (whole && !node.is_integer()))
            return at(node, (std::string(name) + (whole ? " is a whole number" : " is a number")).c_str());
        if (*v < low || *v > high) {
            char range[96];
            snprintf(range, sizeof range, "%s is %g to %g", name, low, high);
            return at(node, range);
        }
        return *v;
    }
    Result<const toml::table*> table(const char* name, const toml::node& node) const {
        if (const auto* t = node.as_table()) return t;
        return no_table(node, name);
    }
    Result<const toml::array*> list(const char* name, const toml::node& node, std::size_t most) const {
        const auto* a = node.as_array();
        if (a == nullptr || !std::all_of(a->begin(), a->end(), [](const toml::node& n) { return n.is_table(); }))
            return no_list(node, name);
        if (a->size() > most) return at(node, ("at most " + std::to_string(most) + " [[" + name + "]]").c_str());
        return a;
    }
};

}  // namespace slmd::agent
