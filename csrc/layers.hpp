// Layers in all their directions, whose results are new tensors.
#pragma once

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "calls.hpp"
#include "tensors.hpp"

namespace penstock {

// ---- what is given -------------------------------------------------------------------------------------

// What a layer is beside its tensors, and with how many threads it runs.
struct Options {
    std::string cell;
    int directions;
    bool batch_first;
    int threads;
};

// What both passes are given beside the weights, None for what there is not.
struct Inputs { nb::handle x, h0, c0, lengths, batch_sizes; };

// The flat list of a layer: for each direction the weights that exist, in the order of the roles. Two vectors
// after the first two matrices are the biases, a matrix then is the projection, a vector the peepholes.
class FlatWeights {
  public:
    FlatWeights(const std::vector<Array>& arrays, int directions)
        : directions_(directions), each_(static_cast<int>(arrays.size()) / directions) {
        if (each_ < 2 || each_ > roles || each_ * directions != static_cast<int>(arrays.size()))
            throw std::invalid_argument("weights: expected 2 to 6 for each direction, got " +
                                        std::to_string(arrays.size()));
        const auto is_vector = [&](int place) { return arrays[place].dimensions() == 1; };
        role_[0] = weight_ih, role_[1] = weight_hh;
        int place = 2;
        if (each_ >= 4 && is_vector(2) && is_vector(3)) {
            role_[place++] = bias_ih;
            role_[place++] = bias_hh;
        }
        if (place < each_ && !is_vector(place)) role_[place++] = weight_hr;
        if (place < each_) role_[place++] = weight_peephole;
        has_peephole_ = role_[place - 1] == weight_peephole;
        if (place != each_) throw std::invalid_argument("weights: expected biases, projection, peephole");
    }

    bool has_peephole() const { return has_peephole_; }

    // Of the weights, or of their gradients, nothing where not wanted.
    std::vector<WeightArrays> by_role(std::vector<Array> arrays) const {
        if (static_cast<int>(arrays.size()) != directions_ * each_)
            throw std::invalid_argument("d_weights: expected as many as weights");
        std::vector<WeightArrays> all(directions_);
        for (int d = 0; d < directions_; ++d)
            for (int i = 0; i < each_; ++i) {
                all[d][role_[i]] = std::move(arrays[d * each_ + i]);
                all[d][role_[i]].rename(role_names[role_[i]]);
            }
        return all;
    }

  private:
    int directions_, each_;
    std::array<Role, roles> role_{};
    bool has_peephole_ = false;
};

inline std::vector<Array> readable_weights(const nb::tuple& objects) {
    std::vector<Array> arrays;
    arrays.reserve(objects.size());
    for (nb::handle object : objects) arrays.push_back(readable({object, "weights"}));
    return arrays;
}

inline int checked_directions(int directions) {
    if (directions == 1 || directions == 2) return directions;
    throw std::invalid_argument("directions: expected 1 or 2, got " + std::to_string(directions));
}

inline Call call_of(const Options& options, const FlatWeights& flat, std::vector<Array> weights) {
    return {.cell = cell_named(flat.has_peephole() ? options.cell + "_peephole" : options.cell),
            .weights = flat.by_role(std::move(weights)),
            .batch_first = options.batch_first,
            .reverse = false,
            .stacked = true,
            .threads = options.threads};
}
// An x of two dimensions that is not packed is a single step.
inline void take_inputs(Call& call, Array x, Array h0, Array c0) {
    call.x = readable(std::move(x), Form::rows);
    call.h0 = readable(std::move(h0)), call.c0 = readable(std::move(c0));
    call.single = call.x.dimensions() == 2 && call.weights.size() == 1 && !call.lengths && !call.batch_sizes;
}
inline Call call_of(const Options& options, const FlatWeights& flat, const std::vector<Array>& weights,
                    const Inputs& in) {
    Call call = call_of(options, flat, weights);
    call.lengths = {in.lengths, "lengths"}, call.batch_sizes = {in.batch_sizes, "batch_sizes"};
    take_inputs(call, {in.x, "x"}, {in.h0, "h0"}, {in.c0, "c0"});
    return call;
}

// ---- what is made --------------------------------------------------------------------------------------

// The size of the reserve of a (step, row) pair: the same on every machine, so that graphs can be moved.
inline index reserved(int cell, index hidden, index output, bool is_float64) {
    return is_float64 ? kernel_of<double>(cell).reserve_size(1, hidden, output)
                      : kernel_of<float>(cell).reserve_size(1, hidden, output);
}

// Of a call in bfloat16 too the reserve is float32.
inline Array new_reserve(const Call& call, nb::handle x) {
    const bool is_float64 = call.x.dtype() == nb::dtype<double>();
    std::vector<index> shape{call.directions()};
    for (int i = 0; i + 1 < call.x.dimensions(); ++i) shape.push_back(call.x.size(i));
    shape.push_back(reserved(call.cell, call.hidden(), call.output(), is_float64));
    const nb::dlpack::dtype dtype = is_float64 ? nb::dtype<double>() : nb::dtype<float>();
    return new_tensor(x, dtype, shape.data(), shape.size(), "reserve");
}

// y, h_n, c_n, the cell states and the reserve of a call, the last three where there are any or they are
// wanted, as new tensors of the dtype of x. Of a single step there is no y beside h_n.
inline Results new_results(const Call& call, nb::handle x, bool wants_cell_states, bool keeps) {
    call.check_dimensions();
    const index directions = call.directions(), batch = call.batch();
    const index hidden = call.hidden(), output = call.output();
    const nb::dlpack::dtype dtype = call.x.dtype();
    const auto sequence = [&](index features, const char* name) {
        if (call.batch_sizes || call.single) return new_tensor(x, dtype, {call.x.size(0), features}, name);
        return new_tensor(x, dtype, {call.x.size(0), call.x.size(1), features}, name);
    };
    const auto state = [&](index features, const char* name) {
        if (call.single) return new_tensor(x, dtype, {batch, features}, name);
        return new_tensor(x, dtype, {directions, batch, features}, name);
    };
    Results out;
    if (!call.single) out.y = sequence(directions * output, "y");
    out.h_n = state(output, "h_n");
    if (kernels().f32[call.cell].has_cell_state) {
        out.c_n = state(hidden, "c_n");
        if (wants_cell_states) out.cell_states = sequence(directions * hidden, "cell_states");
    }
    if (keeps) out.reserve = new_reserve(call, x);
    return out;
}

inline void run_forward(Call call, Results out) {
    if (call.single) out.y = out.h_n;
    by_dtype(std::move(call), std::move(out), forward<float>, forward<float, bf16>, forward<double>);
}

inline void check_dtype(const Array& x) {
    const nb::dlpack::dtype dtype = x.dtype();
    if (dtype != nb::dtype<float>() && dtype != nb::dtype<double>() && dtype != nb::dtype<bf16>())
        throw nb::type_error("x: expected dtype float32, float64 or bfloat16");
}

inline Results layer_forward(const Options& options, const nb::tuple& weights, const Inputs& in,
                             bool cell_states, bool keep) {
    const std::vector<Array> arrays = readable_weights(weights);
    const FlatWeights flat(arrays, checked_directions(options.directions));
    Call call = call_of(options, flat, arrays, in);
    check_dtype(call.x);
    const Results out = new_results(call, in.x, cell_states, keep);
    run_forward(std::move(call), out);
    return out;
}

// The gradients of what a pass gave, and what it kept.
struct GradientsGiven { nb::handle reserve, d_y, d_h_n, d_c_n, d_cell_states; };

// The gradients of x, h0, c0 and each weight: None where they are not needed, or there is nothing.
inline std::vector<nb::object> layer_backward(const Options& options, const nb::tuple& weights,
                                              const Inputs& in, const GradientsGiven& given,
                                              const nb::sequence& needs) {
    const std::vector<Array> arrays = readable_weights(weights);
    const FlatWeights flat(arrays, checked_directions(options.directions));
    Call call = call_of(options, flat, arrays, in);
    if (nb::len(needs) != 3 + arrays.size())
        throw std::invalid_argument("needs: expected " + std::to_string(3 + arrays.size()) +
                                    " entries, got " + std::to_string(nb::len(needs)));
    std::vector<nb::object> made;
    made.reserve(3 + arrays.size());
    const auto gradient = [&](const Array& of, const char* name) {
        const bool wanted = nb::cast<bool>(needs[made.size()]) && of;
        const Shape shape = of.shape();
        const Array array =
            wanted ? new_tensor(in.x, call.x.dtype(), shape.data(), shape.size(), name) : Array();
        made.push_back(array.object());
        return array;
    };
    const Array d_x = gradient(call.x, "d_x"), d_h0 = gradient(call.h0, "d_h0"),
                d_c0 = gradient(call.c0, "d_c0");
    std::vector<Array> d_weights;
    for (const Array& weight : arrays) d_weights.push_back(gradient(weight, "d_weights"));
    by_dtype(std::move(call),
             Gradients{{given.reserve, "reserve"},
                       readable({given.d_y, "d_y"}, Form::rows),
                       readable({given.d_h_n, "d_h_n"}),
                       readable({given.d_c_n, "d_c_n"}),
                       readable({given.d_cell_states, "d_cell_states"}, Form::rows),
                       d_x,
                       d_h0,
                       d_c0,
                       flat.by_role(d_weights)},
             backward<float>, backward<float, bf16>, backward<double>);
    return made;
}

}  // namespace penstock
