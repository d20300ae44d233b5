// The JSON of one line of the protocol.
#pragma once
#include "base/json.h"

namespace slmd::wire {

class JsonReader : public slmd::JsonReader {
  public:
    static constexpr int max_nodes = 160, max_depth = 8;
    JsonReader() : slmd::JsonReader(storage_, max_depth) { leave("schema"); }

  private:
    JsonNode storage_[max_nodes];
};

}  // namespace slmd::wire
