// slmctl agent graph: a pipeline as a picture.
#pragma once

namespace slmd::client {

// Prints the file's steps and ways as SVG. 0, or 1 with the reason on standard error.
int graph_pipeline(const char* file);

}  // namespace slmd::client
