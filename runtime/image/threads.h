// Threads for the time that an image is opened.
#pragma once

namespace slmd::image {

constexpr int max_threads = 16;

// Runs work(context, own) on `threads` threads, max_threads at most, the caller being one of them: `own` there. A
// thread that cannot be made is work for the others.
void run_together(int threads, void (*work)(void* context, bool own), void* context);

// Of a thread's stack, bytes.
constexpr unsigned stack_bytes = 256 * 1024;

}  // namespace slmd::image
