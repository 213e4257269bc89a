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

#ifdef PENSTOCK_X86
// AVX-512, with tiles for float32.
const Kernels& with_tiles() {
    static const Kernels all = [] {
        Kernels k = avx512::kernels();
        const Kernels& tiles = amx::kernels();
        k.name = "amx";
        for (int cell = 0; cell < cells; ++cell) k.f32[cell] = tiles.f32[cell];
        k.product = tiles.product;
        return k;
    }();
    return all;
}
#endif

const InstructionSets& all_sets() {  // best first
    static const InstructionSets all = [] {
        InstructionSets sets;
#ifdef PENSTOCK_X86
        __builtin_cpu_init();
        sets.push_back({"amx", has_amx(), with_tiles});
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

const std::string automatic = "auto";

// What was asked for by name; nullptr: the best for each call.
const InstructionSet* wanted(const std::string& name) {
    return name.empty() || name == automatic ? nullptr : &named(all_sets(), name);
}
const InstructionSet*& chosen() {
    static const InstructionSet* set = [] {
        const char* name = std::getenv("PENSTOCK_INSTRUCTION_SET");
        return wanted(name ? name : "");
    }();
    return set;
}
const InstructionSet* chosen_bf16 = nullptr;

// The best of all that are here, and the best without tiles.
struct Best { const InstructionSet *all = nullptr, *without_tiles = nullptr; };
const Best& best() {
    static const Best found = [] {
        Best b;
        for (const InstructionSet& set : all_sets()) {
            if (!set.supported) continue;
            if (!b.all) b.all = &set;
            if (!b.without_tiles && std::string(set.name) != "amx") b.without_tiles = &set;
        }
        return b;
    }();
    return found;
}

// A tile has sixteen rows, and what goes through tiles is split first, which takes the products of some units
// to pay. Threads have no say in it: the bits would depend on them.
bool tiles_pay(const Layout& layout, index hidden) {
    constexpr index least_rows = 16, least_hidden = 96;  // of a step
    return layout.rows >= least_rows * layout.steps && hidden >= least_hidden;
}

// nullptr where this machine has none.
const InstructionSet* current_bf16() {
    if (chosen_bf16) return chosen_bf16;
    for (const InstructionSet& set : bf16_sets())
        if (set.supported) return chosen_bf16 = &set;
    return nullptr;
}

}  // namespace

const Kernels& kernels() { return (chosen() ? chosen() : best().without_tiles)->kernels(); }
const Kernels& best_kernels() { return (chosen() ? chosen() : best().all)->kernels(); }
const Kernels& kernels_for(const Layout& layout, index hidden) {
    return tiles_pay(layout, hidden) ? best_kernels() : kernels();
}
std::vector<std::string> instruction_set_names() { return names(all_sets()); }
std::string instruction_set() { return chosen() ? chosen()->name : automatic; }
void set_instruction_set(const std::string& name) { chosen() = wanted(name); }

const Kernel<float, bf16>& bf16_kernel(int cell) {
    const InstructionSet* set = current_bf16();
    if (!set) throw std::invalid_argument("weights: expected float32, this processor multiplies no bfloat16");
    return set->kernels().f32_by_bf16[cell];
}
bool multiplies_bf16() { return current_bf16() != nullptr; }
std::vector<std::string> bf16_instruction_set_names() { return names(bf16_sets()); }
void set_bf16_instruction_set(const std::string& name) { chosen_bf16 = &named(bf16_sets(), name); }

}  // namespace penstock
