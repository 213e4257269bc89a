// For the proofs and the benchmarks: activations as the cells compute them, and what this machine can do.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>

#include "calls.hpp"

using namespace nanobind::literals;

namespace penstock {

namespace {

template <class T> void activate(const Activations<T>& known, const std::string& name, const Array& x,
                                 const Array& y) {
    const auto apply = name == "sigmoid" ? known.sigmoid : name == "tanh" ? known.tanh : nullptr;
    if (!apply) throw std::invalid_argument("name: expected sigmoid or tanh, got " + name);
    const index count = x.count();
    const T* from = x.contiguous<const T>({count});
    T* to = y.contiguous<T>({count});
    nb::gil_scoped_release released;
    apply(from, to, count);
}

void activation(const std::string& name, nb::handle x, nb::handle y) {
    const Array from(x, "x"), to(y, "y", Access::write);
    if (from.dtype() == nb::dtype<float>()) return activate(kernels().f32_activations, name, from, to);
    if (from.dtype() == nb::dtype<double>()) return activate(kernels().f64_activations, name, from, to);
    throw nb::type_error("x: expected dtype float32 or float64");
}

// How much of `work`, which returns what it did, is done in a nanosecond: the best of many short bursts, as
// what else the machine does costs some of them, not all.
template <class Work> double fastest(double seconds, Work work) {
    if (!(seconds > 0))
        throw std::invalid_argument("seconds: expected more than 0, got " + std::to_string(seconds));
    using Clock = std::chrono::steady_clock;
    using Seconds = std::chrono::duration<double>;
    nb::gil_scoped_release released;
    const Clock::time_point start = Clock::now();
    double best = 0;
    for (Clock::time_point from = start, to; Seconds(from - start).count() < seconds; from = to) {
        const double done = static_cast<double>(work());
        to = Clock::now();
        best = std::max(best, done / Seconds(to - from).count() * 1e-9);
    }
    return best;
}

double measure_peak(double seconds) {
    const Kernels& k = kernels();
    return fastest(seconds, [&] { return k.multiply_adds(100'000); });
}

using Block = std::unique_ptr<void, void (*)(void*)>;
Block new_block(std::size_t bytes) { return {take_block(bytes), give_back_block}; }

// Numbers like any others: zeros draw less power, and the processor would run faster. Halves of them are
// numbers of bfloat16 too, all from 0.5 to 2, of both signs.
void fill_with_numbers(void* memory, std::size_t bytes) {
    std::uint32_t bits = 1;
    std::uint16_t* const halves = static_cast<std::uint16_t*>(memory);
    for (std::size_t i = 0; i < bytes / sizeof *halves; ++i) {
        bits = bits * 1664525u + 1013904223u;
        halves[i] = static_cast<std::uint16_t>(0x3f00 | (bits >> 16 & 0x80ff));
    }
}

double measure_product(index rows, index depth, index columns, double seconds) {
    constexpr double least = 1e7;  // operations of a burst
    if (std::min({rows, depth, columns}) <= 0)
        throw std::invalid_argument("rows, depth, columns: expected more than 0");
    const double operations = 2.0 * static_cast<double>(rows) * static_cast<double>(depth * columns);
    const index times = 1 + static_cast<index>(least / operations);
    const auto speed_of = [&](const Kernels& k) {
        const std::size_t bytes = k.product(nullptr, 0, rows, depth, columns, 0);
        const Block block = new_block(bytes);
        fill_with_numbers(block.get(), bytes);
        return fastest(seconds, [&] {
            k.product(block.get(), bytes, rows, depth, columns, times);
            return operations * static_cast<double>(times);
        });
    };
    const Kernels &by_vectors = kernels(), &best = best_kernels();
    const bool has_tiles = best.product != by_vectors.product;
    return std::max(speed_of(by_vectors), has_tiles ? speed_of(best) : 0);
}

double measure_gates(const std::string& cell, bool backwards, double seconds) {
    const auto alone = kernel_of<float>(cell_named(cell)).gates_alone;
    return fastest(seconds, [&] { return alone(backwards, 1'000); });
}

double measure_reading(nb::handle array, double seconds) {
    constexpr index unit = 1024, least = 1 << 18;
    const Array numbers(array, "array");
    if (numbers.dtype() != nb::dtype<float>()) throw nb::type_error("array: expected dtype float32");
    numbers.check_contiguous();
    const float* from = numbers.data<const float>();
    const index count = numbers.count() / unit * unit;
    if (!count)
        throw std::invalid_argument("array: expected at least " + std::to_string(unit) + " numbers, got " +
                                    std::to_string(numbers.count()));
    const index times = 1 + least / count;
    const Kernels& k = kernels();
    return fastest(seconds, [&] {
        for (index n = 0; n < times; ++n) k.read_all(from, count);
        return 4 * count * times;
    });
}

}  // namespace

void bind_measurements(nb::module_& m) {
    m.def("activation", &activation, "name"_a, "x"_a, "y"_a,
          "`sigmoid` or `tanh` of each value of x (n,) as the cells compute it, into y (n,).");
    m.def("measure_peak", &measure_peak, "seconds"_a,
          "Float32 multiply-adds of one thread with the instruction set in use, in GFLOP/s.");
    m.def(
        "measure_product", &measure_product, "rows"_a, "depth"_a, "columns"_a, "seconds"_a,
        "The same in a product of float32 matrices of these sizes, by tiles if that is faster and allowed.");
    m.def("measure_gates", &measure_gates, "cell"_a, "backwards"_a, "seconds"_a,
          "What one thread computes of a cell beside its products, in float32: units a nanosecond.");
    m.def("measure_reading", &measure_reading, "array"_a, "seconds"_a,
          "How fast one thread reads an array of float32 again and again, but for its last values, in GB/s.");
}

}  // namespace penstock
