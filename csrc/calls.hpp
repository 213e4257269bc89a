// A layer on arrays: sizes, dtypes and lengths checked, and raw pointers for the kernels.
#pragma once

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "instruction_sets.hpp"
#include "kernels.hpp"
#include "lowered.hpp"

namespace penstock {

// ---- layout --------------------------------------------------------------------------------------------

class OwnedLayout {
  public:
    const Layout& layout() const { return layout_; }

    // Sequences (T, B, n): row b runs for lengths[b] steps, or for all of them.
    void padded(index steps, index batch, const Array& lengths) {
        take(steps, batch);
        std::fill_n(active_, steps, batch);
        if (lengths) {
            const index* values = integers(lengths);
            lengths.check_shape({batch});
            for (index b = 0; b < batch; ++b)
                if (values[b] < 0 || values[b] > steps)
                    throw std::invalid_argument("lengths: expected values from 0 to the time dimension " +
                                                std::to_string(steps) + ", got " + std::to_string(values[b]) +
                                                " at index " + std::to_string(b));
            std::stable_sort(row_position_, row_position_ + batch,
                             [&](index a, index b) { return values[a] > values[b]; });
            for (index t = 0, running = batch; t < steps; ++t) {
                while (running > 0 && values[row_position_[running - 1]] <= t) --running;
                active_[t] = running;
            }
        }
        finish(steps, batch, static_cast<bool>(lengths));
        std::iota(step_position_, step_position_ + steps, 0);
    }

    // Sequences (rows, n) as in torch's PackedSequence: batch_sizes[t] rows at step t.
    void packed(index rows, const Array& batch_sizes) {
        const index* values = integers(batch_sizes);
        const index steps = batch_sizes.size(0);
        for (index t = 0; t < steps; ++t)
            if (values[t] < 1 || (t && values[t] > values[t - 1]))
                throw std::invalid_argument("batch_sizes: expected positive values that never rise");
        const index batch = steps ? values[0] : 0;
        take(steps, batch);
        std::copy_n(values, steps, active_);
        finish(steps, batch, false);
        std::copy_n(layout_.offset, steps, step_position_);
        if (layout_.rows != rows)
            throw std::invalid_argument("batch_sizes: expected a sum of " + std::to_string(rows) +
                                        " rows, got " + std::to_string(layout_.rows));
    }

    static const index* integers(const Array& array) {
        if (array.dtype() != nb::dtype<std::int64_t>() || array.dimensions() != 1 || !array.is_contiguous())
            throw nb::type_error(
                (std::string(array.name()) + ": expected a contiguous int64 vector").c_str());
        return array.data<const index>();
    }

  private:
    // Memory for the tables, the rows in their order.
    void take(index steps, index batch) {
        memory_.resize(3 * steps + batch);
        active_ = memory_.data(), step_position_ = active_ + 2 * steps;
        row_position_ = step_position_ + steps;
        std::iota(row_position_, row_position_ + batch, 0);
    }
    void finish(index steps, index batch, bool zero_padding) {
        index* const offset = active_ + steps;
        std::exclusive_scan(active_, active_ + steps, offset, index{0});
        const index rows = steps ? offset[steps - 1] + active_[steps - 1] : 0;
        layout_ = {steps,          batch,         rows,          active_,     offset,
                   step_position_, row_position_, row_position_, zero_padding};
    }

    std::vector<index> memory_;
    index *active_ = nullptr, *step_position_ = nullptr, *row_position_ = nullptr;
    Layout layout_{};
};

// ---- calls ---------------------------------------------------------------------------------------------

inline const std::array<const char*, cells> cell_names = {"rnn_tanh",      "rnn_relu", "lstm",
                                                          "lstm_peephole", "gru",      "gru_reset_before"};

inline int cell_named(const std::string& name) {
    for (int cell = 0; cell < cells; ++cell)
        if (name == cell_names[cell]) return cell;
    throw std::invalid_argument("cell: unknown name " + name);
}

template <class T, class P = T> const Kernel<T, P>& kernel_of(int cell) {
    if constexpr (std::is_same_v<P, bf16>) return bf16_kernel(cell);
    else if constexpr (std::is_same_v<T, float>) return kernels().f32[cell];
    else return kernels().f64[cell];
}

enum Role { weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, weight_peephole, roles };
inline const std::array<const char*, roles> role_names = {"weight_ih", "weight_hh", "bias_ih",
                                                          "bias_hh",   "weight_hr", "weight_peephole"};
using WeightArrays = std::array<Array, roles>;

// What both passes of a layer are given.
struct Call {
    int cell;
    std::vector<WeightArrays> weights;  // of each direction
    Array x, h0, c0, lengths, batch_sizes;
    bool batch_first;  // sequences are (B, T, n)
    bool reverse;      // the first direction runs from the end; the second one always does
    bool stacked;      // states are (directions, B, n), otherwise (B, n)
    int threads;
    bool single = false;  // one step of one direction: sequences are (B, n), like the states

    index directions() const { return static_cast<index>(weights.size()); }
    // What the shapes say, which have been checked: see check_dimensions.
    index hidden() const { return weights[0][weight_ih].size(0) / kernels().f32[cell].gates; }
    index output() const { return weights[0][weight_hh].size(1); }
    index batch() const {
        if (!batch_sizes) return x.size(batch_first || single ? 0 : 1);
        const index* values = OwnedLayout::integers(batch_sizes);
        return batch_sizes.size(0) ? std::max<index>(values[0], 0) : 0;
    }
    void check_dimensions() const {
        const int dimensions = batch_sizes || single ? 2 : 3;
        if (x.dimensions() != dimensions)
            throw std::invalid_argument("x: expected " + std::to_string(dimensions) + " dimensions, got " +
                                        std::to_string(x.dimensions()));
        for (const WeightArrays& w : weights)
            if (!w[weight_ih] || !w[weight_hh] || w[weight_ih].dimensions() != 2 ||
                w[weight_hh].dimensions() != 2)
                throw std::invalid_argument("weights: expected matrices weight_ih and weight_hh");
    }

    void lower(Lowered& lowered) {
        for (Array* array : {&x, &h0, &c0}) lowered.read(*array);
        const bool as_they_are = multiplies_bf16();
        for (WeightArrays& w : weights)
            for (int role = as_they_are ? weight_hh + 1 : 0; role < roles; ++role) lowered.read(w[role]);
    }
};

struct Results {
    Array y, h_n, c_n, cell_states, reserve;

    void lower(Lowered& lowered) {
        for (Array* array : {&y, &h_n, &c_n, &cell_states}) lowered.write(*array);
    }
};

struct Gradients {
    Array reserve, d_y, d_h_n, d_c_n, d_cell_states;  // in
    Array d_x, d_h0, d_c0;                            // out
    std::vector<WeightArrays> d_weights;

    void lower(Lowered& lowered) {
        for (Array* array : {&d_y, &d_h_n, &d_c_n, &d_cell_states}) lowered.read(*array);
        for (Array* array : {&d_x, &d_h0, &d_c0}) lowered.write(*array);
        for (WeightArrays& w : d_weights)
            for (Array& array : w) lowered.write(array);
    }
};

// A call as one dtype, its sizes checked, and its arrays as the kernels take them. P: of the matrices.
template <class T, class P = T> class Layer {
  public:
    explicit Layer(const Call& call) : kernel(kernel_of<T, P>(call.cell)), call_(call) {
        check_cell();
        call.check_dimensions();
        arrange();
        input_ = call.weights[0][weight_ih].size(1), hidden_ = call.hidden(), output_ = call.output();
        if (!call.weights[0][weight_hr] && output_ != hidden_)
            throw std::invalid_argument("weight_hh: expected " + std::to_string(hidden_) + " columns, got " +
                                        std::to_string(output_));
    }

    int directions() const { return static_cast<int>(call_.weights.size()); }
    index input() const { return input_; }
    index hidden() const { return hidden_; }
    index output() const { return output_; }
    index work() const {  // multiply-adds of a direction's products
        return owned_.layout().rows * kernel.gates * hidden_ * (input_ + output_);
    }
    bool is_empty() const { return owned_.layout().batch == 0; }

    // What computes a call of this size.
    const Kernel<T, P>& kernel_for_size() const {
        if constexpr (std::is_same_v<T, float> && std::is_same_v<P, float>)
            return kernels_for(owned_.layout(), hidden_).f32[call_.cell];
        else return kernel;
    }

    template <class Arguments> Arguments arguments(int direction) const {
        Arguments a;
        a.input = input_, a.hidden = hidden_, a.output = output_;
        a.reverse = direction == 1 || call_.reverse;
        a.threads = std::max(call_.threads, 1);
        a.layout = owned_.layout();
        a.weights = weights<const T, const P>(call_.weights[direction]);
        a.x = sequence<const T>(call_.x, input_);
        a.h0 = state<const T>(call_.h0, output_, direction);
        a.c0 = state<const T>(call_.c0, hidden_, direction);
        return a;
    }

    template <class U, class Matrix> Weights<U, Matrix> weights(const WeightArrays& w) const {
        const index rows = kernel.gates * hidden_;
        return {w[weight_ih].contiguous<Matrix>({rows, input_}),
                w[weight_hh].contiguous<Matrix>({rows, output_}),
                w[bias_ih].contiguous<U>({rows}),
                w[bias_hh].contiguous<U>({rows}),
                w[weight_hr].contiguous<U>({output_, hidden_}),
                w[weight_peephole].contiguous<U>({3 * hidden_})};
    }

    // A sequence that all directions share: (T, B, n), (B, T, n), (rows, n) or, of a single step, (B, n);
    // only n must be contiguous.
    template <class U> Sequence<U> sequence(const Array& array, index features) const {
        if (!array) return {};
        U* data = array.data<U>();
        if (call_.single) array.check_shape({owned_.layout().batch, features});
        else if (call_.batch_sizes) array.check_shape({owned_.layout().rows, features});
        else if (call_.batch_first)
            array.check_shape({owned_.layout().batch, owned_.layout().steps, features});
        else array.check_shape({owned_.layout().steps, owned_.layout().batch, features});
        if (features > 1 && array.stride(array.dimensions() - 1) != 1)
            throw std::invalid_argument(std::string(array.name()) +
                                        ": expected the last dimension to be contiguous");
        if (call_.single) return {data, 0, array.stride(0)};
        const int step = call_.batch_first && !call_.batch_sizes ? 1 : 0;
        return {data, array.stride(step), array.stride(call_.batch_sizes ? 0 : 1 - step)};
    }

    // The share of a direction in a sequence whose directions lie side by side.
    template <class U> Sequence<U> part(const Array& array, index features, int direction) const {
        Sequence<U> shared = sequence<U>(array, features * directions());
        if (shared.data) shared.data += features * direction;
        return shared;
    }

    template <class U> U* state(const Array& array, index features, int direction) const {
        const index batch = owned_.layout().batch;
        if (!call_.stacked || call_.single) return array.contiguous<U>({batch, features});
        U* all = array.contiguous<U>({directions(), batch, features});
        return all ? all + direction * batch * features : nullptr;
    }

    // The share of a direction in the reserve; the shares are as large as the caller made them.
    template <class U> U* reserve(const Array& array, int direction) const {
        if (!array) return nullptr;
        U* start = array.data<U>();
        array.check_contiguous();
        const index share = array.count() / directions();
        const index needed = kernel.reserve_size(owned_.layout().rows, hidden_, output_);
        if (share < needed)
            throw std::invalid_argument("reserve: expected " + std::to_string(needed) +
                                        " values a direction, got " + std::to_string(share));
        return start + direction * share;
    }

    void check_absent(std::initializer_list<const Array*> arrays) const {
        for (const Array* array : arrays)
            if (*array && !kernel.has_cell_state)
                throw std::invalid_argument(std::string(array->name()) + ": expected None, the cell " +
                                            cell_names[call_.cell] + " has no cell state");
    }

    const Kernel<T, P>& kernel;

  private:
    void check_cell() const {
        check_absent({&call_.c0});
        const bool projects = call_.cell == lstm || call_.cell == lstm_peephole;
        for (const WeightArrays& w : call_.weights) {
            if (static_cast<bool>(w[weight_peephole]) != (call_.cell == lstm_peephole))
                throw std::invalid_argument(
                    "weight_peephole: expected for the cell lstm_peephole, and only there");
            if (w[weight_hr] && !projects)
                throw std::invalid_argument("weight_hr: expected for an LSTM only");
        }
    }

    void arrange() {
        const Array &x = call_.x, &batch_sizes = call_.batch_sizes;
        if (call_.single) owned_.padded(1, x.size(0), {});
        else if (batch_sizes) owned_.packed(x.size(0), batch_sizes);
        else
            owned_.padded(x.size(call_.batch_first ? 1 : 0), x.size(call_.batch_first ? 0 : 1),
                          call_.lengths);
    }

    const Call& call_;
    OwnedLayout owned_;
    index input_, hidden_, output_;
};

// Lets other threads of Python run in the meantime, where the work takes longer than to hand over.
class Released {
  public:
    explicit Released(index multiply_adds) {
        constexpr index worth_releasing = 1 << 18;
        if (multiply_adds >= worth_releasing) released_.emplace();
    }

  private:
    std::optional<nb::gil_scoped_release> released_;
};

template <class T, class P = T> void forward(const Call& call, const Results& out) {
    const Layer<T, P> layer(call);
    layer.check_absent({&out.c_n, &out.cell_states});
    if (!out.y || (!layer.is_empty() && (!out.h_n || (layer.kernel.has_cell_state && !out.c_n))))
        throw std::invalid_argument("y, h_n and, for a cell with a cell state, c_n are required");
    std::array<ForwardArguments<T, P>, 2> directions;
    for (int d = 0; d < layer.directions(); ++d) {
        auto a = layer.template arguments<ForwardArguments<T, P>>(d);
        a.y = layer.template part<T>(out.y, layer.output(), d);
        a.h_n = layer.template state<T>(out.h_n, layer.output(), d);
        a.c_n = layer.template state<T>(out.c_n, layer.hidden(), d);
        a.cell_states = layer.template part<T>(out.cell_states, layer.hidden(), d);
        a.reserve = layer.template reserve<T>(out.reserve, d);
        directions[d] = a;
    }
    const Released released(layer.work());
    layer.kernel_for_size().forward(directions.data(), layer.directions());
}

template <class T, class P = T> void backward(const Call& call, const Gradients& g) {
    const Layer<T, P> layer(call);
    layer.check_absent({&g.d_c_n, &g.d_cell_states, &g.d_c0});
    if (!g.reserve) throw std::invalid_argument("reserve: expected that of the forward pass, got None");
    std::array<BackwardArguments<T, P>, 2> directions;
    for (int d = 0; d < layer.directions(); ++d) {
        auto a = layer.template arguments<BackwardArguments<T, P>>(d);
        a.reserve = layer.template reserve<const T>(g.reserve, d);
        a.d_y = layer.template part<const T>(g.d_y, layer.output(), d);
        a.d_cell_states = layer.template part<const T>(g.d_cell_states, layer.hidden(), d);
        a.d_h_n = layer.template state<const T>(g.d_h_n, layer.output(), d);
        a.d_c_n = layer.template state<const T>(g.d_c_n, layer.hidden(), d);
        a.d_x = layer.template sequence<T>(g.d_x, layer.input());
        a.add_to_d_x = d == 1;
        a.d_h0 = layer.template state<T>(g.d_h0, layer.output(), d);
        a.d_c0 = layer.template state<T>(g.d_c0, layer.hidden(), d);
        a.d_weights = layer.template weights<T, T>(g.d_weights[d]);
        directions[d] = a;
    }
    const Released released(layer.work());
    layer.kernel_for_size().backward(directions.data(), layer.directions());
}

template <class Arrays> using Pass = void (*)(const Call&, const Arrays&);

// Runs a pass as x and the matrices are: float32, float32 beside matrices of bfloat16, or float64. Where
// everything but the reserve is bfloat16 it is float32 in between.
template <class Arrays>
void by_dtype(Call call, Arrays arrays, Pass<Arrays> f32, Pass<Arrays> f32_by_bf16, Pass<Arrays> f64) {
    const auto is = [](const Array& array, nb::dlpack::dtype dtype) {
        return array && array.dtype() == dtype;
    };
    Lowered lowered(call.threads);
    const bool is_lowered = is(call.x, nb::dtype<bf16>());
    if (is_lowered) {
        call.lower(lowered);
        arrays.lower(lowered);
        lowered.widen();
    }
    if (is(call.x, nb::dtype<float>()))
        (is(call.weights[0][weight_ih], nb::dtype<bf16>()) ? f32_by_bf16 : f32)(call, arrays);
    else if (is(call.x, nb::dtype<double>())) f64(call, arrays);
    else throw nb::type_error("x: expected dtype float32, float64 or bfloat16");
    if (is_lowered) lowered.round();
}

}  // namespace penstock
