// The border of a call in bfloat16. Kernels take float32, and bfloat16 matrices beside it: what else comes in
// is widened into scratch memory before the call, and what goes out is computed there and rounded after it.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "arrays.hpp"
#include "blocks.hpp"
#include "instruction_sets.hpp"
#include "threads.hpp"

namespace penstock {

class Lowered {
  public:
    explicit Lowered(int threads) : threads_(threads) {}

    // Arrays of the call, which stay where they are; from `widen` on they are float32.
    void read(Array& array) { add(array, Access::read); }
    void write(Array& array) { add(array, Access::write); }

    void widen() {
        index count = 0;
        for (const Copy& copy : copies_) count += padded(copy.given.count());
        block_.reset(take_block(static_cast<std::size_t>(count) * sizeof(float)));
        float* values = static_cast<float*>(block_.get());
        for (Copy& copy : copies_) {
            copy.values = values;
            *copy.place = copy.given.as_floats(values, copy.strides.data());
            values += padded(copy.given.count());
            if (copy.access == Access::read)
                each_stretch(copy, [](bf16* given, float* here, index length) {
                    kernels().widen(given, here, length);
                });
        }
    }
    void round() {
        for (Copy& copy : copies_)
            if (copy.access == Access::write)
                each_stretch(copy, [](bf16* given, float* here, index length) {
                    kernels().round(here, given, length);
                });
    }

  private:
    struct Copy {
        Array given;
        Array* place;
        Access access;
        float* values = nullptr;
        std::array<index, 4> strides{};
    };
    struct GiveBack {
        void operator()(void* block) const { give_back_block(block); }
    };
    static constexpr index worth_sharing = 1 << 18;  // values

    static index padded(index count) { return (count + 15) / 16 * 16; }  // to whole lines of the cache

    void add(Array& array, Access access) {
        if (!array) return;
        if (array.dtype() != nb::dtype<bf16>())
            throw nb::type_error((std::string(array.name()) + ": expected the dtype of x").c_str());
        copies_.push_back({array, &array, access});
    }

    // Calls convert(values given, values here, how many) for stretches that are contiguous in both.
    template <class Convert> void each_stretch(const Copy& copy, Convert convert) const {
        bf16* const given = copy.given.data<bf16>();
        const index count = copy.given.count();
        const bool whole = copy.given.is_contiguous();
        const index length = whole ? 1 : copy.given.row_length();
        parallel(count < worth_sharing ? 1 : threads_, [&](const Team& team) {
            const index begin = team.begin(count / length), end = team.end(count / length);
            if (whole) return convert(given + begin, copy.values + begin, end - begin);
            for (index row = begin; row < end; ++row)
                convert(given + copy.given.offset_of_row(row), copy.values + row * length, length);
        });
    }

    int threads_;
    std::vector<Copy> copies_;
    std::unique_ptr<void, GiveBack> block_;
};

}  // namespace penstock
