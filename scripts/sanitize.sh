#!/bin/sh
# The kernels' tests under AddressSanitizer and UndefinedBehaviorSanitizer, then the threaded ones under
# ThreadSanitizer: sanitize.sh PYTHON. The builds go to build/sanitize-*; the package stays as it is.
set -eu
python=$1
PATH=$(dirname "$python"):$PATH # cmake, where the environment brings it
compiler=${CXX:-c++}

# A Python that was not built for a sanitizer must load its runtime before everything else; and libstdc++ with
# it, whose exceptions the runtime follows.
runtime() {
    library=$("$compiler" -print-file-name="lib$1.so")
    [ -e "$library" ] || {
        echo "penstock: $compiler has no lib$1.so to check the kernels with; name a GCC: make sanitize CXX=g++" >&2
        exit 1
    }
    echo "$library:$("$compiler" -print-file-name=libstdc++.so)"
}

build() {
    folder=build/sanitize-$1
    echo "Building the kernels in $folder ..."
    cmake -S . -B "$folder" -G "Unix Makefiles" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_COMPILER="$compiler" \
        -DPENSTOCK_SANITIZE="$1" -DPython_EXECUTABLE="$python" \
        -Dnanobind_DIR="$("$python" -m nanobind --cmake_dir)" >"$folder.log"
    cmake --build "$folder" --parallel 2 >>"$folder.log"
}

check() {
    folder=build/sanitize-$1 libraries=$2
    shift 2
    LD_PRELOAD=$libraries "$python" -X faulthandler scripts/with_kernels.py "$folder" "$@"
}

asan=$(runtime asan)
tsan=$(runtime tsan)
mkdir -p build
build address
build thread

export PYTHONPATH=src OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 # Python keeps memory to the end on purpose
export TSAN_OPTIONS=halt_on_error=1
# Not what judges accuracy, nor what starts processes, which would run without the sanitizer's build.
check address "$asan" pytest -q -x --capture=sys -p no:cacheprovider \
    -k "not accurate and not gradcheck and not without_torch and not fork" \
    tests/ops/test_activations.py tests/ops/test_sharing.py tests/ops/test_ladder.py tests/ops/test_bf16.py \
    tests/ops/test_split.py
check thread "$tsan" tests.ops.threaded
