SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE # each of a hundred starts would compile everything anew
TOGETHER := --numprocesses auto
PARTS := $(BIN)/python -m tests.e2e.parts
LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header --quiet

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.installed: requirements-dev.lock pyproject.toml
	@$(PYTHON) .ci/install.py .venv requirements-dev.lock --editable
	@touch $@

.PHONY: install
install: .venv/.installed ## Set up .venv with everything, from the hashed lock file

# What the demo needs is a tenth of what developers need, who have it already.
DEMO := $(if $(wildcard .venv/.installed),.venv,.venv-demo)
.venv-demo/.installed: requirements.lock
	@$(PYTHON) .ci/install.py .venv-demo requirements.lock --keep
	@touch $@

.PHONY: demo
demo: $(DEMO)/.installed ## Show what is allowed, filled in and denied: a real server, no cluster needed; ARGS=--all
	@$(DEMO)/bin/python -m webhook demo $(ARGS)

.PHONY: parts
parts: install ## Build the real programs that tests need, once: with Go, in ten minutes
	@$(PARTS)

.PHONY: test
test: install ## Run every test; ARGS="-k name" goes to pytest
	@$(PARTS) --or-skip
	@$(BIN)/python -m tests.e2e.browser
	$(BIN)/pytest $(TOGETHER) $(ARGS)

.PHONY: e2e
e2e: install ## Run the tests on the real API server and the vCenter simulator only
	@$(PARTS) --or-skip
	@$(BIN)/python -m tests.e2e.browser
	$(BIN)/pytest tests/e2e $(TOGETHER) $(ARGS)

.PHONY: soak
soak: parts ## The long forms of the tests under load: replicas and certificates change meanwhile
	$(BIN)/pytest tests/e2e/test_soak.py tests/e2e/test_faults.py \
		tests/test_outages.py::test_hundreds_of_cuts_at_any_byte_leave_nothing_behind --soak --timeout 3600 --capture=no $(ARGS)
	$(BIN)/python -m tests.bench_slow

.PHONY: cluster
cluster: parts ## Bring up a real API server with a simulated vCenter, until Ctrl-C
	@$(BIN)/python -m tests.e2e.cluster

.PHONY: image-test
image-test: install ## Build the image and run it read-only: size, start, signals. As root, with buildah
	$(BIN)/python -m tests.image

.PHONY: release
release: install ## Make a release in dist/; ARGS=--without-image fetches nothing at all
	@$(PARTS) kubectl
	$(BIN)/python -m tests.release $(ARGS)

.PHONY: audit-deps
audit-deps: install ## Known vulnerabilities in the lock files; says so if they could not be looked up
	$(BIN)/python -m tests.audit

.PHONY: check
check: install ## Lint, types, layering, lock files: what CI demands beside the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.check_project

.PHONY: fix
fix: install ## Format, fix what ruff can, and write anew what is generated
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m tests.check_project --update

.PHONY: bench
bench: install ## Reviews per CPU second, latency and memory beside a Go webhook; 1 if a figure falls short
	@$(PARTS) go-webhook load
	$(BIN)/python -m tests.bench_server

.PHONY: bench-creations
bench-creations: parts ## Creations through a real API server beside a Go webhook; 1 if a figure falls short
	@$(PARTS) go-webhook load
	$(BIN)/python -m tests.bench_creations

.PHONY: bench-api
bench-api: parts ## POST /check per CPU second beside the admission path; 1 if it falls short
	@$(PARTS) load
	$(BIN)/python -m tests.bench_api

.PHONY: bench-slow
bench-slow: install ## Latency beside slow and idle clients, and their limits, as ratios; 1 if one is too high
	$(BIN)/python -m tests.bench_slow

.PHONY: bench-loop
bench-loop: install ## The longest stretch on the event loop with 100,000 VMs; 1 if one is too long
	$(BIN)/python -m tests.bench_loop

.PHONY: bench-size
bench-size: install ## What a review costs by how much there is, 100,000 VMs among it; 1 if one is not flat
	$(BIN)/python -m tests.bench_size

.PHONY: bench-inventory
bench-inventory: install ## Reading 5,000 VMs: time, memory, latency meanwhile; 1 if a figure falls short
	@$(PARTS) vcsim govmomi-read
	$(BIN)/python -m tests.bench_inventory

.PHONY: bench-plan
bench-plan: parts ## A Plan of 500 VMs and its Migration, on a real API server; 1 if one is too slow
	$(BIN)/python -m tests.bench_plan

.PHONY: bench-audit
bench-audit: parts ## What is watched: a full pass, from news to report, a storm; 1 if a figure falls short
	$(BIN)/python -m tests.bench_audit

.PHONY: bench-cli
bench-cli: parts ## The command: --help, check of 1,000 manifests, audit of 10,000 PVCs; 1 if one is too slow
	$(BIN)/python -m tests.bench_cli

.PHONY: lock
lock: install ## Resolve the lock files anew
	$(LOCK) --upgrade -o requirements.lock
	$(LOCK) --upgrade --group dev -o requirements-dev.lock
