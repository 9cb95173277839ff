# `make demo` and `make test` do all the set-up themselves; the second call starts at once.
# A CPU build of torch that is installed in .venv already is kept.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
CONSTRAINTS := constraints/cpu.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check
# A file's tests stay together, as they share what they have trained.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile
# On a busy machine idle OpenMP threads would otherwise spin.
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 0
export TOKENIZERS_PARALLELISM := false

.PHONY: help demo test test-slow check clean

help:  ## Show the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || python3 -m venv $(VENV)
	$(PIP) install --quiet torch -c $(CONSTRAINTS)
	$(PIP) install --quiet --editable '.[all]' -c $(CONSTRAINTS)
	touch $(READY)

$(READY_DEV): $(READY)
	$(PIP) install --quiet --editable '.[dev]' -c $(CONSTRAINTS)
	touch $(READY_DEV)

demo: $(READY)  ## Compare both arms on generated data; no download, a few minutes.
	$(BIN)/semtube demo

test: $(READY_DEV)  ## Run the tests.
	$(PYTEST)

test-slow: $(READY_DEV)  ## Run the tests that train for minutes.
	$(PYTEST) -m slow

check: $(READY_DEV)  ## Format, lint and types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyrefly check

clean:  ## Remove the virtual environment and caches.
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
