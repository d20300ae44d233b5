#include "client/route.h"

#include <stdio.h>

#include <vector>

#include "client/caller.h"
#include "route/redact.h"

namespace slmd::client {

int preview_route(const std::string& text, std::span<const char* const> terms) {
    const std::vector<std::string_view> names(terms.begin(), terms.end());
    std::vector<char> values(text.size() + 1), out(2 * text.size() + 32 * route::Redactor::max_findings);
    std::vector<route::Redactor::Value> table(route::Redactor::max_findings);
    route::Redactor redactor(values, table, names);
    auto leaves = redactor.redact(text, out);
    if (!leaves) return complain(leaves.error(), exit_failed);
    fwrite(leaves->data(), 1, leaves->size(), stdout);
    if (!leaves->ends_with('\n')) putchar('\n');
    for (const route::Finding& f : redactor.findings())
        fprintf(stderr, "%-6s bytes %zu to %zu\n", route::name_of(f.kind), f.begin, f.end);
    return 0;
}

}  // namespace slmd::client
