#include "blocks.hpp"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#if defined(__linux__) || defined(__APPLE__)
#include <pthread.h>
#include <sys/mman.h>
#endif

namespace penstock {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;

class Blocks {
  public:
    void* take(std::size_t bytes) {
        const std::size_t size = (std::max(bytes, std::size_t{1}) + huge_page - 1) / huge_page * huge_page;
        const std::lock_guard lock(mutex_);
        void* block = reuse(size);
        if (!block) block = allocate(size);
        used_ += sizes_[block];
        most_used_ = std::max(most_used_, used_);
        return block;
    }

    void give_back(void* block) {
        const std::lock_guard lock(mutex_);
        const std::size_t size = sizes_.at(block);
        used_ -= size;
        kept_ += size;
        free_.emplace(size, Kept{block, ++given_back_});
        while (kept_ > most_used_) release(oldest());
    }

    std::size_t kept() {
        const std::lock_guard lock(mutex_);
        return kept_;
    }

    void free_kept() {
        const std::lock_guard lock(mutex_);
        while (!free_.empty()) release(free_.begin());
        most_used_ = used_;
    }

    std::mutex& mutex() { return mutex_; }

  private:
    struct Kept {
        void* block;
        std::size_t since;  // how many blocks had been given back by then
    };
    using Free = std::multimap<std::size_t, Kept>;

    void* reuse(std::size_t size) {
        const Free::iterator found = free_.lower_bound(size);
        if (found == free_.end() || found->first > size + size / 2) return nullptr;
        void* block = found->second.block;
        kept_ -= found->first;
        free_.erase(found);
        return block;
    }

    void* allocate(std::size_t size) {
        void* block = std::aligned_alloc(huge_page, size);
        if (!block) {  // what is kept may be what is missing
            while (!free_.empty()) release(free_.begin());
            block = std::aligned_alloc(huge_page, size);
        }
        if (!block) throw std::bad_alloc();
#if defined(__linux__)
        madvise(block, size, MADV_HUGEPAGE);  // a hint, which may be declined
#endif
        sizes_.emplace(block, size);
        return block;
    }

    // What was needed last is what will be needed next: after one long sequence the blocks of many short ones
    // must stay, not its own.
    Free::iterator oldest() {
        return std::min_element(free_.begin(), free_.end(),
                                [](const auto& a, const auto& b) { return a.second.since < b.second.since; });
    }
    void release(Free::iterator which) {
        kept_ -= which->first;
        sizes_.erase(which->second.block);
        std::free(which->second.block);
        free_.erase(which);
    }

    std::mutex mutex_;
    std::map<void*, std::size_t> sizes_;
    Free free_;
    std::size_t used_ = 0, kept_ = 0, most_used_ = 0, given_back_ = 0;
};

// Never destroyed: tensors may be given back while the process ends.
Blocks& blocks() {
    static Blocks* const all = [] {
        static Blocks* made = new Blocks;
#if defined(__linux__) || defined(__APPLE__)
        // No other thread may be in the middle of something when a process is forked.
        pthread_atfork([] { made->mutex().lock(); }, [] { made->mutex().unlock(); },
                       [] { made->mutex().unlock(); });
#endif
        return made;
    }();
    return *all;
}

}  // namespace

void* take_block(std::size_t bytes) { return blocks().take(bytes); }
void give_back_block(void* block) { blocks().give_back(block); }
std::size_t kept_blocks() { return blocks().kept(); }
void free_kept_blocks() { blocks().free_kept(); }

}  // namespace penstock
