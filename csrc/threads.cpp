#include "threads.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

#if defined(__linux__) || defined(__APPLE__)
#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#endif

namespace penstock {

// Threads that come early turn for a while, then let others run: on a busy machine the one they wait for
// may need their core.
class Barrier {
  public:
    void wait(int threads) {
        const unsigned phase = phase_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
            arrived_.store(0, std::memory_order_relaxed);
            phase_.store(phase + 1, std::memory_order_release);
            return;
        }
        for (int turns = 0; phase_.load(std::memory_order_acquire) == phase; ++turns) {
            if (turns < turns_before_yielding) pause();
            else std::this_thread::yield();
        }
    }

  private:
    static constexpr int turns_before_yielding = 4096;

    static void pause() {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<unsigned> phase_{0};
};

void Team::wait_for_others() const { barriers[place].wait(threads); }

Team Team::half() const {
    const int size = threads / 2;
    return {thread % size, size, barriers, 2 * place + 1 + which_half()};
}

namespace {

struct Work {
    void (*body)(void*, const Team&);
    void* context;
    Barrier barriers[7];  // of all threads, of each half, and of theirs: directions, and groups of rows
};

#if defined(__linux__)
std::atomic<bool> forked{false};
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] { forked = true; });

// GCC's OpenMP runtime, looked up until it is there: torch may be imported after us.
struct OpenMP {
    void (*parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
    int (*thread)() = nullptr;
    int (*threads)() = nullptr;

    static OpenMP find() {
        static std::atomic<const OpenMP*> known{nullptr};
        if (forked) return {};
        if (const OpenMP* const there = known.load(std::memory_order_acquire)) return *there;
        OpenMP found;
        // RTLD_DEFAULT sees what torch made global.
        found.parallel = reinterpret_cast<decltype(parallel)>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
        found.thread = reinterpret_cast<decltype(thread)>(dlsym(RTLD_DEFAULT, "omp_get_thread_num"));
        found.threads = reinterpret_cast<decltype(threads)>(dlsym(RTLD_DEFAULT, "omp_get_num_threads"));
        if (!found) return found;
        static const OpenMP kept = found;
        known.store(&kept, std::memory_order_release);
        return found;
    }
    explicit operator bool() const { return parallel && thread && threads; }
};

struct OpenMPWork {
    Work* work;
    OpenMP openmp;
};

bool run_on_openmp(int threads, Work& work) {
    OpenMPWork all{&work, OpenMP::find()};
    if (!all.openmp) return false;
    all.openmp.parallel(
        [](void* data) {
            const OpenMPWork& w = *static_cast<OpenMPWork*>(data);
            w.work->body(w.work->context, {w.openmp.thread(), w.openmp.threads(), w.work->barriers});
        },
        &all, static_cast<unsigned>(threads), 0);
    return true;
}

bool has_workers() { return static_cast<bool>(OpenMP::find()); }
#else
bool run_on_openmp(int, Work&) { return false; }
bool has_workers() { return false; }
#endif

void run_on_threads(int threads, Work& work) {
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i)
        others.emplace_back([&work, i, threads] { work.body(work.context, {i, threads, work.barriers}); });
    work.body(work.context, {0, threads, work.barriers});
    for (std::thread& other : others) other.join();
}

struct Buffer {
    void* data = nullptr;
    std::size_t bytes = 0;
    ~Buffer() { std::free(data); }
};

constexpr std::size_t page = 4096, huge_page = std::size_t{2} << 20;

}  // namespace

void parallel(int threads, void (*body)(void* context, const Team& team), void* context) {
    Work work{body, context, {}};
    if (!run_on_openmp(threads, work)) run_on_threads(threads, work);
}

bool calls_are_close() {
    using Clock = std::chrono::steady_clock;
    constexpr std::chrono::milliseconds awake{2};
    constexpr int row = 8;  // more than a model calls that runs once in a while
    static std::atomic<const void*> last_caller{nullptr};
    thread_local Clock::time_point before;
    thread_local int close = 0;
    const Clock::time_point now = Clock::now();
    const bool alone = last_caller.exchange(&close, std::memory_order_relaxed) == &close;
    close = alone && now - before < awake ? std::min(close + 1, row) : 0;
    before = now;
    return close == row && has_workers();
}

Workspace workspace(std::size_t bytes) {
    thread_local Buffer buffer;
    if (bytes > buffer.bytes) {
        std::free(buffer.data);
        buffer.bytes = 0;
        const std::size_t unit = bytes >= huge_page ? huge_page : page;
        const std::size_t rounded = (bytes + unit - 1) / unit * unit;
        buffer.data = std::aligned_alloc(unit, rounded);
        if (!buffer.data) throw std::bad_alloc();
#if defined(__linux__)
        // A hint, which may be declined: large pages cost fewer faults and fewer address translations.
        if (unit == huge_page) madvise(buffer.data, rounded, MADV_HUGEPAGE);
#endif
        buffer.bytes = rounded;
    }
    forbid_access(buffer.data, buffer.bytes);
    return {buffer.data, buffer.bytes};
}

}  // namespace penstock
