// toml++, as slmd uses it: no exceptions, and no assertion of its parser may end the program. Its own error follows
// where one would fail: found by fuzzing "[", a table's name that is none.
#pragma once
#ifdef NDEBUG
#error "without its assertions toml++ takes for granted what they check"
#endif
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_HEADER_ONLY 1
#define TOML_ASSERT(condition) static_cast<void>(0)
#include <toml++/toml.h>
