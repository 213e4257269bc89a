// Large blocks of memory that outlive their owners.
//
// A fresh large allocation costs a page fault for every page and zeros nobody asked for: as much as the
// arithmetic done in it. Blocks given back are kept for the next one of about their size; what is kept is
// never more than what was in use at once.
#pragma once

#include <cstddef>

namespace penstock {

constexpr std::size_t smallest_block = std::size_t{1} << 20;  // smaller ones are malloc's

void* take_block(std::size_t bytes);  // aligned to a page; contents undefined; throws std::bad_alloc
void give_back_block(void* block);
std::size_t kept_blocks();  // bytes that nobody uses at the moment
void free_kept_blocks();

}  // namespace penstock
