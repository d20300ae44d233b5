#include "image/threads.h"

#include <pthread.h>

#include <algorithm>

namespace slmd::image {

void run_together(int threads, void* (*work)(void*), void* context, void (*own)(void*)) {
    pthread_t others[max_threads];
    int started = 0;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_bytes);
    while (started < std::min(threads, max_threads) - 1 &&
           pthread_create(&others[started], &attributes, work, context) == 0)
        started++;
    pthread_attr_destroy(&attributes);
    own(context);
    for (int i = 0; i < started; i++) pthread_join(others[i], nullptr);
}

}  // namespace slmd::image
