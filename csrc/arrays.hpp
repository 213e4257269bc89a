// Arrays of other libraries (NumPy, torch, JAX: whatever speaks DLPack), seen without a copy.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels.hpp"

template <> struct nanobind::detail::dtype_traits<penstock::bf16> {
    static constexpr dlpack::dtype value{static_cast<std::uint8_t>(dlpack::dtype_code::Bfloat), 16, 1};
    static constexpr auto name = const_name("bfloat16");
};

namespace penstock {

namespace nb = nanobind;
using Shape = std::vector<index>;

// ---- DLPack's exchange by C functions ------------------------------------------------------------------
//
// Since version 1.3 a library may offer, on its array type, a table of C functions. Of two of them use is
// made: a view of an array takes nanoseconds, and an array of the library around memory of ours half a
// microsecond, where the exchange by Python objects takes microseconds for either. Source: dlpack.h,
// `DLPackExchangeAPI`, https://github.com/dmlc/dlpack

// Memory that an array holds until it ends (`DLManagedTensorVersioned`).
struct Managed {
    std::uint32_t major, minor;
    void* owner;
    void (*end)(Managed* self);
    std::uint64_t flags;
    nb::dlpack::dltensor tensor;
};

struct ExchangeApi {
    std::uint32_t major, minor;
    const ExchangeApi* older;
    void (*unused[2])();
    int (*wrap)(Managed* memory, void** object);
    int (*view)(void* object, nb::dlpack::dltensor* out);
};

// The table of a type, or nullptr: it is looked up once, and a type once seen stays alive.
inline const ExchangeApi* exchange_api(PyTypeObject* type) {
    static std::vector<std::pair<PyTypeObject*, const ExchangeApi*>> known;  // a few: a search beats hashing
    for (const auto& [seen, api] : known)
        if (seen == type) return api;
    const nb::object capsule =
        nb::getattr(nb::handle(reinterpret_cast<PyObject*>(type)), "__dlpack_c_exchange_api__", nb::none());
    const ExchangeApi* api = nullptr;
    if (PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api"))
        api = static_cast<const ExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    while (api && api->major > 1) api = api->older;
    if (api && (api->major != 1 || !api->view || !api->wrap)) api = nullptr;
    Py_INCREF(type);
    known.emplace_back(type, api);
    return api;
}

// ---- views ---------------------------------------------------------------------------------------------

inline std::string text(const Shape& shape) {
    std::string out = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
    return out + (shape.size() == 1 ? ",)" : ")");
}

enum class Access { read, write };

// A view of an array on the CPU, or of nothing where None was given. It lives as long as the call it is for.
class Array {
  public:
    Array() = default;
    Array(nb::handle object, const char* name, Access access = Access::read)
        : name_(name), object_(nb::borrow(object)) {
        if (object.is_none()) return;
        if (const ExchangeApi* api = exchange_api(Py_TYPE(object.ptr()))) {
            if (api->view(object.ptr(), &view_) != 0) throw nb::python_error();
        } else {
            import(object, access);
        }
        if (view_.device.device_type != nb::device::cpu::value)
            throw nb::type_error((std::string(name) + ": expected an array on the CPU").c_str());
        take();
    }
    // Seen already.
    Array(nb::object object, const char* name, const nb::dlpack::dltensor& view)
        : view_(view), name_(name), object_(std::move(object)) {
        take();
    }

    explicit operator bool() const { return given_; }
    // None where it is a view of nothing.
    nb::object object() const { return given_ ? object_ : nb::none(); }
    const char* name() const { return name_; }
    void rename(const char* name) { name_ = name; }
    nb::dlpack::dtype dtype() const { return view_.dtype; }
    int dimensions() const { return view_.ndim; }
    index size(int dimension) const { return view_.shape[dimension]; }
    index stride(int dimension) const { return view_.strides[dimension]; }
    Shape shape() const { return given_ ? Shape(view_.shape, view_.shape + view_.ndim) : Shape{}; }

    index count() const {
        index product = 1;
        for (int i = 0; i < view_.ndim; ++i) product *= view_.shape[i];
        return product;
    }

    bool is_contiguous() const {
        if (count() == 0) return true;
        index expected = 1;
        for (int i = view_.ndim; i-- > 0;) {
            if (size(i) > 1 && stride(i) != expected) return false;
            expected *= size(i);
        }
        return true;
    }

    // Whether the last dimension is contiguous.
    bool has_rows() const {
        const int last = view_.ndim - 1;
        return last < 0 || size(last) <= 1 || stride(last) == 1;
    }
    // Vectors along the last dimension, which has to be contiguous.
    index row_length() const {
        if (!has_rows())
            throw std::invalid_argument(std::string(name_) +
                                        ": expected the last dimension to be contiguous");
        return view_.ndim ? size(view_.ndim - 1) : 1;
    }
    index offset_of_row(index row) const {
        index offset = 0;
        for (int i = view_.ndim - 1; i-- > 0; row /= size(i)) offset += row % size(i) * stride(i);
        return offset;
    }

    // An array of float32 with this shape, contiguous, at `values`; its strides will lie at `strides`.
    Array as_floats(float* values, index* strides) const {
        Array other = *this;
        other.view_.data = values;
        other.view_.dtype = nb::dtype<float>();
        other.view_.strides = strides;
        index stride = 1;
        for (int i = view_.ndim; i-- > 0; stride *= size(i)) strides[i] = stride;
        return other;
    }

    void check_shape(std::initializer_list<index> expected) const {
        if (view_.ndim == static_cast<int>(expected.size()) &&
            std::equal(expected.begin(), expected.end(), view_.shape))
            return;
        throw std::invalid_argument(std::string(name_) + ": expected shape " + text(expected) + ", got " +
                                    text(shape()));
    }

    void check_contiguous() const {
        if (!is_contiguous())
            throw std::invalid_argument(std::string(name_) + ": expected a contiguous array");
    }

    void* bytes() const { return view_.data; }

    // Never nullptr: an empty array may have no address, and nullptr would mean "not given".
    template <class T> T* data() const {
        if (view_.dtype != nb::dtype<std::remove_const_t<T>>())
            throw nb::type_error((std::string(name_) + ": expected the dtype of x").c_str());
        static std::remove_const_t<T> nowhere;
        if (view_.data) return static_cast<T*>(view_.data);
        if (count()) throw std::invalid_argument(std::string(name_) + ": expected an array with memory");
        return &nowhere;
    }

    // A contiguous array of this shape; nullptr for none.
    template <class T> T* contiguous(std::initializer_list<index> shape) const {
        if (!given_) return nullptr;
        T* start = data<T>();
        check_shape(shape);
        check_contiguous();
        return start;
    }

  private:
    void take() {
        view_.data = static_cast<char*>(view_.data) + view_.byte_offset;
        given_ = true;
    }
    void import(nb::handle object, Access access) {
        // A tensor of an older torch refuses the exchange while it requires a gradient.
        nb::object plain = nb::hasattr(object, "detach") ? object.attr("detach")() : nb::borrow(object);
        if (access == Access::write) keep<nb::ndarray<nb::device::cpu>>(plain, "a writable array on the CPU");
        else keep<nb::ndarray<nb::ro, nb::device::cpu>>(plain, "an array on the CPU");
    }

    template <class A> void keep(const nb::object& object, const char* expected) {
        A array;
        if (!nb::try_cast(object, array))
            throw nb::type_error((std::string(name_) + ": expected " + expected).c_str());
        view_.data = const_cast<void*>(static_cast<const void*>(array.data()));
        view_.device = {array.device_type(), array.device_id()};
        view_.ndim = static_cast<std::int32_t>(array.ndim());
        view_.dtype = array.dtype();
        view_.shape = const_cast<std::int64_t*>(array.shape_ptr());
        view_.strides = const_cast<std::int64_t*>(array.stride_ptr());
        owner_ = std::make_shared<nb::ndarray<nb::ro>>(array);
    }

    nb::dlpack::dltensor view_;
    const char* name_ = "";
    nb::object object_;                           // what is seen, and
    std::shared_ptr<nb::ndarray<nb::ro>> owner_;  // what Python's exchange made of it, are kept alive
    bool given_ = false;
};

// Sees arrays one after the other, as long as each (None aside) is exactly of one of two types, is on the
// CPU, has the dtype of the first and holds its values as they are (torch has views that negate when read).
// False also for a library without the fast exchange: the caller then looks more closely.
class PlainArrays {
  public:
    PlainArrays(nb::handle type, nb::handle other_type) : type_(type), other_type_(other_type) {}

    bool see(nb::handle object, nb::dlpack::dltensor& view) {
        if (!object.type().is(type_) && !object.type().is(other_type_)) return false;
        const ExchangeApi* api = exchange_api(Py_TYPE(object.ptr()));
        if (!api) return false;
        if (api->view(object.ptr(), &view) != 0) {  // without memory of its own, say
            PyErr_Clear();
            return false;
        }
        if (dtype_ == nb::dlpack::dtype{}) dtype_ = view.dtype;
        if (view.dtype != dtype_ || view.device.device_type != nb::device::cpu::value) return false;
        return !may_negate(object, view) || is_positive(object);
    }
    // None may be among them.
    bool see_all(const nb::tuple& objects) {
        nb::dlpack::dltensor view;
        return std::all_of(objects.begin(), objects.end(),
                           [&](nb::handle object) { return object.is_none() || see(object, view); });
    }
    bool see(nb::handle object, const char* name, Array& array) {
        if (object.is_none()) return true;
        nb::dlpack::dltensor view;
        if (!see(object, view)) return false;
        array = Array(nb::borrow(object), name, view);
        return true;
    }

  private:
    // To ask takes as long as the view. A parameter that negates is the imaginary part of something
    // conjugate, with gaps between its values.
    bool may_negate(nb::handle object, const nb::dlpack::dltensor& view) const {
        return !object.type().is(other_type_) || view.ndim == 0 || view.strides[view.ndim - 1] != 1;
    }
    static bool is_positive(nb::handle object) {
        static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
        const nb::object negates = nb::steal(PyObject_CallMethodNoArgs(object.ptr(), is_neg));
        return negates.is(Py_False);
    }

    nb::handle type_, other_type_;
    nb::dlpack::dtype dtype_{};
};

}  // namespace penstock
