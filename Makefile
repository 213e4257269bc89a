# Every target works in a fresh clone: it makes .venv, installs what it needs there and builds the kernels.
# The stamp files in .venv make a second call quick; a change to the kernels builds them again.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
KERNELS := CMakeLists.txt $(wildcard csrc/* csrc/*/*)
CPP := $(filter %.cpp %.hpp,$(KERNELS))
# pytest-xdist: one process a core up to four, each with one thread of its own.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ $$n -gt 4 ] && echo 4 || echo $$n)
PYTEST ?=
BENCH ?=
# What the demo writes.
DEMO := demo

.DELETE_ON_ERROR:
.PHONY: help install demo test sanitize lint format bench docs wheel clean

help:  ## this list (the default)
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile

install: $(VENV)/.tools $(VENV)/.built  ## make .venv with everything a developer needs, kernels built

demo: $(VENV)/.built  ## train a model on this machine's own Python files, and use it: about 3 minutes
	@$(BIN)/python examples/demo.py $(DEMO)

test: $(VENV)/.tools $(VENV)/.built  ## the whole test suite (PYTEST="-k lstm" for a part of it)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) $(PYTEST)

sanitize: $(VENV)/.tools  ## the kernels' tests under the sanitizers for memory, overflow and threads: some minutes
	sh scripts/sanitize.sh $(CURDIR)/$(BIN)/python

lint: $(VENV)/.tools $(VENV)/.built  ## style, types, import contract, spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/clang-format --dry-run --Werror $(CPP)

format: $(VENV)/.tools  ## rewrite the sources in the house style
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CPP)

bench: $(VENV)/.tools $(VENV)/.built  ## our layers beside torch.nn's and the other peers installed: under 5 minutes
	$(BIN)/python -m benchmarks.layers --json build/bench.json $(BENCH)

docs: $(VENV)/.tools  ## the documentation, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs --quiet build --strict

wheel: $(VENV)/.tools  ## a wheel for this machine, in dist/
	$(BIN)/python -m build --wheel

clean:  ## remove what was built; .venv, models and data stay
	rm -rf build dist site .pytest_cache .ruff_cache .import_linter_cache
	rm -f $(VENV)/.built
	find src tests benchmarks examples scripts -name __pycache__ -prune -exec rm -rf {} +
	find src -name '*.so' -delete

# The environment: torch first and alone, in the version of constraints.txt, then the rest.
$(VENV)/.train: pyproject.toml constraints.txt scripts/prerequisites.sh scripts/requirements.py
	@python=$$(sh scripts/prerequisites.sh) && \
	echo "Making $(VENV) with $$python ..." && \
	{ [ -x $(BIN)/pip ] || "$$python" -m venv $(VENV); }
	@echo "Installing torch ..."
	@$(PIP) torch
	@echo "Installing the libraries ..."
	@$(BIN)/python scripts/requirements.py build train > $(VENV)/requirements.txt
	@$(PIP) --requirement $(VENV)/requirements.txt
	@touch $@

$(VENV)/.tools: $(VENV)/.train
	@echo "Installing the developers' tools ..."
	@$(BIN)/python scripts/requirements.py dev docs search sklearn > $(VENV)/requirements.txt
	@$(PIP) --requirement $(VENV)/requirements.txt
	@touch $@

$(VENV)/.built: $(VENV)/.train $(KERNELS)
	@sh scripts/prerequisites.sh > /dev/null
	@echo "Building the kernels ..."
	@$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@
