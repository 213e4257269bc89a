// Which kernels run on the machine at hand.
#pragma once

#include <string>
#include <vector>

#include "kernels.hpp"

namespace penstock {

// Of the instruction set in use. Unless one is named ("auto"), those without tiles, and for float32 calls of
// some sizes those with them.
const Kernels& kernels();
const Kernels& kernels_for(const Layout& layout, index hidden);
const Kernels& best_kernels();  // those with tiles, where any call has them
std::vector<std::string> instruction_set_names();
std::string instruction_set();
void set_instruction_set(const std::string& name);

// Kernels with products of bfloat16 go with AVX-512; throws std::invalid_argument where there are none.
const Kernel<float, bf16>& bf16_kernel(int cell);
bool multiplies_bf16();
std::vector<std::string> bf16_instruction_set_names();
void set_bf16_instruction_set(const std::string& name);

}  // namespace penstock
