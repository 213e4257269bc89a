// nanobind: checked arrays in, raw pointers out. Any array with DLPack works: NumPy, torch, JAX.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock {

#define PENSTOCK_DECLARE(isa) \
    namespace isa {           \
    const Kernels& kernels(); \
    }
PENSTOCK_DECLARE(baseline)
#ifdef PENSTOCK_X86
PENSTOCK_DECLARE(avx2)
PENSTOCK_DECLARE(avx512)
#endif

namespace {

using In = nb::ndarray<nb::ro, nb::device::cpu>;
using Out = nb::ndarray<nb::device::cpu>;
template <class A> using Maybe = std::optional<A>;
using Shape = std::vector<index>;

// ---- instruction sets ----------------------------------------------------------------------------------

struct InstructionSet {
    const char* name;
    bool supported;
    const Kernels& (*kernels)();
};

const std::vector<InstructionSet>& instruction_sets() {  // best first
    static const std::vector<InstructionSet> all = [] {
        std::vector<InstructionSet> sets;
#ifdef PENSTOCK_X86
        __builtin_cpu_init();
        const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        sets.push_back({"avx512", avx512, avx512::kernels});
        sets.push_back({"avx2", avx2, avx2::kernels});
#endif
        sets.push_back({"baseline", true, baseline::kernels});
        return sets;
    }();
    return all;
}

const InstructionSet& named_set(const std::string& name) {
    std::string known;
    for (const InstructionSet& set : instruction_sets()) {
        if (!set.supported) continue;
        if (name == set.name) return set;
        known += known.empty() ? set.name : std::string(", ") + set.name;
    }
    throw std::invalid_argument("instruction set: expected one of " + known + ", got " + name);
}

const InstructionSet* chosen_set = nullptr;

const InstructionSet& current_set() {
    if (!chosen_set) {
        const char* wanted = std::getenv("PENSTOCK_INSTRUCTION_SET");
        if (wanted && *wanted) {
            chosen_set = &named_set(wanted);
        } else {
            for (const InstructionSet& set : instruction_sets())
                if (set.supported && !chosen_set) chosen_set = &set;
        }
    }
    return *chosen_set;
}

std::vector<std::string> supported_sets() {
    std::vector<std::string> names;
    for (const InstructionSet& set : instruction_sets())
        if (set.supported) names.push_back(set.name);
    return names;
}

// ---- checks --------------------------------------------------------------------------------------------

std::string text(const Shape& shape) {
    std::string out = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
    return out + (shape.size() == 1 ? ",)" : ")");
}

template <class A> Shape shape_of(const A& array) {
    Shape shape(array.ndim());
    for (std::size_t i = 0; i < shape.size(); ++i) shape[i] = static_cast<index>(array.shape(i));
    return shape;
}

template <class A> void check_shape(const A& array, const Shape& expected, const char* name) {
    if (const Shape got = shape_of(array); got != expected)
        throw std::invalid_argument(std::string(name) + ": expected shape " + text(expected) + ", got " +
                                    text(got));
}

template <class T, class A> void check_dtype(const A& array, const char* name) {
    if (array.dtype() != nb::dtype<T>())
        throw nb::type_error((std::string(name) + ": expected the dtype of x").c_str());
}

template <class A> bool is_contiguous(const A& array) {
    if (array.size() == 0) return true;
    index expected = 1;
    for (std::size_t i = array.ndim(); i-- > 0;) {
        if (array.shape(i) > 1 && array.stride(i) != expected) return false;
        expected *= static_cast<index>(array.shape(i));
    }
    return true;
}

template <class T, class A>
auto pointer(const Maybe<A>& array, const Shape& shape, const char* name) -> decltype((T*)nullptr) {
    if (!array) return nullptr;
    check_dtype<std::remove_const_t<T>>(*array, name);
    check_shape(*array, shape, name);
    if (!is_contiguous(*array))
        throw std::invalid_argument(std::string(name) + ": expected a contiguous array");
    return static_cast<T*>(array->data());
}

// The caller's sequences are (T, B, n) with any strides over T and B, or packed: (rows, n).
template <class T, class A>
Sequence<T> sequence(const Maybe<A>& array, const Layout& layout, bool packed, index features,
                     const char* name) {
    if (!array) return {};
    check_dtype<std::remove_const_t<T>>(*array, name);
    const Shape expected =
        packed ? Shape{layout.rows, features} : Shape{layout.steps, layout.batch, features};
    check_shape(*array, expected, name);
    const std::size_t last = array->ndim() - 1;
    if (features > 1 && array->stride(last) != 1)
        throw std::invalid_argument(std::string(name) + ": expected the last dimension to be contiguous");
    T* data = static_cast<T*>(array->data());
    // An empty array may have no address; nullptr would mean "not given".
    static std::remove_const_t<T> nowhere;
    if (!data) data = &nowhere;
    return {data, array->stride(0), packed ? array->stride(0) : array->stride(1)};
}

// ---- layout --------------------------------------------------------------------------------------------

struct OwnedLayout {
    std::vector<index> active, offset, step_position, row_position;
    Layout layout{};

    void finish(index batch, bool zero_padding) {
        offset.resize(active.size());
        std::exclusive_scan(active.begin(), active.end(), offset.begin(), index{0});
        const index rows = active.empty() ? 0 : offset.back() + active.back();
        layout = {static_cast<index>(active.size()),
                  batch,
                  rows,
                  active.data(),
                  offset.data(),
                  step_position.data(),
                  row_position.data(),
                  row_position.data(),
                  zero_padding};
    }

    // Sequences (T, B, n): row b runs for lengths[b] steps, or for all of them.
    void padded(index steps, index batch, const Maybe<In>& lengths) {
        active.assign(steps, batch);
        step_position.resize(steps);
        row_position.resize(batch);
        std::iota(step_position.begin(), step_position.end(), 0);
        std::iota(row_position.begin(), row_position.end(), 0);
        if (lengths) {
            const index* values = integers(*lengths, "lengths");
            check_shape(*lengths, {batch}, "lengths");
            for (index b = 0; b < batch; ++b)
                if (values[b] < 0 || values[b] > steps)
                    throw std::invalid_argument("lengths: expected values from 0 to the time dimension " +
                                                std::to_string(steps) + ", got " + std::to_string(values[b]) +
                                                " at index " + std::to_string(b));
            std::stable_sort(row_position.begin(), row_position.end(),
                             [&](index a, index b) { return values[a] > values[b]; });
            for (index t = 0, running = batch; t < steps; ++t) {
                while (running > 0 && values[row_position[running - 1]] <= t) --running;
                active[t] = running;
            }
        }
        finish(batch, lengths.has_value());
    }

    // Sequences (rows, n) as in torch's PackedSequence: batch_sizes[t] rows at step t.
    void packed(index rows, const In& batch_sizes) {
        const index* values = integers(batch_sizes, "batch_sizes");
        const index steps = static_cast<index>(batch_sizes.shape(0));
        active.assign(values, values + steps);
        for (index t = 0; t < steps; ++t)
            if (active[t] < 1 || (t && active[t] > active[t - 1]))
                throw std::invalid_argument("batch_sizes: expected positive values that never rise");
        const index batch = steps ? active[0] : 0;
        row_position.resize(batch);
        std::iota(row_position.begin(), row_position.end(), 0);
        finish(batch, false);
        step_position = offset;
        layout.step_position = step_position.data();
        if (layout.rows != rows)
            throw std::invalid_argument("batch_sizes: expected a sum of " + std::to_string(rows) +
                                        " rows, got " + std::to_string(layout.rows));
    }

    static const index* integers(const In& array, const char* name) {
        if (array.dtype() != nb::dtype<std::int64_t>() || array.ndim() != 1 || !is_contiguous(array))
            throw nb::type_error((std::string(name) + ": expected a contiguous int64 vector").c_str());
        return static_cast<const index*>(array.data());
    }
};

OwnedLayout layout_of(const In& x, const Maybe<In>& lengths, const Maybe<In>& batch_sizes) {
    const std::size_t dimensions = batch_sizes ? 2 : 3;
    if (x.ndim() != dimensions)
        throw std::invalid_argument("x: expected " + std::to_string(dimensions) + " dimensions, got " +
                                    std::to_string(x.ndim()));
    OwnedLayout owned;
    if (batch_sizes) owned.packed(static_cast<index>(x.shape(0)), *batch_sizes);
    else owned.padded(static_cast<index>(x.shape(0)), static_cast<index>(x.shape(1)), lengths);
    return owned;
}

// ---- calls ---------------------------------------------------------------------------------------------

const std::array<const char*, cells> cell_names = {"rnn_tanh",      "rnn_relu", "lstm",
                                                   "lstm_peephole", "gru",      "gru_reset_before"};

int cell_named(const std::string& name) {
    for (int cell = 0; cell < cells; ++cell)
        if (name == cell_names[cell]) return cell;
    throw std::invalid_argument("cell: unknown name " + name);
}

template <class T> const Kernel<T>& kernel_of(int cell) {
    const Kernels& k = current_set().kernels();
    if constexpr (std::is_same_v<T, float>) return k.f32[cell];
    else return k.f64[cell];
}

struct WeightShapes { index input, hidden, output, gates; };

template <class W> WeightShapes weight_shapes(const W& weights, int gates) {
    if (!weights[0] || !weights[1] || weights[0]->ndim() != 2 || weights[1]->ndim() != 2)
        throw std::invalid_argument("weights: expected matrices weight_ih and weight_hh");
    return {static_cast<index>(weights[0]->shape(1)), static_cast<index>(weights[0]->shape(0)) / gates,
            static_cast<index>(weights[1]->shape(1)), gates};
}

// Order: weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, weight_peephole.
template <class T, class W> Weights<T> weight_pointers(const W& w, const WeightShapes& s) {
    const index rows = s.gates * s.hidden;
    return {pointer<T>(w[0], {rows, s.input}, "weight_ih"),
            pointer<T>(w[1], {rows, s.output}, "weight_hh"),
            pointer<T>(w[2], {rows}, "bias_ih"),
            pointer<T>(w[3], {rows}, "bias_hh"),
            pointer<T>(w[4], {s.output, s.hidden}, "weight_hr"),
            pointer<T>(w[5], {3 * s.hidden}, "weight_peephole")};
}

using InWeights = std::array<Maybe<In>, 6>;
using OutWeights = std::array<Maybe<Out>, 6>;

template <class Arguments, class T>
Arguments common(int cell, const InWeights& weights, const In& x, const OwnedLayout& owned, bool packed,
                 const Maybe<In>& h0, const Maybe<In>& c0, bool reverse, int threads) {
    const WeightShapes s = weight_shapes(weights, kernel_of<T>(cell).gates);
    Arguments a;
    a.input = s.input, a.hidden = s.hidden, a.output = s.output;
    a.reverse = reverse, a.threads = std::max(threads, 1);
    a.layout = owned.layout;
    a.weights = weight_pointers<const T>(weights, s);
    if (!a.weights.projection && s.output != s.hidden)
        throw std::invalid_argument("weight_hh: expected " + std::to_string(s.hidden) + " columns, got " +
                                    std::to_string(s.output));
    a.x = sequence<const T>(Maybe<In>(x), a.layout, packed, s.input, "x");
    a.h0 = pointer<const T>(h0, {a.layout.batch, s.output}, "h0");
    a.c0 = pointer<const T>(c0, {a.layout.batch, s.hidden}, "c0");
    return a;
}

template <class T>
void forward(int cell, const InWeights& weights, const In& x, const Maybe<In>& h0, const Maybe<In>& c0,
             const Maybe<Out>& y, const Maybe<Out>& h_n, const Maybe<Out>& c_n, const Maybe<Out>& cell_states,
             const Maybe<Out>& reserve, const Maybe<In>& lengths, const Maybe<In>& batch_sizes, bool reverse,
             int threads) {
    const OwnedLayout owned = layout_of(x, lengths, batch_sizes);
    const bool packed = batch_sizes.has_value();
    auto a = common<ForwardArguments<T>, T>(cell, weights, x, owned, packed, h0, c0, reverse, threads);
    const Kernel<T>& kernel = kernel_of<T>(cell);
    a.y = sequence<T>(y, a.layout, packed, a.output, "y");
    a.cell_states = sequence<T>(cell_states, a.layout, packed, a.hidden, "cell_states");
    a.h_n = pointer<T>(h_n, {a.layout.batch, a.output}, "h_n");
    a.c_n = pointer<T>(c_n, {a.layout.batch, a.hidden}, "c_n");
    if (!a.y.data || (a.layout.batch && !a.h_n) || (a.layout.batch && kernel.has_cell_state && !a.c_n))
        throw std::invalid_argument("y, h_n and, for a cell with a cell state, c_n are required");
    if (reserve) {
        const index needed = kernel.reserve_size(a.layout.rows, a.hidden, a.output);
        check_dtype<T>(*reserve, "reserve");
        if (static_cast<index>(reserve->size()) < needed || !is_contiguous(*reserve))
            throw std::invalid_argument("reserve: expected " + std::to_string(needed) + " contiguous values");
        a.reserve = static_cast<T*>(reserve->data());
    }
    nb::gil_scoped_release released;
    kernel.forward(&a, 1);
}

template <class T>
void backward(int cell, const InWeights& weights, const In& x, const Maybe<In>& h0, const Maybe<In>& c0,
              const In& reserve, const Maybe<In>& d_y, const Maybe<In>& d_h_n, const Maybe<In>& d_c_n,
              const Maybe<In>& d_cell_states, const Maybe<Out>& d_x, const Maybe<Out>& d_h0,
              const Maybe<Out>& d_c0, const OutWeights& d_weights, const Maybe<In>& lengths,
              const Maybe<In>& batch_sizes, bool reverse, int threads) {
    const OwnedLayout owned = layout_of(x, lengths, batch_sizes);
    const bool packed = batch_sizes.has_value();
    auto a = common<BackwardArguments<T>, T>(cell, weights, x, owned, packed, h0, c0, reverse, threads);
    const Kernel<T>& kernel = kernel_of<T>(cell);
    check_dtype<T>(reserve, "reserve");
    if (static_cast<index>(reserve.size()) < kernel.reserve_size(a.layout.rows, a.hidden, a.output))
        throw std::invalid_argument("reserve: not the one of this forward pass");
    a.reserve = static_cast<const T*>(reserve.data());
    a.d_y = sequence<const T>(d_y, a.layout, packed, a.output, "d_y");
    a.d_cell_states = sequence<const T>(d_cell_states, a.layout, packed, a.hidden, "d_cell_states");
    a.d_h_n = pointer<const T>(d_h_n, {a.layout.batch, a.output}, "d_h_n");
    a.d_c_n = pointer<const T>(d_c_n, {a.layout.batch, a.hidden}, "d_c_n");
    a.d_x = sequence<T>(d_x, a.layout, packed, a.input, "d_x");
    a.d_h0 = pointer<T>(d_h0, {a.layout.batch, a.output}, "d_h0");
    a.d_c0 = pointer<T>(d_c0, {a.layout.batch, a.hidden}, "d_c0");
    a.d_weights = weight_pointers<T>(d_weights, {a.input, a.hidden, a.output, kernel.gates});
    nb::gil_scoped_release released;
    kernel.backward(&a, 1);
}

template <class... Parameters, class... Arguments>
void by_dtype(const In& x, void (*f32)(Parameters...), void (*f64)(Parameters...), Arguments&&... arguments) {
    if (x.dtype() == nb::dtype<float>()) return f32(arguments...);
    if (x.dtype() == nb::dtype<double>()) return f64(arguments...);
    throw nb::type_error("x: expected dtype float32 or float64");
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "Penstock's kernels: raw arrays in, raw arrays out. Shapes: csrc/kernels.hpp.";

    m.def("instruction_sets", &supported_sets, "The instruction sets this machine can run, best first.");
    m.def("instruction_set", [] { return std::string(current_set().name); }, "The one in use.");
    m.def(
        "set_instruction_set", [](const std::string& name) { chosen_set = &named_set(name); }, "name"_a,
        "Use another one from the next call on.");
    m.def(
        "reserve_size",
        [](const std::string& cell, index rows, index hidden, index output, bool is_float64) {
            const int c = cell_named(cell);
            return is_float64 ? kernel_of<double>(c).reserve_size(rows, hidden, output)
                              : kernel_of<float>(c).reserve_size(rows, hidden, output);
        },
        "cell"_a, "rows"_a, "hidden"_a, "output"_a, "is_float64"_a,
        "Values of x's dtype that forward keeps for backward, for `rows` (step, row) pairs.");

    m.def(
        "forward",
        [](const std::string& cell, const InWeights& weights, const In& x, const Maybe<In>& h0,
           const Maybe<In>& c0, const Maybe<Out>& y, const Maybe<Out>& h_n, const Maybe<Out>& c_n,
           const Maybe<Out>& cell_states, const Maybe<Out>& reserve, const Maybe<In>& lengths,
           const Maybe<In>& batch_sizes, bool reverse, int threads) {
            by_dtype(x, forward<float>, forward<double>, cell_named(cell), weights, x, h0, c0, y, h_n, c_n,
                     cell_states, reserve, lengths, batch_sizes, reverse, threads);
        },
        nb::kw_only(), "cell"_a, "weights"_a, "x"_a, "h0"_a.none(), "c0"_a.none(), "y"_a, "h_n"_a,
        "c_n"_a.none(), "cell_states"_a.none(), "reserve"_a.none(), "lengths"_a.none(),
        "batch_sizes"_a.none(), "reverse"_a, "threads"_a,
        "One layer, one direction, into y, h_n, c_n, cell_states and reserve.");

    m.def(
        "backward",
        [](const std::string& cell, const InWeights& weights, const In& x, const Maybe<In>& h0,
           const Maybe<In>& c0, const In& reserve, const Maybe<In>& d_y, const Maybe<In>& d_h_n,
           const Maybe<In>& d_c_n, const Maybe<In>& d_cell_states, const Maybe<Out>& d_x,
           const Maybe<Out>& d_h0, const Maybe<Out>& d_c0, const OutWeights& d_weights,
           const Maybe<In>& lengths, const Maybe<In>& batch_sizes, bool reverse, int threads) {
            by_dtype(x, backward<float>, backward<double>, cell_named(cell), weights, x, h0, c0, reserve, d_y,
                     d_h_n, d_c_n, d_cell_states, d_x, d_h0, d_c0, d_weights, lengths, batch_sizes, reverse,
                     threads);
        },
        nb::kw_only(), "cell"_a, "weights"_a, "x"_a, "h0"_a.none(), "c0"_a.none(), "reserve"_a,
        "d_y"_a.none(), "d_h_n"_a.none(), "d_c_n"_a.none(), "d_cell_states"_a.none(), "d_x"_a.none(),
        "d_h0"_a.none(), "d_c0"_a.none(), "d_weights"_a, "lengths"_a.none(), "batch_sizes"_a.none(),
        "reverse"_a, "threads"_a,
        "Gradients of one layer, one direction, into d_x, d_h0, d_c0 and d_weights.");
}

}  // namespace penstock
