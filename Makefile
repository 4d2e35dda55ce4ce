# The commands of this project. Each sets up what it needs; a second time that takes no time.
SHELL := bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
CODE := attestation server benchmarks tests scripts

.PHONY: help run test check bench bench-gpu soak fuzz faults mutation fmt clean setup setup-test

help: ## Show this
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## Install what `make run` needs
	@scripts/setup.sh run

setup-test: ## Install what `make test` and `make check` need
	@scripts/setup.sh test

run: setup ## Serve the demo model, prove it, stay up until Ctrl-C; ARGS=--once exits after the proof
	@exec $(BIN)/rlu demo $(ARGS)

test: setup-test ## Run every test, in two processes; ARGS are pytest's, and run in one
	@exec $(if $(strip $(ARGS)),$(BIN)/python -m pytest $(ARGS),scripts/test.sh)

check: setup-test ## The gate: format, lint, types, import contracts, pins, help texts against the documents, chart against k8s/
	@echo "== format"; $(BIN)/ruff format --check $(CODE)
	echo "== lint"; $(BIN)/ruff check $(CODE)
	echo "== types"; $(BIN)/mypy
	echo "== import contracts"; $(BIN)/lint-imports --no-cache
	echo "== pins"; $(BIN)/python scripts/pin_requirements.py --check
	echo "== help texts"; $(BIN)/python scripts/check_help.py
	echo "== chart"; $(BIN)/python scripts/chart_readme.py --check; $(BIN)/python scripts/render_chart.py --check

bench: setup-test ## Run the benchmarks; ARGS are those of benchmarks/run.py
	@exec $(BIN)/python benchmarks/run.py $(ARGS)

bench-gpu: setup ## On a GPU: vLLM with a realistic model, direct and through the gateway; ARGS are those of benchmarks/gpu.py
	@exec $(BIN)/python benchmarks/gpu.py $(ARGS)

soak: setup-test ## Full load, eight minutes to get warm and ten: memory must not grow; ARGS=--minutes=60 for longer
	@exec $(BIN)/python benchmarks/soak.py $(ARGS)

fuzz: setup-test ## Fuzz everything that takes bytes from others; ARGS=--seconds=600 for each target
	@exec $(BIN)/python tests/fuzz/run.py $(ARGS)

faults: setup-test ## Break a deployment by seeded schedules, its promises must hold; goes on where it was; ARGS=--minutes=30, ARGS="--seed N"
	@exec $(BIN)/python tests/faults/run.py $(ARGS)

mutation: setup-test ## Remove every check of the verifier in turn; a test must notice each
	@exec $(BIN)/python tests/mutation/run.py $(ARGS)

fmt: setup-test ## Format, and mend what the linter can
	@$(BIN)/ruff check --fix $(CODE); $(BIN)/ruff format $(CODE)

clean: ## Remove what was installed, made and cached here (not system packages)
	rm -rf tests/interop/node_modules .venv .cache .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
