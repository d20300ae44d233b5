#include "image/threads.h"

#include <pthread.h>

#include <algorithm>

namespace slmd::image {

void run_together(int threads, void (*work)(void* context, bool own), void* context) {
    struct Call {
        void (*work)(void* context, bool own);
        void* context;
    } call{work, context};  // outlives the threads, which are joined here
    const auto run = [](void* c) -> void* {
        const Call& made = *static_cast<const Call*>(c);
        made.work(made.context, false);
        return nullptr;
    };
    pthread_t others[max_threads];
    int started = 0;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_bytes);
    while (started < std::min(threads, max_threads) - 1 &&
           pthread_create(&others[started], &attributes, run, &call) == 0)
        started++;
    pthread_attr_destroy(&attributes);
    work(context, true);
    for (int i = 0; i < started; i++) pthread_join(others[i], nullptr);
}

}  // namespace slmd::image
