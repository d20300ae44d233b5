// toml++, as slmd uses it: no exceptions, and nothing that a file says may end the program or lead it into the
// undefined. Found by fuzzing in 3.3: an assertion where a table's name is none, and, outside of texts and comments,
// letters like § that reach a point which the parser holds for unreachable.
#pragma once
#ifdef NDEBUG
#error "without its assertions toml++ takes for granted what they check"
#endif
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_HEADER_ONLY 1
#define TOML_ASSERT(condition) static_cast<void>(0)
#include <toml++/toml.h>

#include <string>

#include "base/result.h"

namespace slmd::hal {

// The text of a file that toml::parse may be given: outside of texts and comments it is ASCII, as TOML wants it.
// Errors: storage_failure; incorrect_parameters as "file:line: what".
Result<std::string> read_toml(const char* path);

}  // namespace slmd::hal
