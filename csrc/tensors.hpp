// New tensors of torch, for what a call gives.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <new>

#include "arrays.hpp"
#include "blocks.hpp"

namespace penstock {

// For the tests: every new tensor is filled with NaN, so that what a kernel fails to write shows.
inline bool poisons = false;

constexpr std::size_t most_dimensions = 8;
inline void check_dimensions(std::size_t dimensions) {
    if (dimensions > most_dimensions) throw std::invalid_argument("shape: expected at most 8 dimensions");
}

// An uninitialised contiguous tensor as a library takes it by its table. Large ones are a block that an
// earlier one has given back (csrc/blocks.hpp), as fresh pages cost as much as the arithmetic; small ones are
// one piece of memory with what describes them.
class Described {
  public:
    static Managed* make(nb::dlpack::dtype dtype, const index* shape, std::size_t dimensions,
                         std::size_t bytes) {
        check_dimensions(dimensions);
        const bool is_large = bytes >= smallest_block;
        std::unique_ptr<void, decltype(&std::free)> memory(
            std::malloc(sizeof(Described) + (is_large ? 0 : bytes + line)), std::free);
        if (!memory) throw std::bad_alloc();
        Described* made = new (memory.get()) Described;
        if (is_large) made->block_ = take_block(bytes);
        const std::uintptr_t behind = (reinterpret_cast<std::uintptr_t>(made + 1) + line - 1) / line * line;
        std::copy(shape, shape + dimensions, made->shape_.begin());
        index stride = 1;
        for (std::size_t i = dimensions; i-- > 0; stride *= shape[i]) made->stride_[i] = stride;
        made->managed_ = {.major = 1, .minor = 0, .owner = made, .end = end, .flags = 0, .tensor = {}};
        nb::dlpack::dltensor& tensor = made->managed_.tensor;
        tensor.data = is_large ? made->block_ : reinterpret_cast<void*>(behind);
        tensor.device = {nb::device::cpu::value, 0};
        tensor.ndim = static_cast<std::int32_t>(dimensions), tensor.dtype = dtype;
        tensor.shape = made->shape_.data(), tensor.strides = made->stride_.data();
        memory.release();
        return &made->managed_;
    }

  private:
    static constexpr std::uintptr_t line = 64;
    static void end(Managed* self) {
        Described* made = static_cast<Described*>(self->owner);
        if (made->block_) give_back_block(made->block_);
        std::free(made);
    }
    Managed managed_;
    void* block_ = nullptr;
    std::array<index, most_dimensions> shape_, stride_;
};

inline Array tensor_by_table(const ExchangeApi& api, nb::dlpack::dtype dtype, const index* shape,
                             std::size_t dimensions, std::size_t bytes, const char* name) {
    Managed* memory = Described::make(dtype, shape, dimensions, bytes);
    const nb::dlpack::dltensor view = memory->tensor;
    void* made = nullptr;
    if (api.wrap(memory, &made) != 0) throw nb::python_error();  // it steals the memory
    return {nb::steal(static_cast<PyObject*>(made)), name, view};
}

// The same by Python's exchange, for a block.
template <class T> nb::object tensor_of_block(const index* shape, std::size_t dimensions) {
    check_dimensions(dimensions);
    std::array<std::size_t, most_dimensions> sizes{};
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

// like.new_empty(*shape): torch's own memory. Of another dtype than `like` float32 alone is wanted.
inline nb::object tensor_of_torch(nb::handle like, nb::dlpack::dtype dtype, const index* shape,
                                  std::size_t dimensions) {
    static PyObject* const new_empty = PyUnicode_InternFromString("new_empty");
    check_dimensions(dimensions);
    nb::object typed = nb::borrow(like);
    if (Array(like, "like").dtype() != dtype)
        typed = like.attr("new_empty")(0, nb::arg("dtype") = nb::module_::import_("torch").attr("float32"));
    std::array<nb::object, most_dimensions> sizes;
    std::array<PyObject*, most_dimensions + 1> arguments{typed.ptr()};
    for (std::size_t i = 0; i < dimensions; ++i) {
        sizes[i] = nb::int_(shape[i]);
        arguments[i + 1] = sizes[i].ptr();
    }
    PyObject* made = PyObject_VectorcallMethod(new_empty, arguments.data(), dimensions + 1, nullptr);
    if (!made) throw nb::python_error();
    return nb::steal(made);
}

// An uninitialised contiguous tensor of the library of `like`.
inline Array new_tensor(nb::handle like, nb::dlpack::dtype dtype, const index* shape, std::size_t dimensions,
                        const char* name) {
    std::size_t bytes = dtype.bits / 8;
    for (std::size_t i = 0; i < dimensions; ++i) bytes *= static_cast<std::size_t>(shape[i]);
    const auto by_exchange = [&](const nb::object& made) { return Array(made, name, Access::write); };
    const ExchangeApi* api = exchange_api(Py_TYPE(like.ptr()));
    Array made = api                       ? tensor_by_table(*api, dtype, shape, dimensions, bytes, name)
                 : bytes >= smallest_block ? by_exchange(tensor_of_block(dtype, shape, dimensions))
                                           : by_exchange(tensor_of_torch(like, dtype, shape, dimensions));
    if (poisons && bytes) std::memset(made.bytes(), 0xff, bytes);
    return made;
}
inline Array new_tensor(nb::handle like, nb::dlpack::dtype dtype, std::initializer_list<index> shape,
                        const char* name) {
    return new_tensor(like, dtype, shape.begin(), shape.size(), name);
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
