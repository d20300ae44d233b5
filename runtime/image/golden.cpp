#include "image/golden.h"

#include <cstring>

#include "base/bytes.h"

namespace slmd::image {

Result<Golden> read_golden(const char* path, std::span<const std::byte> section) {
    Golden out;
    while (!section.empty()) {
        if (out.count == max_golden_prompts)
            return Error::make(Code::model_format, "%s: section golden has more than %u prompts", path,
                               max_golden_prompts);
        if (section.size() < sizeof(GoldenPrompt))
            return Error::make(Code::model_format, "%s: section golden: prompt %u is cut off", path, out.count + 1);
        const auto entry = load<GoldenPrompt>(section.data());
        section = section.subspan(sizeof entry);
        if (entry.tokens == 0 || entry.tokens > max_golden_tokens || entry.answer == 0 ||
            entry.answer > max_golden_answer || section.size() / 4 < entry.tokens)
            return Error::make(Code::model_format, "%s: section golden: prompt %u: impossible sizes", path,
                               out.count + 1);
        Golden::Prompt& prompt = out.prompts[out.count++];
        prompt.tokens = section.first(entry.tokens * std::size_t{4});
        prompt.answer = entry.answer;
        std::memcpy(prompt.sha256.data(), entry.sha256, prompt.sha256.size());
        section = section.subspan(prompt.tokens.size());
    }
    return out;
}

}  // namespace slmd::image
