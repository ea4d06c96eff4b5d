# `make ask Q="…"` answers a question; `make demo` starts the demo; `make test` runs the tests. All set up .venv first.
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
SHELL := /bin/bash
.PHONY: ask demo test lint format clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
# Passed on as they were typed: make would expand a dollar sign in them, and the shell quotes.
export ROM_QUESTION := $(value Q)
export ROM_DOCS := $(value DOCS)

ask: $(VENV)/.installed
	@: "$${ROM_QUESTION:?Write the question, as in: make ask Q=\"Who stayed in lunar orbit during Apollo 11?\"}"
	$(BIN)/rom ask "$$ROM_QUESTION" $${ROM_DOCS:+--docs "$$ROM_DOCS"}

demo: $(VENV)/.installed-demo
	$(BIN)/streamlit run demo/app.py

test: $(VENV)/.installed-dev
	$(BIN)/pytest -n 2 --dist loadfile --max-worker-restart 0 --cov --cov-report=term --cov-report=xml

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .coverage coverage.xml .pytest_cache .mypy_cache .ruff_cache

# torch comes first, at the pinned version, so that no other package pulls in a larger build of it.
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (a few minutes, once) …" >&2
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[openvino]"
	touch $@

$(VENV)/.installed-demo: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[openvino,demo]"
	touch $@

# faiss-haystack, which tests compare with, pins an older NumPy than it needs.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps faiss-haystack
	touch $@
