// What Python sees: functions of arrays of any library with DLPack (NumPy, torch, JAX), and a class.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "calls.hpp"
#include "tensors.hpp"

using namespace nanobind::literals;

namespace penstock {

void bind_measurements(nb::module_& m);  // measurements.cpp

namespace {

// ---- what Python calls ---------------------------------------------------------------------------------

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

std::vector<Array> readable_weights(const nb::tuple& objects) {
    std::vector<Array> arrays;
    arrays.reserve(objects.size());
    for (nb::handle object : objects) arrays.push_back(readable({object, "weights"}));
    return arrays;
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

Call all_directions(const std::string& cell, const FlatWeights& flat, std::vector<Array> weights,
                    bool batch_first, int threads) {
    return {.cell = cell_named(flat.has_peephole() ? cell + "_peephole" : cell),
            .weights = flat.by_role(std::move(weights)),
            .batch_first = batch_first,
            .reverse = false,
            .stacked = true,
            .threads = threads};
}
// An x of two dimensions that is not packed is a single step.
void take_inputs(Call& call, Array x, Array h0, Array c0) {
    call.x = readable(std::move(x), Form::rows);
    call.h0 = readable(std::move(h0)), call.c0 = readable(std::move(c0));
    call.single = call.x.dimensions() == 2 && call.weights.size() == 1 && !call.lengths && !call.batch_sizes;
}
Call all_directions(const std::string& cell, const FlatWeights& flat, const std::vector<Array>& weights,
                    nb::handle x, nb::handle h0, nb::handle c0, nb::handle lengths, nb::handle batch_sizes,
                    bool batch_first, int threads) {
    Call call = all_directions(cell, flat, weights, batch_first, threads);
    call.lengths = {lengths, "lengths"}, call.batch_sizes = {batch_sizes, "batch_sizes"};
    take_inputs(call, {x, "x"}, {h0, "h0"}, {c0, "c0"});
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

// ---- calls whose results are new tensors -----------------------------------------------------------------

int checked_directions(int directions) {
    if (directions == 1 || directions == 2) return directions;
    throw std::invalid_argument("directions: expected 1 or 2, got " + std::to_string(directions));
}

// The size of the reserve of a (step, row) pair: the same on every machine, so that graphs can be moved.
index reserved(int cell, index hidden, index output, bool is_float64) {
    return is_float64 ? kernel_of<double>(cell).reserve_size(1, hidden, output)
                      : kernel_of<float>(cell).reserve_size(1, hidden, output);
}

// Of a call in bfloat16 too the reserve is float32.
Array new_reserve(const Call& call, nb::handle x) {
    const bool is_float64 = call.x.dtype() == nb::dtype<double>();
    std::vector<index> shape{call.directions()};
    for (int i = 0; i + 1 < call.x.dimensions(); ++i) shape.push_back(call.x.size(i));
    shape.push_back(reserved(call.cell, call.hidden(), call.output(), is_float64));
    const nb::dlpack::dtype dtype = is_float64 ? nb::dtype<double>() : nb::dtype<float>();
    return new_tensor(x, dtype, shape.data(), shape.size(), "reserve");
}

// y, h_n, c_n, the cell states and the reserve of a call, the last three where there are any or they are
// wanted, as new tensors of the dtype of x. Of a single step there is no y beside h_n.
Results new_results(const Call& call, nb::handle x, bool wants_cell_states, bool keeps) {
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

void run_forward(Call call, Results out) {
    if (call.single) out.y = out.h_n;
    by_dtype(std::move(call), std::move(out), forward<float>, forward<float, bf16>, forward<double>);
}

void check_dtype(const Array& x) {
    const nb::dlpack::dtype dtype = x.dtype();
    if (dtype != nb::dtype<float>() && dtype != nb::dtype<double>() && dtype != nb::dtype<bf16>())
        throw nb::type_error("x: expected dtype float32, float64 or bfloat16");
}

nb::tuple layer_forward(const std::string& cell, int directions, const nb::tuple& weights, nb::handle x,
                        nb::handle h0, nb::handle c0, nb::handle lengths, nb::handle batch_sizes,
                        bool batch_first, int threads, bool cell_states, bool keep) {
    const std::vector<Array> arrays = readable_weights(weights);
    const FlatWeights flat(arrays, checked_directions(directions));
    Call call = all_directions(cell, flat, arrays, x, h0, c0, lengths, batch_sizes, batch_first, threads);
    check_dtype(call.x);
    const Results out = new_results(call, x, cell_states, keep);
    run_forward(std::move(call), out);
    return nb::make_tuple(out.y.object(), out.h_n.object(), out.c_n.object(), out.cell_states.object(),
                          out.reserve.object());
}

// The gradients of x, h0, c0 and each weight: None where they are not needed, or there is nothing.
nb::list layer_backward(const std::string& cell, int directions, const nb::tuple& weights, nb::handle x,
                        nb::handle h0, nb::handle c0, nb::handle lengths, nb::handle batch_sizes,
                        bool batch_first, int threads, nb::handle reserve, nb::handle d_y, nb::handle d_h_n,
                        nb::handle d_c_n, nb::handle d_cell_states, const nb::sequence& needs) {
    const std::vector<Array> arrays = readable_weights(weights);
    const FlatWeights flat(arrays, checked_directions(directions));
    Call call = all_directions(cell, flat, arrays, x, h0, c0, lengths, batch_sizes, batch_first, threads);
    if (nb::len(needs) != 3 + arrays.size())
        throw std::invalid_argument("needs: expected " + std::to_string(3 + arrays.size()) +
                                    " entries, got " + std::to_string(nb::len(needs)));
    nb::list made;
    std::size_t place = 0;
    const auto gradient = [&](const Array& of, const char* name) {
        const bool wanted = nb::cast<bool>(needs[place++]) && of;
        const Shape shape = of.shape();
        const Array array =
            wanted ? new_tensor(x, call.x.dtype(), shape.data(), shape.size(), name) : Array();
        made.append(array.object());
        return array;
    };
    const Array d_x = gradient(call.x, "d_x"), d_h0 = gradient(call.h0, "d_h0"),
                d_c0 = gradient(call.c0, "d_c0");
    std::vector<Array> d_weights;
    for (const Array& weight : arrays) d_weights.push_back(gradient(weight, "d_weights"));
    by_dtype(std::move(call),
             Gradients{{reserve, "reserve"},
                       readable({d_y, "d_y"}, Form::rows),
                       readable({d_h_n, "d_h_n"}),
                       readable({d_c_n, "d_c_n"}),
                       readable({d_cell_states, "d_cell_states"}, Form::rows),
                       d_x,
                       d_h0,
                       d_c0,
                       flat.by_role(d_weights)},
             backward<float>, backward<float, bf16>, backward<double>);
    return made;
}

// What a layer over a batch of whole sequences, or a cell, is given: plain tensors of a dtype the kernels
// have.
struct PlainLayer {
    Array x, h0, c0;
    std::vector<nb::object> parameters;  // those of the layer, found by name
    std::vector<Array> weights;          // views of them

    // False where a tensor is not plain or not where it should be, and where there is nothing to compute.
    bool see(const nb::dict& all, const nb::list& names, nb::handle x_, nb::handle h0_, nb::handle c0_,
             nb::handle type, nb::handle other_type) {
        PlainArrays plain(type, other_type);
        if (!plain.see(x_, "x", x) || !plain.see(h0_, "h0", h0) || !plain.see(c0_, "c0", c0)) return false;
        const int dimensions = x.dimensions();
        if ((dimensions != 3 && dimensions != 2) || !x.count() || !is_native(x.dtype())) return false;
        weights.reserve(names.size() * roles), parameters.reserve(names.size() * roles);
        for (nb::handle of_direction : names)
            for (nb::handle name : nb::borrow<nb::list>(of_direction)) {
                PyObject* found = PyDict_GetItemWithError(all.ptr(), name.ptr());
                if (!found || found == Py_None || !plain.see(found, "weights", weights.emplace_back()))
                    return false;
                parameters.push_back(nb::borrow(found));
            }
        return true;
    }
    static bool is_native(nb::dlpack::dtype dtype) {
        static const bool has_bf16 = !bf16_instruction_set_names().empty();
        return dtype == nb::dtype<float>() || dtype == nb::dtype<double>() ||
               (has_bf16 && dtype == nb::dtype<bf16>());
    }
};

// Calls with nothing between them and the kernels: from what torch is in the middle of to the results all is
// looked at here, as each step of it in Python would take as long as the step of a small layer.
class Plain {
  public:
    // modes: functions that say something true where a plain call is none. forward_ad: torch's module of
    // forward derivatives. casts: whether autocast is on. threads: how many. types: of plain tensors.
    Plain(nb::tuple modes, nb::object forward_ad, nb::object casts, nb::object threads, nb::tuple types)
        : modes_(std::move(modes)),
          forward_ad_(std::move(forward_ad)),
          casts_(std::move(casts)),
          threads_(std::move(threads)),
          type_(types[0]),
          other_type_(types[1]) {}

    bool is_in_a_mode() const {
        static PyObject* const level = PyUnicode_InternFromString("_current_level");
        for (nb::handle mode : modes_)
            if (says_true(mode)) return true;
        return nb::cast<int>(nb::getattr(forward_ad_, level)) >= 0;
    }

    bool all_plain(const nb::tuple& arrays) const { return penstock::all_plain(arrays, type_, other_type_); }

    // y and the final states, as hx has them: h, or a pair of h and c.
    nb::object infer(const std::string& cell, const nb::dict& parameters, const nb::list& names, nb::handle x,
                     nb::handle hx, int dimensions, bool batch_first) const {
        PlainLayer layer;
        if (!see(layer, cell, parameters, names, x, hx, dimensions)) return nb::none();
        for (Array& weight : layer.weights) weight = readable(std::move(weight));
        const FlatWeights flat(layer.weights, checked_directions(static_cast<int>(names.size())));
        Call call =
            all_directions(cell, flat, std::move(layer.weights), batch_first, nb::cast<int>(threads_()));
        take_inputs(call, std::move(layer.x), std::move(layer.h0), std::move(layer.c0));
        const Results out = new_results(call, x, false, false);
        run_forward(std::move(call), out);
        const nb::object h_n = out.h_n.object();
        return nb::make_tuple(out.y.object(), out.c_n ? nb::make_tuple(h_n, out.c_n.object()) : h_n);
    }

    // h0, c0 and the weights, as one flat tuple.
    nb::object look(const std::string& cell, const nb::dict& parameters, const nb::list& names, nb::handle x,
                    nb::handle hx, int dimensions) const {
        PlainLayer layer;
        if (!see(layer, cell, parameters, names, x, hx, dimensions)) return nb::none();
        const nb::object weights = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(layer.parameters.size())));
        for (std::size_t i = 0; i < layer.parameters.size(); ++i)
            PyTuple_SET_ITEM(weights.ptr(), static_cast<Py_ssize_t>(i), layer.parameters[i].release().ptr());
        return nb::make_tuple(layer.h0.object(), layer.c0.object(), weights);
    }

  private:
    bool see(PlainLayer& layer, const std::string& cell, const nb::dict& parameters, const nb::list& names,
             nb::handle x, nb::handle hx, int dimensions) const {
        nb::handle h0 = hx, c0 = nb::none();
        if (is_in_a_mode() || says_true(casts_)) return false;
        const bool is_pair = !hx.is_none() && kernels().f32[cell_named(cell)].has_cell_state;
        if (is_pair && !take_pair(hx, h0, c0)) return false;
        return layer.see(parameters, names, x, h0, c0, type_, other_type_) &&
               layer.x.dimensions() == dimensions;
    }
    static bool take_pair(nb::handle hx, nb::handle& h0, nb::handle& c0) {
        if (!PyTuple_Check(hx.ptr()) && !PyList_Check(hx.ptr())) return false;
        if (PySequence_Fast_GET_SIZE(hx.ptr()) != 2) return false;
        PyObject** const states = PySequence_Fast_ITEMS(hx.ptr());
        h0 = states[0], c0 = states[1];
        return !h0.is_none() && !c0.is_none();
    }
    static bool says_true(nb::handle function) {
        const nb::object said = function();
        return !said.is(Py_False) && PyObject_IsTrue(said.ptr());
    }

    nb::tuple modes_;
    nb::object forward_ad_, casts_, threads_, type_, other_type_;
};

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

    m.def("layer_forward", &layer_forward, "cell"_a, "directions"_a, "weights"_a, "x"_a, "h0"_a.none(),
          "c0"_a.none(), "lengths"_a.none(), "batch_sizes"_a.none(), "batch_first"_a, "threads"_a,
          "cell_states"_a, "keep"_a,
          "One layer in all its directions: y, h_n, c_n, cell_states and reserve, new tensors. An x (B, D) "
          "is a single step, with states (B, n) and no y. With a bfloat16 x all is bfloat16 but the reserve, "
          "which is float32; with a float32 x the matrices alone may be.");
    m.def("layer_backward", &layer_backward, "cell"_a, "directions"_a, "weights"_a, "x"_a, "h0"_a.none(),
          "c0"_a.none(), "lengths"_a.none(), "batch_sizes"_a.none(), "batch_first"_a, "threads"_a,
          "reserve"_a, "d_y"_a.none(), "d_h_n"_a.none(), "d_c_n"_a.none(), "d_cell_states"_a.none(),
          "needs"_a,
          "Gradients of one layer in all its directions: of x, h0, c0 and the weights that it needs.");
    m.def(
        "poison", [](bool on) { poisons = on; }, "on"_a,
        "Whether every new tensor is NaN before a kernel runs: for the tests.");
    nb::class_<Plain>(m, "Plain")
        .def(nb::init<nb::tuple, nb::object, nb::object, nb::object, nb::tuple>(), "modes"_a, "forward_ad"_a,
             "casts"_a, "threads"_a, "types"_a)
        .def("is_in_a_mode", &Plain::is_in_a_mode)
        .def("all_plain", &Plain::all_plain, "tensors"_a)
        .def("infer", &Plain::infer, "cell"_a, "parameters"_a, "names"_a, "x"_a, "hx"_a.none(),
             "dimensions"_a, "batch_first"_a)
        .def("look", &Plain::look, "cell"_a, "parameters"_a, "names"_a, "x"_a, "hx"_a.none(), "dimensions"_a);
    bind_measurements(m);
}

}  // namespace penstock
