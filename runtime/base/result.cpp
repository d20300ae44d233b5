#include "base/result.h"

namespace slmd {

const char* code_text(Code code) {
    switch (code) {
        case Code::not_allowed: return "operation not allowed";
        case Code::not_supported: return "operation not supported";
        case Code::memory_full: return "memory full";
        case Code::invalid_index: return "invalid index";
        case Code::not_found: return "not found";
        case Code::storage_failure: return "memory failure";
        case Code::text_too_long: return "text string too long";
        case Code::invalid_characters: return "invalid characters in text string";
        case Code::incorrect_parameters: return "incorrect parameters";
        case Code::disabled: return "command implemented but currently disabled";
        case Code::aborted: return "command aborted by user";
        case Code::unknown: return "unknown";
        case Code::check_failed: return "check failed";
        case Code::line_too_long: return "line too long";
        case Code::no_model: return "no model loaded";
        case Code::model_format: return "model rejected: format or version";
        case Code::model_integrity: return "model rejected: hash or signature";
        case Code::model_memory: return "not enough memory for model";
        case Code::busy: return "busy, queue full";
        case Code::context_full: return "context full";
        case Code::deadline: return "deadline passed";
        case Code::thermal: return "thermal stop";
        case Code::device_io: return "device I/O failed";
        case Code::client_too_slow: return "client too slow";
        case Code::not_permitted: return "not permitted on this port";
        case Code::shutting_down: return "shutting down";
    }
    return "unknown";
}

}  // namespace slmd
