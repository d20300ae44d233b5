#include "grammar/schema.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace slmd::grammar {
namespace {

enum class Shape : unsigned char {
    schema,      // a schema
    schemas,     // a list of them, not empty
    named,       // an object of them
    count,       // a whole number, not negative
    number,      // any number
    positive,    // a number above 0
    text,        // a string
    names,       // a list of different strings
    name_lists,  // an object of those
    truth,       // a boolean
    types,       // "type"
    list,        // any list
    any,         // any value
    note,        // describes only
    refused,     // known, and not supported
};

struct Keyword {
    std::string_view name;
    Shape shape;
};

constexpr Keyword keywords[] = {
    {"$schema", Shape::text},
    {"$id", Shape::text},
    {"$anchor", Shape::text},
    {"$ref", Shape::text},
    {"$defs", Shape::named},
    {"definitions", Shape::named},  // what $defs was called
    {"$dynamicRef", Shape::refused},
    {"$dynamicAnchor", Shape::refused},
    {"$vocabulary", Shape::refused},
    {"type", Shape::types},
    {"enum", Shape::list},
    {"const", Shape::any},
    {"allOf", Shape::schemas},
    {"anyOf", Shape::schemas},
    {"oneOf", Shape::schemas},
    {"not", Shape::schema},
    {"if", Shape::schema},
    {"then", Shape::schema},
    {"else", Shape::schema},
    {"minimum", Shape::number},
    {"maximum", Shape::number},
    {"exclusiveMinimum", Shape::number},
    {"exclusiveMaximum", Shape::number},
    {"multipleOf", Shape::positive},
    {"minLength", Shape::count},
    {"maxLength", Shape::count},
    {"pattern", Shape::text},
    {"format", Shape::text},
    {"from", Shape::text},
    {"prefixItems", Shape::schemas},
    {"items", Shape::schema},
    {"contains", Shape::schema},
    {"minContains", Shape::count},
    {"maxContains", Shape::count},
    {"minItems", Shape::count},
    {"maxItems", Shape::count},
    {"uniqueItems", Shape::truth},
    {"unevaluatedItems", Shape::schema},
    {"properties", Shape::named},
    {"patternProperties", Shape::named},
    {"additionalProperties", Shape::schema},
    {"propertyNames", Shape::schema},
    {"required", Shape::names},
    {"minProperties", Shape::count},
    {"maxProperties", Shape::count},
    {"dependentRequired", Shape::name_lists},
    {"dependentSchemas", Shape::named},
    {"unevaluatedProperties", Shape::schema},
    {"$comment", Shape::note},
    {"title", Shape::note},
    {"description", Shape::note},
    {"default", Shape::note},
    {"examples", Shape::note},
    {"deprecated", Shape::note},
    {"readOnly", Shape::note},
    {"writeOnly", Shape::note},
    {"contentEncoding", Shape::note},
    {"contentMediaType", Shape::note},
    {"contentSchema", Shape::note},
};

const Keyword* find_keyword(std::string_view name) {
    for (const Keyword& k : keywords)
        if (k.name == name) return &k;
    return nullptr;
}

constexpr std::string_view types[] = {"null", "boolean", "integer", "number", "string", "array", "object"};

bool is_type(const JsonNode& n) {
    return n.type == JsonType::string && std::find(std::begin(types), std::end(types), n.text) != std::end(types);
}

// A reference within a base (RFC 3986, section 5.2, without its fragment), into out; 0 when it does not fit.
std::size_t join(std::string_view base, std::string_view reference, std::span<char> out) {
    base = base.substr(0, base.find('#'));
    reference = reference.substr(0, reference.find('#'));
    std::size_t size = 0;
    const auto put = [&](std::string_view text) {
        if (size + text.size() > out.size()) return false;
        std::memcpy(out.data() + size, text.data(), text.size());
        size += text.size();
        return true;
    };
    const std::size_t colon = reference.find(':'), slash = reference.find('/');
    if (reference.empty()) return put(base) ? size : 0;
    if (colon != std::string_view::npos && (slash == std::string_view::npos || colon < slash))
        return put(reference) ? size : 0;
    const std::size_t scheme = base.find(':');
    const std::size_t after = scheme == std::string_view::npos ? 0 : scheme + 1;
    std::size_t path = after;
    if (base.substr(after).starts_with("//")) path = std::min(base.find('/', after + 2), base.size());
    std::string_view rest = reference;
    if (rest.starts_with("//")) return put(base.substr(0, after)) && put(rest) ? size : 0;
    const std::size_t last = base.rfind('/');
    const std::string_view folder =
        last == std::string_view::npos || last < path ? "" : base.substr(path, last + 1 - path);
    if (!put(base.substr(0, path))) return 0;
    const std::size_t root = size;
    if (!rest.starts_with('/') && !put(folder)) return 0;
    if (!rest.starts_with('/') && folder.empty() && path > after && !put("/")) return 0;
    if (!put(rest)) return 0;
    // Dot segments, in place.
    std::size_t to = root;
    for (std::size_t from = root; from < size;) {
        const std::size_t end = std::min(std::string_view(out.data(), size).find('/', from), size);
        const std::string_view segment(out.data() + from, end - from);
        const bool more = end < size;
        if (segment == "..") {
            if (to > root) to--;
            while (to > root && out[to - 1] != '/') to--;
        } else if (segment != ".") {
            std::memmove(out.data() + to, segment.data(), segment.size());
            to += segment.size();
            if (more) out[to++] = '/';
        }
        from = end + 1;
    }
    return to;
}

int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

// "foo%22bar" to "foo\"bar", in place.
std::string_view percent_decode(std::span<char> text) {
    std::size_t to = 0;
    for (std::size_t i = 0; i < text.size(); i++) {
        if (text[i] == '%' && i + 2 < text.size() && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
            text[to++] = static_cast<char>(hex(text[i + 1]) << 4 | hex(text[i + 2]));
            i += 2;
        } else {
            text[to++] = text[i];
        }
    }
    return {text.data(), to};
}

// A segment of a JSON pointer (RFC 6901): ~1 is '/', ~0 is '~'.
bool same_segment(std::string_view segment, std::string_view key) {
    std::size_t k = 0;
    for (std::size_t i = 0; i < segment.size(); i++, k++) {
        char c = segment[i];
        if (c == '~' && i + 1 < segment.size() && (segment[i + 1] == '0' || segment[i + 1] == '1'))
            c = segment[++i] == '0' ? '~' : '/';
        if (k >= key.size() || key[k] != c) return false;
    }
    return k == key.size();
}

}  // namespace

int Schema::find(int object, std::string_view key) const {
    int found = -1;
    if (at(object).type == JsonType::object)
        for (int i = first(object); i < end(object); i = next(i))
            if (at(i).key == key) found = i;
    return found;
}

int Schema::count(int node) const {
    int n = 0;
    for (int i = first(node); i < end(node); i = next(i)) n++;
    return n;
}

Schema::Place Schema::place(int node) const {
    Place place{};
    std::size_t used = 0;
    const auto put = [&](std::string_view text) {
        const std::size_t n = std::min(text.size(), sizeof place.text - 1 - used);
        std::memcpy(place.text + used, text.data(), n);
        used += n;
    };
    put("#");
    for (int in = 0; in != node;) {
        int position = 0, i = first(in);
        for (; next(i) <= node; i = next(i)) position++;
        put("/");
        if (at(in).type == JsonType::object) {
            put(at(i).key);
        } else {
            char number[12];
            std::snprintf(number, sizeof number, "%d", position);
            put(number);
        }
        in = i;
    }
    return place;
}

Error Schema::wrong(Code code, int node, const char* what) const {
    return Error::make(code, "schema, %s: %s", place(node).text, what);
}

Result<void> Schema::read(std::span<char> text, Heap& heap) {
    heap_ = &heap;
    resource_count_ = anchor_count_ = 0;
    // A value needs at least two bytes of text with what parts it from the next.
    const std::size_t most = text.size() / 2 + 1;
    JsonNode* const nodes = heap.take<JsonNode>(most);
    if (nodes == nullptr) return Error::make(Code::memory_full, "schema: %zu bytes are too long", text.size());
    nodes_ = {nodes, most};
    JsonReader reader(nodes_, max_depth);
    TRY(reader.parse(text));
    count_ = reader.count();
    nodes_ = nodes_.first(static_cast<std::size_t>(count_));
    heap.release(heap.used() - (most - nodes_.size()) * sizeof(JsonNode));
    target_ = heap.take<int>(nodes_.size());
    resource_ = heap.take<int>(nodes_.size());
    if (target_ == nullptr || resource_ == nullptr)
        return Error::make(Code::memory_full, "schema: %d values are too many", count_);
    std::fill_n(target_, count_, -1);
    std::fill_n(resource_, count_, -1);
    resources_[resource_count_++] = {0, ""};
    TRY(check(0, 0));
    for (int i = 0; i < count_; i++)
        if (resource_[i] >= 0)
            if (const int reference = find(i, "$ref"); reference >= 0) TRY(resolve(i, at(reference).text));
    return {};
}

Result<void> Schema::check_all(int list, int resource) {
    for (int i = first(list); i < end(list); i = next(i)) TRY(check(i, resource));
    return {};
}

Result<void> Schema::check(int schema, int resource) {
    const JsonNode& n = at(schema);
    if (n.type == JsonType::boolean) {
        resource_[schema] = resource;
        return {};
    }
    if (n.type != JsonType::object)
        return wrong(Code::incorrect_parameters, schema, "a schema is an object or a boolean");
    if (const int id = find(schema, "$id"); id >= 0 && at(id).type == JsonType::string) {
        char uri[512];
        const std::size_t size = join(resources_[resource].uri, at(id).text, uri);
        char* const kept = heap_->take<char>(size);
        if (kept == nullptr || resource_count_ == max_resources)
            return wrong(Code::memory_full, id, "too many or too long \"$id\"");
        std::memcpy(kept, uri, size);
        if (schema == 0)
            resources_[resource].uri = {kept, size};
        else
            resources_[resource = resource_count_++] = {schema, {kept, size}};
    }
    resource_[schema] = resource;
    for (int i = first(schema); i < end(schema); i = next(i)) {
        const JsonNode& v = at(i);
        for (int k = first(schema); k < i; k = next(k))
            if (at(k).key == v.key) return wrong(Code::incorrect_parameters, i, "is there twice");
        const Keyword* const keyword = find_keyword(v.key);
        if (keyword == nullptr) {
            if (v.key.starts_with("x-")) continue;
            return wrong(Code::not_supported, i, "this keyword is not supported");
        }
        const auto all_strings = [&](int list) {
            if (at(list).type != JsonType::array) return false;
            for (int k = first(list); k < end(list); k = next(k))
                if (at(k).type != JsonType::string) return false;
            return true;
        };
        switch (keyword->shape) {
            case Shape::schema: TRY(check(i, resource)); break;
            case Shape::schemas:
                if (v.type != JsonType::array || end(i) == first(i))
                    return wrong(Code::incorrect_parameters, i, "must be a list of schemas");
                TRY(check_all(i, resource));
                break;
            case Shape::named:
                if (v.type != JsonType::object)
                    return wrong(Code::incorrect_parameters, i, "must be an object of schemas");
                TRY(check_all(i, resource));
                break;
            case Shape::count:
                if (v.type != JsonType::number || v.number < 0 || v.number > 1e9 ||
                    v.number != static_cast<double>(static_cast<long>(v.number)))
                    return wrong(Code::incorrect_parameters, i, "must be a whole number from 0 to 1000000000");
                break;
            case Shape::number:
                if (v.type != JsonType::number) return wrong(Code::incorrect_parameters, i, "must be a number");
                break;
            case Shape::positive:
                if (v.type != JsonType::number || v.number <= 0)
                    return wrong(Code::incorrect_parameters, i, "must be a number above 0");
                break;
            case Shape::text:
                if (v.type != JsonType::string) return wrong(Code::incorrect_parameters, i, "must be a string");
                if (v.key == "$schema" && v.text != "https://json-schema.org/draft/2020-12/schema")
                    return wrong(Code::not_supported, i,
                                 "is not https://json-schema.org/draft/2020-12/schema, the only one");
                if (v.key == "from" && v.text != "source")
                    return wrong(Code::not_supported, i, "is not \"source\", the only one");
                if (v.key == "$anchor") {
                    if (anchor_count_ == max_anchors) return wrong(Code::memory_full, i, "too many anchors");
                    anchors_[anchor_count_++] = {resource, schema, v.text};
                }
                break;
            case Shape::names:
                if (!all_strings(i)) return wrong(Code::incorrect_parameters, i, "must be a list of strings");
                break;
            case Shape::name_lists:
                if (v.type != JsonType::object) return wrong(Code::incorrect_parameters, i, "must be an object");
                for (int k = first(i); k < end(i); k = next(k))
                    if (!all_strings(k)) return wrong(Code::incorrect_parameters, k, "must be a list of strings");
                break;
            case Shape::truth:
                if (v.type != JsonType::boolean) return wrong(Code::incorrect_parameters, i, "must be true or false");
                break;
            case Shape::types:
                if (v.type == JsonType::array) {
                    for (int k = first(i); k < end(i); k = next(k))
                        if (!is_type(at(k))) return wrong(Code::incorrect_parameters, k, "is no type of JSON Schema");
                } else if (!is_type(v)) {
                    return wrong(Code::incorrect_parameters, i, "is no type of JSON Schema");
                }
                break;
            case Shape::list:
                if (v.type != JsonType::array) return wrong(Code::incorrect_parameters, i, "must be a list");
                break;
            case Shape::any:
            case Shape::note: break;
            case Shape::refused: return wrong(Code::not_supported, i, "this keyword is not supported");
        }
    }
    return {};
}

Result<void> Schema::resolve(int schema, std::string_view reference) {
    char uri[512];
    const int from = resource_[schema];
    const std::size_t size = join(resources_[from].uri, reference, uri);
    const std::string_view wanted(uri, size);
    int resource = -1;
    if (reference.empty() || reference[0] == '#') {
        resource = from;
    } else {
        for (int i = 0; i < resource_count_; i++)
            if (resources_[i].uri == wanted) resource = i;
    }
    if (resource < 0)
        return wrong(Code::not_found, find(schema, "$ref"), "refers to a document that is not in this one");
    const std::size_t hash = reference.find('#');
    char fragment[256];
    const std::string_view written = hash == std::string_view::npos ? "" : reference.substr(hash + 1);
    if (written.size() > sizeof fragment) return wrong(Code::text_too_long, schema, "\"$ref\" is too long");
    std::memcpy(fragment, written.data(), written.size());
    std::string_view rest = percent_decode({fragment, written.size()});
    int node = resources_[resource].node;
    if (!rest.empty() && rest[0] != '/') {
        node = -1;
        for (int i = 0; i < anchor_count_; i++)
            if (anchors_[i].resource == resource && anchors_[i].name == rest) node = anchors_[i].node;
    }
    while (node >= 0 && !rest.empty() && rest[0] == '/') {
        rest.remove_prefix(1);
        const std::string_view segment = rest.substr(0, rest.find('/'));
        rest.remove_prefix(segment.size());
        int found = -1, position = 0;
        char number[12];
        if (at(node).type == JsonType::object || at(node).type == JsonType::array)
            for (int i = first(node); i < end(node); i = next(i), position++) {
                std::snprintf(number, sizeof number, "%d", position);
                if (at(node).type == JsonType::object ? same_segment(segment, at(i).key) : segment == number) found = i;
            }
        node = found;
    }
    if (node < 0 || resource_[node] < 0)
        return wrong(Code::not_found, find(schema, "$ref"), "refers to no schema of this document");
    target_[schema] = node;
    return {};
}

}  // namespace slmd::grammar
