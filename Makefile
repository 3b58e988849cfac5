# Two commands on a fresh machine: `make demo` and `make test`. Each sets up what it needs.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint types calibrate bench bench-decide bench-lock up down lock

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Install pinned and verified dependencies into .venv

demo: setup ## Watch models being deployed, tried, promoted and rolled back (under four minutes after set-up)
	@$(BIN)/tiltyard demo

test: setup ## Run every check and test (about 15 minutes on 2 cores)
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

bench: setup ## Measure the edge beside what people use instead (25 minutes; ROUNDS=1 SECONDS=1: a glance)
	@$(BIN)/python -m bench $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) \
		$(if $(DRILLS),--drills $(DRILLS)) $(if $(REQUESTS),--requests $(REQUESTS)) $(if $(ONLY),--only $(ONLY))

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
	@$(UV) pip compile tests/clients/requirements.in --quiet --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --upgrade \
		--output-file tests/clients/requirements.txt

bench-lock: setup ## Pin what the bench compares with, each in an environment of its own
	@for peer in mlserver bentoml litserve; do (cd bench/peers && \
		../../$(UV) pip compile $$peer.in --quiet --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --output-file $$peer.txt); done

$(READY): requirements.txt pyproject.toml
	@echo "Installing into $(VENV); the first time takes a minute or two."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@$(UV) pip install --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.txt
	@$(UV) pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation -e .
	@touch $(READY)
