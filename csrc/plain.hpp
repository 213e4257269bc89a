// Calls of torch with nothing between them and the kernels.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "layers.hpp"

namespace penstock {

// What a layer over a batch of whole sequences, or a cell, is given: plain tensors of a dtype the kernels
// have.
struct PlainArguments {
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
    bool needs_gradients() const {
        for (const Array* array : {&x, &h0, &c0})
            if (*array && requires_gradient(array->object())) return true;
        return std::any_of(parameters.begin(), parameters.end(), requires_gradient);
    }

  private:
    static bool requires_gradient(const nb::object& tensor) {
        static PyObject* const requires_grad = PyUnicode_InternFromString("requires_grad");
        return nb::steal(PyObject_GetAttr(tensor.ptr(), requires_grad)).is(Py_True);
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
    // forward derivatives. casts: whether autocast is on. differentiates: whether derivatives are wanted.
    // threads: how many. types: of plain tensors.
    Plain(nb::tuple modes, nb::object forward_ad, nb::object casts, nb::object differentiates,
          nb::object threads, nb::tuple types)
        : modes_(std::move(modes)),
          forward_ad_(std::move(forward_ad)),
          casts_(std::move(casts)),
          differentiates_(std::move(differentiates)),
          threads_(std::move(threads)),
          type_(types[0]),
          other_type_(types[1]) {}

    bool is_in_a_mode() const {
        static PyObject* const level = PyUnicode_InternFromString("_current_level");
        for (nb::handle mode : modes_)
            if (says_true(mode)) return true;
        return nb::cast<int>(nb::getattr(forward_ad_, level)) >= 0;
    }

    bool all_plain(const nb::tuple& arrays) const { return PlainArrays(type_, other_type_).see_all(arrays); }

    // y and the final states, as hx has them: h, or a pair of h and c. `differentiable`: the function of
    // autograd that calls `keep`, which runs where there will be a backward pass.
    nb::object run(nb::handle differentiable, const std::string& cell, const nb::dict& parameters,
                   const nb::list& names, nb::handle x, nb::handle hx, int dimensions,
                   bool batch_first) const {
        PlainArguments given;
        if (!see(given, cell, parameters, names, x, hx) || given.x.dimensions() != dimensions)
            return nb::none();
        const int directions = static_cast<int>(names.size());
        if (says_true(differentiates_) && given.needs_gradients())
            return differentiated(differentiable, nb::make_tuple(cell, directions, batch_first), given);
        const Results out = infer({cell, directions, batch_first, threads()}, std::move(given));
        return results(out.y.object(), out.h_n.object(), out.c_n.object());
    }

    // The forward pass in a function of autograd: y, h_n, c_n and the cell states. What `gradients` will
    // need is kept in `context`. An output that nobody uses has no gradient, rather than zeros.
    nb::tuple keep(nb::handle context, const nb::tuple& options, bool cell_states, nb::handle lengths,
                   nb::handle batch_sizes, nb::handle x, nb::handle h0, nb::handle c0,
                   const nb::args& weights) const {
        static PyObject* const kept = PyUnicode_InternFromString("to_save");
        static PyObject* const of_layer = PyUnicode_InternFromString("options");
        static PyObject* const materialize = PyUnicode_InternFromString("materialize_grads");
        const Results out =
            layer_forward(read(options), weights, {x, h0, c0, lengths, batch_sizes}, cell_states, true);
        nb::setattr(context, materialize, nb::bool_(false));
        nb::setattr(context, of_layer, options);
        nb::setattr(context, kept,
                    nb::make_tuple(out.reserve.object(), lengths, batch_sizes, x, h0, c0) + weights);
        return nb::make_tuple(out.y.object(), out.h_n.object(), out.c_n.object(), out.cell_states.object());
    }

    // The gradients of x, h0, c0 and each weight, those that it needs, from what `keep` kept and the
    // gradients of what it gave; None where somebody looks on.
    nb::object gradients(const nb::tuple& options, const nb::tuple& kept, const nb::tuple& d_outputs,
                         const nb::sequence& needs) const {
        const nb::handle x = kept[3];
        if (says_true(differentiates_) || is_in_a_mode() ||
            !all_plain(nb::tuple(d_outputs + nb::make_tuple(x))))
            return nb::none();
        const nb::tuple weights = nb::steal<nb::tuple>(PyTuple_GetSlice(kept.ptr(), 6, kept.size()));
        const std::vector<nb::object> made =
            layer_backward(read(options), weights, {x, kept[4], kept[5], kept[1], kept[2]},
                           {kept[0], d_outputs[0], d_outputs[1], d_outputs[2], d_outputs[3]}, needs);
        return as_tuple(made);
    }

  private:
    bool see(PlainArguments& given, const std::string& cell, const nb::dict& parameters,
             const nb::list& names, nb::handle x, nb::handle hx) const {
        nb::handle h0 = hx, c0 = nb::none();
        if (is_in_a_mode() || says_true(casts_)) return false;
        const bool is_pair = !hx.is_none() && kernels().f32[cell_named(cell)].has_cell_state;
        if (is_pair && !take_pair(hx, h0, c0)) return false;
        return given.see(parameters, names, x, h0, c0, type_, other_type_);
    }
    static bool take_pair(nb::handle hx, nb::handle& h0, nb::handle& c0) {
        if (!PyTuple_Check(hx.ptr()) && !PyList_Check(hx.ptr())) return false;
        if (PySequence_Fast_GET_SIZE(hx.ptr()) != 2) return false;
        PyObject** const states = PySequence_Fast_ITEMS(hx.ptr());
        h0 = states[0], c0 = states[1];
        return !h0.is_none() && !c0.is_none();
    }

    static Results infer(const Options& options, PlainArguments given) {
        const nb::object x = given.x.object();
        for (Array& weight : given.weights) weight = readable(std::move(weight));
        const FlatWeights flat(given.weights, checked_directions(options.directions));
        Call call = call_of(options, flat, std::move(given.weights));
        take_inputs(call, std::move(given.x), std::move(given.h0), std::move(given.c0));
        const Results out = new_results(call, x, false, false);
        run_forward(std::move(call), out);
        return out;
    }

    static nb::object differentiated(nb::handle function, nb::object options, const PlainArguments& given) {
        std::vector<nb::object> arguments{std::move(options), nb::bool_(false),  nb::none(),       nb::none(),
                                          given.x.object(),   given.h0.object(), given.c0.object()};
        arguments.insert(arguments.end(), given.parameters.begin(), given.parameters.end());
        PyObject* const outputs = PyObject_CallObject(function.ptr(), as_tuple(arguments).ptr());
        if (!outputs) throw nb::python_error();
        const nb::tuple out = nb::steal<nb::tuple>(outputs);
        return results(out[0], out[1], out[2]);
    }

    static nb::object results(nb::handle y, nb::handle h_n, nb::handle c_n) {
        if (c_n.is_none()) return nb::make_tuple(y, h_n);
        return nb::make_tuple(y, nb::make_tuple(h_n, c_n));
    }
    static nb::tuple as_tuple(const std::vector<nb::object>& objects) {
        PyObject* const made = PyTuple_New(static_cast<Py_ssize_t>(objects.size()));
        if (!made) throw nb::python_error();
        for (std::size_t i = 0; i < objects.size(); ++i)
            PyTuple_SET_ITEM(made, static_cast<Py_ssize_t>(i), nb::object(objects[i]).release().ptr());
        return nb::steal<nb::tuple>(made);
    }

    Options read(const nb::tuple& options) const {
        return {nb::cast<std::string>(options[0]), nb::cast<int>(options[1]), nb::cast<bool>(options[2]),
                threads()};
    }
    int threads() const { return nb::cast<int>(threads_()); }
    static bool says_true(nb::handle function) {
        const nb::object said = function();
        return !said.is(Py_False) && PyObject_IsTrue(said.ptr());
    }

    nb::tuple modes_;
    nb::object forward_ad_, casts_, differentiates_, threads_, type_, other_type_;
};

}  // namespace penstock
