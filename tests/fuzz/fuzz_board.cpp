// LINK: slmd_hal
// Board files.
#include <cstring>

#include "file.h"
#include "hal/board_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace slmd::hal;
    static const slmd::fuzz::Folder folder;
    const std::string path = folder.put("some.toml", {reinterpret_cast<const char*>(data), size});
    const auto board = read_board_file(path.c_str());
    if (!board) return 0;
    const BoardFile& b = board.value();
    bool good = b.title[0] != 0 && b.compatible_count >= 1 && b.compatible_count <= BoardFile::max_compatible &&
                b.pin_count <= BoardFile::max_pins && b.cluster_count <= BoardFile::max_clusters;
    for (int i = 0; i < b.pin_count; i++)
        good = good && strnlen(b.pins[i].line, sizeof b.pins[i].line) < sizeof b.pins[i].line &&
               line_of(b, b.pins[i].name)[0] != 0;
    if (!good) abort();
    return 0;
}
