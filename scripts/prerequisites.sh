#!/bin/sh
# Prints the Python to make .venv with; or says in one sentence what this machine lacks, and exits with 1.
# Nothing is installed before all of it is there.
set -eu

fail() {
    echo "penstock: $*" >&2
    exit 1
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

python=
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if new_enough "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    found=$("${PYTHON:-python3}" --version 2>/dev/null || echo "no Python")
    fail "Python 3.11 or newer is needed and ${PYTHON:-python3} is $found; install one, or name it: make PYTHON=python3.12 ..."
fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make virtual environments; install its venv module (Debian, Ubuntu: apt install python$version-venv)."

"$python" -c 'import os, sysconfig; os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null ||
    fail "the C headers of $python are missing, and the kernels are built with them; install them (Debian, Ubuntu: apt install python$version-dev)."

compiler=${CXX:-}
for candidate in c++ g++ clang++; do
    [ -z "$compiler" ] && command -v "$candidate" >/dev/null 2>&1 && compiler=$candidate
done
[ -n "$compiler" ] ||
    fail "no C++ compiler was found (looked for c++, g++ and clang++), and the kernels are built with one; install it (Debian, Ubuntu: apt install g++)."
echo 'int main() {}' | $compiler -std=c++20 -fsyntax-only -x c++ - 2>/dev/null ||
    fail "the C++ compiler '$compiler' does not run or does not know C++20; install a newer one (g++ 11, clang++ 14), or name one: make CXX=g++-12 ..."

echo "$python"
