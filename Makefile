# `make demo` and `make test` are all that a fresh machine with python3 and make needs.
# Everything is installed into .venv; what tests need from outside is fetched here, in the
# install step, never while they run.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MINOR := $(shell $(PYTHON) -c 'import sys; print("%d%d" % sys.version_info[:2])')
CONSTRAINTS := constraints/py$(MINOR).txt
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python -c $(CONSTRAINTS)
ifeq ($(wildcard $(CONSTRAINTS)),)
$(error Python 3.11 to 3.13 is needed, $(PYTHON) is another; try: make PYTHON=python3.13)
endif
# The newest file that an installation depends on: a change installs again.
SOURCES := pyproject.toml $(CONSTRAINTS)
DEMO ?= demo
# Two processes use two cores well: much of the tests waits for others. Each takes some GB.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
# Many short processes import the same libraries: let Python keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE

# After `make gpu` every later installation swaps again. The version is the one that is pinned
# for the CPU; CUDA and cuDNN come as packages, without which the GPU build runs on the CPU.
ORT := $(shell sed -n 's/^onnxruntime==//p' $(CONSTRAINTS))
SWAP = $(BIN)/uv pip uninstall --quiet --python $(BIN)/python onnxruntime onnxruntime-gpu; \
	$(UV) 'onnxruntime-gpu[cuda,cudnn]==$(ORT)'

.PHONY: help demo demo-full core install test test-full lint bench gpu constraints clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: $(VENV)/.core  ## install the core and sweep the bundled images into ./demo
	$(BIN)/opsef demo $(DEMO)

demo-full: $(VENV)/.all  ## sweep them with Cellpose, Mask R-CNN and TensorFlow too, into ./demo-full
	$(BIN)/opsef demo --full demo-full

core: $(VENV)/.core  ## install the core: sweeps on ONNX Runtime, no torch, TensorFlow or Java

install: $(VENV)/.all  ## install everything, with the tools and files of the tests

test: $(VENV)/.all  ## install everything and run the tests
	$(PYTEST)

test-full: $(VENV)/.all  ## run the slow tests too
	$(PYTEST) -m ""

lint: $(VENV)/.all  ## check style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

bench: $(VENV)/.all  ## run the benchmarks
	for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

gpu: $(VENV)/.core  ## swap ONNX Runtime for its GPU build (they cannot live side by side)
	$(SWAP)
	touch $(VENV)/.gpu
	$(BIN)/opsef doctor

$(VENV)/.uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	touch $@

$(VENV)/.core: $(VENV)/.uv $(SOURCES)
	@echo "Installing the core into $(VENV) ..."
	$(UV) -e .
	@if [ -f $(VENV)/.gpu ]; then $(SWAP); fi
	touch $@

$(VENV)/.all: $(VENV)/.uv $(SOURCES)
	@echo "Installing everything into $(VENV) (several GB) ..."
	$(UV) -e '.[all,test]'
	$(BIN)/python -m opsef_bridge.imagej
	@if [ -f $(VENV)/.gpu ]; then $(SWAP); fi
	touch $@ $(VENV)/.core

constraints: $(VENV)/.uv  ## resolve the pinned versions anew, one file per Python
	for minor in 3.11 3.12 3.13; do \
	  $(BIN)/uv pip compile --quiet --upgrade pyproject.toml --all-extras \
	    --python-version $$minor --python-platform linux --no-annotate --no-header \
	    --no-emit-index-url --no-emit-find-links -o constraints/py$$(echo $$minor | tr -d .).txt || exit 1; \
	done

clean:  ## remove the environment and the demo
	rm -rf $(VENV) demo demo-full
