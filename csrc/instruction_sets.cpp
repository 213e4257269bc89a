#include "instruction_sets.hpp"

#include <cstdlib>
#include <stdexcept>

#ifdef PENSTOCK_X86
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace penstock {

#define PENSTOCK_DECLARE(isa) \
    namespace isa {           \
    const Kernels& kernels(); \
    }
PENSTOCK_DECLARE(baseline)
#ifdef PENSTOCK_X86
PENSTOCK_DECLARE(avx2)
PENSTOCK_DECLARE(avx512)
PENSTOCK_DECLARE(avx512_bf16)
PENSTOCK_DECLARE(amx)
#endif

namespace {

struct InstructionSet {
    const char* name;
    bool supported;
    const Kernels& (*kernels)();
};
using InstructionSets = std::vector<InstructionSet>;

#ifdef PENSTOCK_X86

bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

bool has_avx512_bf16() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return has_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
}

// Tiles are large: a process asks the system for the right to use them.
bool has_amx() {
#if defined(__linux__)
    constexpr long request_permission = 0x1023, tile_data = 18;
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!has_avx512_bf16() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    const bool tiles = d >> 24 & 1, bf16 = d >> 22 & 1;
    return tiles && bf16 && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return false;
#endif
}

#endif

const InstructionSets& all_sets() {  // best first
    static const InstructionSets all = [] {
        InstructionSets sets;
#ifdef PENSTOCK_X86
        __builtin_cpu_init();
        sets.push_back({"avx512", has_avx512(), avx512::kernels});
        sets.push_back(
            {"avx2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), avx2::kernels});
#endif
        sets.push_back({"baseline", true, baseline::kernels});
        return sets;
    }();
    return all;
}

const InstructionSets& bf16_sets() {
    static const InstructionSets all = [] {
        InstructionSets sets;
#ifdef PENSTOCK_X86
        __builtin_cpu_init();
        sets.push_back({"amx", has_amx(), amx::kernels});
        sets.push_back({"avx512_bf16", has_avx512_bf16(), avx512_bf16::kernels});
#endif
        return sets;
    }();
    return all;
}

std::vector<std::string> names(const InstructionSets& sets) {
    std::vector<std::string> supported;
    for (const InstructionSet& set : sets)
        if (set.supported) supported.push_back(set.name);
    return supported;
}

const InstructionSet& named(const InstructionSets& sets, const std::string& name) {
    std::string known;
    for (const InstructionSet& set : sets) {
        if (!set.supported) continue;
        if (name == set.name) return set;
        known += (known.empty() ? "" : ", ") + std::string(set.name);
    }
    throw std::invalid_argument("instruction set: expected one of " + known + ", got " + name);
}

const InstructionSet *chosen = nullptr, *chosen_bf16 = nullptr;

const InstructionSet& current() {
    if (!chosen) {
        const char* wanted = std::getenv("PENSTOCK_INSTRUCTION_SET");
        chosen = &named(all_sets(), wanted && *wanted ? wanted : names(all_sets()).front());
    }
    return *chosen;
}

// nullptr where this machine has none.
const InstructionSet* current_bf16() {
    if (chosen_bf16) return chosen_bf16;
    for (const InstructionSet& set : bf16_sets())
        if (set.supported) return chosen_bf16 = &set;
    return nullptr;
}

}  // namespace

const Kernels& kernels() { return current().kernels(); }
std::vector<std::string> instruction_set_names() { return names(all_sets()); }
std::string instruction_set() { return current().name; }
void set_instruction_set(const std::string& name) { chosen = &named(all_sets(), name); }

const Kernel<float, bf16>& bf16_kernel(int cell) {
    const InstructionSet* set = current_bf16();
    if (!set) throw std::invalid_argument("weights: expected float32, this processor multiplies no bfloat16");
    const Kernel<float, bf16>& kernel = set->kernels().f32_by_bf16[cell];
    if (!kernel.forward)
        throw std::invalid_argument("weights: expected float32, this cell has no products of bfloat16");
    return kernel;
}
bool multiplies_bf16(int cell) {
    const InstructionSet* set = current_bf16();
    return set && set->kernels().f32_by_bf16[cell].forward;
}
std::vector<std::string> bf16_instruction_set_names() { return names(bf16_sets()); }
void set_bf16_instruction_set(const std::string& name) { chosen_bf16 = &named(bf16_sets(), name); }

}  // namespace penstock
