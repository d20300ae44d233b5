#include "uplink/wait.h"

#include <poll.h>

#include <algorithm>

namespace slmd::uplink {

Waited wait_for(int fd, short events, const Until& until) {
    for (;;) {
        if (until.is_cut()) return Waited::cut;
        const std::int64_t left = until.deadline - now_ns();
        if (left <= 0) return Waited::late;
        pollfd p{fd, events, 0};
        const auto slice = static_cast<int>(std::min<std::int64_t>((left + 999'999) / 1'000'000, 50));
        if (poll(&p, fd < 0 ? 0 : 1, slice) > 0) return Waited::ready;
    }
}

}  // namespace slmd::uplink
