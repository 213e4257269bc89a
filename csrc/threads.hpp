// Who runs what, and how threads wait for one another.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(PENSTOCK_RED_ZONES)
#include <sanitizer/asan_interface.h>
#endif

namespace penstock {

class Barrier;

// Threads working together on one thing. Each share is a range of items; wait() returns when all have come.
struct Team {
    int thread = 0, threads = 1;
    Barrier* barriers = nullptr;  // a binary tree of teams: after place n, at 2n + 1 and 2n + 2, its halves
    int place = 0;

    // Forced inline: compiled for several instruction sets, these must never become one symbol of them all.
    __attribute__((always_inline)) inline std::int64_t begin(std::int64_t items) const {
        return items * thread / threads;
    }
    __attribute__((always_inline)) inline std::int64_t end(std::int64_t items) const {
        return items * (thread + 1) / threads;
    }
    __attribute__((always_inline)) inline void wait() const {
        if (threads > 1) wait_for_others();
    }
    __attribute__((always_inline)) inline int which_half() const { return thread / (threads / 2); }

    Team half() const;  // this thread's half: two teams out of one with an even number of threads
    void wait_for_others() const;
};

// Calls body(context, team) on up to `threads` threads at once, and waits for all of them. The runtime may
// give fewer than asked for: `team.threads` tells.
//
// Where the process already has an OpenMP runtime (torch brings one), its workers are used: a pool of our
// own beside it would fight for the cores with torch's workers, which spin for a while after each operator.
// Without one, and in a forked child (where OpenMP's workers are gone), plain threads are started.
void parallel(int threads, void (*body)(void* context, const Team& team), void* context);

// Whether the calls of this thread follow so closely on one another that the workers, once woken, stay awake
// in between: OpenMP's turn for some milliseconds after their last work. Waking one can take longer than a
// small call does (4 ms where the system puts it on the core of the thread that waits for it), and so can
// starting a thread, so the first calls of a row do not count as such, nor do any without OpenMP, nor those
// of several threads by turns, who have the cores already. To be asked once in each call.
bool calls_are_close();

template <class F> void parallel(int threads, F f) {
    if (threads <= 1) {
        f(Team{});
        return;
    }
    parallel(threads, [](void* context, const Team& team) { (*static_cast<F*>(context))(team); }, &f);
}

// AddressSanitizer's builds (`make sanitize`) forbid all scratch memory and allow what is handed out, slice
// by slice, with something forbidden after each. Elsewhere these do nothing.
#if defined(PENSTOCK_RED_ZONES)
constexpr std::size_t red_zone = 64;
__attribute__((always_inline)) inline void allow_access(void* start, std::size_t bytes) {
    __asan_unpoison_memory_region(start, bytes);
}
__attribute__((always_inline)) inline void forbid_access(void* start, std::size_t bytes) {
    __asan_poison_memory_region(start, bytes);
}
#else
constexpr std::size_t red_zone = 0;
__attribute__((always_inline)) inline void allow_access(void*, std::size_t) {}
__attribute__((always_inline)) inline void forbid_access(void*, std::size_t) {}
#endif

// Scratch memory of the calling thread, 64-byte aligned, kept from call to call and grown when needed: a
// fresh large allocation costs page faults that take as long as the arithmetic. Contents are undefined.
struct Workspace {
    void* data;
    std::size_t bytes;
};
Workspace workspace(std::size_t bytes);

}  // namespace penstock
