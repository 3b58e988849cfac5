# Two commands on a fresh machine: `make demo` and `make test`. Each sets up what it needs.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint types calibrate bench-decide up down lock

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Install pinned and verified dependencies into .venv

demo: setup ## Watch models being deployed, tried, promoted and rolled back (under four minutes after set-up)
	@$(BIN)/tiltyard demo

test: setup ## Run every check and test (about 11 minutes on 2 cores)
	@$(MAKE) --no-print-directory check
	@$(BIN)/pytest

check: lint types ## Run the linters, the import contracts and the type checker

lint: setup ## Check style and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: setup ## Check types
	@$(BIN)/mypy

calibrate: setup ## Measure how often the engine errs and how long it takes; writes docs/calibration.* (15 minutes)
	@$(BIN)/python -m tests.calibration

bench-decide: setup ## Measure decisions a second on one core, 1,000 experiments to a mix
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m bench.decide

up: setup ## Start the whole system on this machine
	@$(BIN)/tiltyard up

down: setup ## Stop it
	@$(BIN)/tiltyard down

lock: setup ## Pin the newest versions that pyproject.toml allows
	@$(UV) pip compile pyproject.toml --quiet --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --upgrade \
		--output-file requirements.txt

$(READY): requirements.txt pyproject.toml
	@echo "Installing into $(VENV); the first time takes a minute or two."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@$(UV) pip install --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.txt
	@$(UV) pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation -e .
	@touch $(READY)
