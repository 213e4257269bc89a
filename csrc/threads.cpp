#include "threads.hpp"

#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

#if defined(__linux__) || defined(__APPLE__)
#include <dlfcn.h>
#include <pthread.h>
#endif

namespace penstock {
namespace {

struct Team {
    void (*body)(void*, int);
    void* context;
    int count;
    std::atomic<int> next{0};
};

// Shares are taken by counting, not by thread number: the runtime may start fewer threads than asked for.
void take_shares(void* data) {
    Team& team = *static_cast<Team*>(data);
    for (int i; (i = team.next.fetch_add(1)) < team.count;) team.body(team.context, i);
}

#if defined(__linux__)
std::atomic<bool> forked{false};
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] { forked = true; });

using GompParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
GompParallel gomp_parallel() {
    if (forked) return nullptr;
    // Looked up at each call: torch may be imported after us. RTLD_DEFAULT sees what torch made global.
    return reinterpret_cast<GompParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
}
#else
using GompParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
GompParallel gomp_parallel() { return nullptr; }
#endif

struct Buffer {
    void* data = nullptr;
    std::size_t bytes = 0;
    ~Buffer() { std::free(data); }
};

}  // namespace

void parallel(int count, void (*body)(void* context, int i), void* context) {
    Team team{body, context, count};
    if (const GompParallel openmp = gomp_parallel()) {
        openmp(take_shares, &team, static_cast<unsigned>(count), 0);
        return;
    }
    std::vector<std::thread> others;
    for (int i = 1; i < count; ++i) others.emplace_back(take_shares, &team);
    take_shares(&team);
    for (std::thread& other : others) other.join();
}

void* workspace(std::size_t bytes) {
    thread_local Buffer buffer;
    if (bytes > buffer.bytes) {
        std::free(buffer.data);
        buffer.bytes = 0;
        const std::size_t rounded = (bytes + 4095) / 4096 * 4096;
        buffer.data = std::aligned_alloc(4096, rounded);
        if (!buffer.data) throw std::bad_alloc();
        buffer.bytes = rounded;
    }
    return buffer.data;
}

}  // namespace penstock
