// What Python sees: functions of arrays of any library with DLPack (NumPy, torch, JAX), and two classes.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "plain.hpp"

using namespace nanobind::literals;

namespace penstock {

void bind_measurements(nb::module_& m);  // measurements.cpp

namespace {

// A direction by role, None where it has no such weight.
WeightArrays by_role(const nb::sequence& arrays, Access access = Access::read) {
    if (nb::len(arrays) != roles)
        throw std::invalid_argument("weights: expected " + std::to_string(roles) + " entries, got " +
                                    std::to_string(nb::len(arrays)));
    WeightArrays weights;
    for (int role = 0; role < roles; ++role)
        weights[role] = Array(nb::object(arrays[role]), role_names[role], access);
    return weights;
}

Call one_direction(const std::string& cell, const nb::sequence& weights, nb::handle x, nb::handle h0,
                   nb::handle c0, nb::handle lengths, nb::handle batch_sizes, bool reverse, int threads) {
    Call call{.cell = cell_named(cell),
              .batch_first = false,
              .reverse = reverse,
              .stacked = false,
              .threads = threads};
    call.weights.push_back(by_role(weights));
    call.x = {x, "x"}, call.h0 = {h0, "h0"}, call.c0 = {c0, "c0"};
    call.lengths = {lengths, "lengths"}, call.batch_sizes = {batch_sizes, "batch_sizes"};
    return call;
}

Results results(nb::handle y, nb::handle h_n, nb::handle c_n, nb::handle cell_states, nb::handle reserve) {
    return {{y, "y", Access::write},
            {h_n, "h_n", Access::write},
            {c_n, "c_n", Access::write},
            {cell_states, "cell_states", Access::write},
            {reserve, "reserve", Access::write}};
}

Gradients gradients(nb::handle reserve, nb::handle d_y, nb::handle d_h_n, nb::handle d_c_n,
                    nb::handle d_cell_states, nb::handle d_x, nb::handle d_h0, nb::handle d_c0,
                    std::vector<WeightArrays> d_weights) {
    return {{reserve, "reserve"},
            {d_y, "d_y"},
            {d_h_n, "d_h_n"},
            {d_c_n, "d_c_n"},
            {d_cell_states, "d_cell_states"},
            {d_x, "d_x", Access::write},
            {d_h0, "d_h0", Access::write},
            {d_c0, "d_c0", Access::write},
            std::move(d_weights)};
}

// One layer for NumPy arrays, in one direction, from the end where it runs in reverse: the weights are looked
// at once, and everything that a call gives is allocated here.
class NumpyLayer {
  public:
    NumpyLayer(const std::string& cell, const nb::sequence& weights, bool reverse, int threads)
        : cell_(cell_named(cell)), weights_{by_role(weights)}, reverse_(reverse), threads_(threads) {
        weights_[0][weight_ih].check_contiguous();
        is_double_ = weights_[0][weight_ih].dtype() == nb::dtype<double>();
        if (!is_double_ && weights_[0][weight_ih].dtype() != nb::dtype<float>())
            throw nb::type_error("weights: expected dtype float32 or float64");
    }

    // x (T, B, D), h0 (1, B, R) and c0 (1, B, H) or None, lengths (B,) or None -> y, h_n and c_n or None.
    nb::tuple run(nb::handle x, nb::handle h0, nb::handle c0, nb::handle lengths) const {
        Call call{.cell = cell_,
                  .weights = weights_,
                  .batch_first = false,
                  .reverse = reverse_,
                  .stacked = true,
                  .threads = threads_};
        call.x = {x, "x"}, call.h0 = {h0, "h0"}, call.c0 = {c0, "c0"}, call.lengths = {lengths, "lengths"};
        return is_double_ ? run_as<double>(call) : run_as<float>(call);
    }

  private:
    template <class T> static nb::tuple run_as(const Call& call) {
        const Layer<T> layer(call);
        const std::size_t steps = call.x.size(0), batch = call.x.size(1);
        const std::size_t output = layer.output(), hidden = layer.hidden();
        const nb::object y = array<T>({steps, batch, output}), h_n = array<T>({1, batch, output});
        const nb::object c_n = layer.kernel.has_cell_state ? array<T>({1, batch, hidden}) : nb::none();
        forward<T>(call, results(y, h_n, c_n, nb::none(), nb::none()));
        return nb::make_tuple(y, h_n, c_n);
    }

    template <class T> static nb::object array(std::initializer_list<std::size_t> shape) {
        std::size_t count = 1;
        for (const std::size_t size : shape) count *= size;
        T* values = new T[count];
        const nb::capsule owner(values, [](void* given) noexcept { delete[] static_cast<T*>(given); });
        return nb::cast(nb::ndarray<nb::numpy, T>(values, shape, owner));
    }

    int cell_;
    std::vector<WeightArrays> weights_;
    bool reverse_, is_double_;
    int threads_;
};

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "Penstock's kernels: raw arrays in, raw arrays out. Shapes: csrc/kernels.hpp.";

    m.def("instruction_sets", &instruction_set_names,
          "The instruction sets this machine can run, best first.");
    m.def("instruction_set", &instruction_set, "The one in use.");
    m.def("set_instruction_set", &set_instruction_set, "name"_a, "Use another one from the next call on.");
    m.def("bf16_instruction_sets", &bf16_instruction_set_names,
          "Those with products of bfloat16 that this machine can run, best first; often none.");
    m.def("set_bf16_instruction_set", &set_bf16_instruction_set, "name"_a,
          "Use another one of them from the next call on.");
    nb::class_<NumpyLayer>(m, "NumpyLayer")
        .def(nb::init<const std::string&, const nb::sequence&, bool, int>(), "cell"_a, "weights"_a,
             "reverse"_a, "threads"_a)
        .def("run", &NumpyLayer::run, "x"_a, "h0"_a.none(), "c0"_a.none(), "lengths"_a.none());

    m.def(
        "empty",
        [](const Shape& shape, const std::string& dtype) {
            const auto made = [&](nb::dlpack::dtype known) {
                return tensor_of_block(known, shape.data(), shape.size());
            };
            if (dtype == "float32") return made(nb::dtype<float>());
            if (dtype == "float64") return made(nb::dtype<double>());
            if (dtype == "bfloat16") return made(nb::dtype<bf16>());
            throw std::invalid_argument("dtype: expected float32, float64 or bfloat16, got " + dtype);
        },
        "shape"_a, "dtype"_a, "An uninitialised tensor of torch, its memory kept for the next when it ends.");
    m.def("kept_blocks", &kept_blocks, "Bytes that are kept and nobody uses.");
    m.def("free_kept_blocks", &free_kept_blocks, "Give them back to the system.");
    m.def(
        "reserve_size",
        [](const std::string& cell, index hidden, index output, bool is_float64) {
            return reserved(cell_named(cell), hidden, output, is_float64);
        },
        "cell"_a, "hidden"_a, "output"_a, "is_float64"_a,
        "Values of x's dtype that forward keeps for backward, for each (step, row) pair.");

    m.def(
        "forward",
        [](const std::string& cell, const nb::sequence& weights, nb::handle x, nb::handle h0, nb::handle c0,
           nb::handle y, nb::handle h_n, nb::handle c_n, nb::handle cell_states, nb::handle reserve,
           nb::handle lengths, nb::handle batch_sizes, bool reverse, int threads) {
            by_dtype(one_direction(cell, weights, x, h0, c0, lengths, batch_sizes, reverse, threads),
                     results(y, h_n, c_n, cell_states, reserve), forward<float>, forward<float, bf16>,
                     forward<double>);
        },
        nb::kw_only(), "cell"_a, "weights"_a, "x"_a, "h0"_a.none(), "c0"_a.none(), "y"_a, "h_n"_a,
        "c_n"_a.none(), "cell_states"_a.none(), "reserve"_a.none(), "lengths"_a.none(),
        "batch_sizes"_a.none(), "reverse"_a, "threads"_a,
        "One layer, one direction, into y, h_n, c_n, cell_states and reserve.");

    m.def(
        "backward",
        [](const std::string& cell, const nb::sequence& weights, nb::handle x, nb::handle h0, nb::handle c0,
           nb::handle reserve, nb::handle d_y, nb::handle d_h_n, nb::handle d_c_n, nb::handle d_cell_states,
           nb::handle d_x, nb::handle d_h0, nb::handle d_c0, const nb::sequence& d_weights,
           nb::handle lengths, nb::handle batch_sizes, bool reverse, int threads) {
            by_dtype(one_direction(cell, weights, x, h0, c0, lengths, batch_sizes, reverse, threads),
                     gradients(reserve, d_y, d_h_n, d_c_n, d_cell_states, d_x, d_h0, d_c0,
                               {by_role(d_weights, Access::write)}),
                     backward<float>, backward<float, bf16>, backward<double>);
        },
        nb::kw_only(), "cell"_a, "weights"_a, "x"_a, "h0"_a.none(), "c0"_a.none(), "reserve"_a,
        "d_y"_a.none(), "d_h_n"_a.none(), "d_c_n"_a.none(), "d_cell_states"_a.none(), "d_x"_a.none(),
        "d_h0"_a.none(), "d_c0"_a.none(), "d_weights"_a, "lengths"_a.none(), "batch_sizes"_a.none(),
        "reverse"_a, "threads"_a,
        "Gradients of one layer, one direction, into d_x, d_h0, d_c0 and d_weights.");

    m.def(
        "layer_forward",
        [](const std::string& cell, int directions, const nb::tuple& weights, nb::handle x, nb::handle h0,
           nb::handle c0, nb::handle lengths, nb::handle batch_sizes, bool batch_first, int threads,
           bool cell_states, bool keep) {
            const Results out = layer_forward({cell, directions, batch_first, threads}, weights,
                                              {x, h0, c0, lengths, batch_sizes}, cell_states, keep);
            return nb::make_tuple(out.y.object(), out.h_n.object(), out.c_n.object(),
                                  out.cell_states.object(), out.reserve.object());
        },
        "cell"_a, "directions"_a, "weights"_a, "x"_a, "h0"_a.none(), "c0"_a.none(), "lengths"_a.none(),
        "batch_sizes"_a.none(), "batch_first"_a, "threads"_a, "cell_states"_a, "keep"_a,
        "One layer in all its directions: y, h_n, c_n, cell_states and reserve, new tensors. An x (B, D) "
        "is a single step, with states (B, n) and no y. With a bfloat16 x all is bfloat16 but the reserve, "
        "which is float32; with a float32 x the matrices alone may be.");
    m.def(
        "layer_backward",
        [](const std::string& cell, int directions, const nb::tuple& weights, nb::handle x, nb::handle h0,
           nb::handle c0, nb::handle lengths, nb::handle batch_sizes, bool batch_first, int threads,
           nb::handle reserve, nb::handle d_y, nb::handle d_h_n, nb::handle d_c_n, nb::handle d_cell_states,
           const nb::sequence& needs) {
            return layer_backward({cell, directions, batch_first, threads}, weights,
                                  {x, h0, c0, lengths, batch_sizes},
                                  {reserve, d_y, d_h_n, d_c_n, d_cell_states}, needs);
        },
        "cell"_a, "directions"_a, "weights"_a, "x"_a, "h0"_a.none(), "c0"_a.none(), "lengths"_a.none(),
        "batch_sizes"_a.none(), "batch_first"_a, "threads"_a, "reserve"_a, "d_y"_a.none(), "d_h_n"_a.none(),
        "d_c_n"_a.none(), "d_cell_states"_a.none(), "needs"_a,
        "Gradients of one layer in all its directions: of x, h0, c0 and the weights that it needs.");
    m.def(
        "poison", [](bool on) { poisons = on; }, "on"_a,
        "Whether every new tensor is NaN before a kernel runs: for the tests.");
    nb::class_<Plain>(m, "Plain")
        .def(nb::init<nb::tuple, nb::object, nb::object, nb::object, nb::object, nb::tuple>(), "modes"_a,
             "forward_ad"_a, "casts"_a, "differentiates"_a, "threads"_a, "types"_a)
        .def("is_in_a_mode", &Plain::is_in_a_mode)
        .def("all_plain", &Plain::all_plain, "tensors"_a)
        .def("run", &Plain::run, "differentiable"_a, "cell"_a, "parameters"_a, "names"_a, "x"_a,
             "hx"_a.none(), "dimensions"_a, "batch_first"_a)
        .def("keep", &Plain::keep, "context"_a, "options"_a, "cell_states"_a, "lengths"_a.none(),
             "batch_sizes"_a.none(), "x"_a, "h0"_a.none(), "c0"_a.none(), "weights"_a)
        .def("gradients", &Plain::gradients, "options"_a, "kept"_a, "d_outputs"_a, "needs"_a);
    bind_measurements(m);
}

}  // namespace penstock
