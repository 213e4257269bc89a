// New tensors of torch, for what a call gives.
#pragma once

#include <array>
#include <cstring>
#include <initializer_list>

#include "arrays.hpp"
#include "blocks.hpp"

namespace penstock {

// For the tests: every new tensor is filled with NaN, so that what a kernel fails to write shows.
inline bool poisons = false;

// Uninitialised memory for a tensor of torch, from the blocks that are kept (csrc/blocks.hpp).
template <class T> nb::object tensor_of_block(const index* shape, std::size_t dimensions) {
    std::array<std::size_t, 8> sizes{};
    if (dimensions > sizes.size()) throw std::invalid_argument("shape: expected at most 8 dimensions");
    std::size_t count = 1;
    for (std::size_t i = 0; i < dimensions; ++i) count *= sizes[i] = static_cast<std::size_t>(shape[i]);
    void* block = take_block(count * sizeof(T));
    const nb::capsule owner(block, [](void* given) noexcept { give_back_block(given); });
    return nb::cast(nb::ndarray<nb::pytorch, T>(block, dimensions, sizes.data(), owner));
}
inline nb::object tensor_of_block(nb::dlpack::dtype dtype, const index* shape, std::size_t dimensions) {
    if (dtype == nb::dtype<float>()) return tensor_of_block<float>(shape, dimensions);
    if (dtype == nb::dtype<double>()) return tensor_of_block<double>(shape, dimensions);
    if (dtype == nb::dtype<bf16>()) return tensor_of_block<bf16>(shape, dimensions);
    throw nb::type_error("dtype: expected float32, float64 or bfloat16");
}

// like.new_empty(*shape): torch's own memory.
inline nb::object tensor_of_torch(nb::handle like, const index* shape, std::size_t dimensions) {
    static PyObject* const new_empty = PyUnicode_InternFromString("new_empty");
    std::array<nb::object, 8> sizes;
    std::array<PyObject*, 9> arguments{like.ptr()};
    if (dimensions > sizes.size()) throw std::invalid_argument("shape: expected at most 8 dimensions");
    for (std::size_t i = 0; i < dimensions; ++i) {
        sizes[i] = nb::int_(shape[i]);
        arguments[i + 1] = sizes[i].ptr();
    }
    PyObject* made = PyObject_VectorcallMethod(new_empty, arguments.data(), dimensions + 1, nullptr);
    if (!made) throw nb::python_error();
    return nb::steal(made);
}

// An uninitialised contiguous tensor of the dtype of `like`. Large ones take memory that an earlier one has
// given back: fresh pages cost as much as the arithmetic.
inline nb::object new_tensor(nb::handle like, nb::dlpack::dtype dtype, const index* shape,
                             std::size_t dimensions) {
    index bytes = dtype.bits / 8;
    for (std::size_t i = 0; i < dimensions; ++i) bytes *= shape[i];
    const nb::object made = bytes >= static_cast<index>(smallest_block)
                                ? tensor_of_block(dtype, shape, dimensions)
                                : tensor_of_torch(like, shape, dimensions);
    if (poisons && bytes) {
        const Array view(made, "poisoned", Access::write);
        std::memset(view.bytes(), 0xff, static_cast<std::size_t>(bytes));
    }
    return made;
}
inline nb::object new_tensor(nb::handle like, nb::dlpack::dtype dtype, std::initializer_list<index> shape) {
    return new_tensor(like, dtype, shape.begin(), shape.size());
}

// A view of a tensor as the kernels read it, of a copy where it does not lie so: contiguous, or, of a
// sequence, with a contiguous last dimension.
enum class Form { contiguous, rows };
inline Array readable(Array array, Form form = Form::contiguous) {
    static PyObject* const contiguous = PyUnicode_InternFromString("contiguous");
    if (!array || array.is_contiguous() || (form == Form::rows && array.has_rows())) return array;
    PyObject* copied = PyObject_CallMethodNoArgs(array.object().ptr(), contiguous);
    if (!copied) throw nb::python_error();
    return {nb::steal(copied), array.name()};
}

}  // namespace penstock
