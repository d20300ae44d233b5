// The JSON of one line of the protocol.
#pragma once
#include "base/json.h"

namespace slmd::wire {

class JsonLine : public slmd::JsonReader {
  public:
    static constexpr int max_nodes = 1280, max_depth = 8;  // 512 labels and their priors
    JsonLine() : slmd::JsonReader(storage_, max_depth) { leave(left); }

  private:
    static constexpr std::string_view left[] = {"schema", "input", "value", "tools", "calls", "embeddings"};
    JsonNode storage_[max_nodes];
};

}  // namespace slmd::wire
