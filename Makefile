# `make` lists what there is. `make run` and `make test` need no other set-up: .venv makes itself where it is missing or old.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 2

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## Make .venv with every pinned package (run, demo and test do it by themselves)

$(READY): scripts/setup pyproject.toml requirements.txt requirements-dev.txt requirements-bench.txt
	@scripts/setup
	@touch $@

.PHONY: servers
servers: $(READY) ## Get the servers' programs where they are missing (run, demo and test do it by themselves)
	@$(BIN)/python -m koinonia.servers

.PHONY: run
run: $(READY) ## Start the whole platform on http://127.0.0.1:8080, with the simulated carrier, until Ctrl-C
	@exec $(BIN)/koinonia up

.PHONY: env
env: $(READY) ## Write .env with new secrets for docker-compose.yml, where there is none
	@[ ! -e .env ] || { echo "env: there is an .env already" >&2; exit 2; }
	@umask 077; trap 'rm -f .env.new' EXIT; $(BIN)/koinonia keys new >.env.new; mv -n .env.new .env

.PHONY: demo
demo: $(READY) ## Play the main job: register, import, send, watch, reply, STOP, bill; every figure must add up
	@exec $(BIN)/koinonia demo

.PHONY: test
test: lint types boundaries check-contracts test-services test-e2e test-chaos ## Everything below but `fix`, `contracts`, `lock` and `clean`

.PHONY: lint
lint: $(READY) ## Check style, likely bugs and layout (ruff), docker-compose.yml, that planted bugs still fit, and docs/asvs.md
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/python scripts/mutants.py --check
	$(BIN)/python scripts/asvs.py --check

.PHONY: types
types: $(READY) ## Check types, strictly, over everything (mypy)
	$(BIN)/mypy

.PHONY: boundaries
boundaries: $(READY) ## Check who imports whom: no service another, shared no service, domain no I/O (import-linter)
	$(BIN)/lint-imports --no-logo

.PHONY: check-contracts
check-contracts: $(READY) ## Check that proto-schemas/ is what the code says, and breaks nobody who knows the last version
	$(BIN)/koinonia contracts check

.PHONY: test-services
test-services: servers ## Unit and integration tests, with the floors for coverage: 80 %, in domain/ 95 %
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) shared services
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=80
	$(BIN)/coverage report --fail-under=95 --include='*/domain/*'

.PHONY: test-unit
test-unit: $(READY) ## Only the tests that need no server
	$(BIN)/pytest -n $(WORKERS) shared/tests/unit services/*/tests/unit

.PHONY: test-e2e
test-e2e: servers ## The whole platform by its public HTTP alone; with BALANCED=1 through a balancer before two gateways
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests-e2e --ignore=tests-e2e/chaos $(if $(BALANCED),--balanced)

.PHONY: test-chaos
test-chaos: servers ## Eight seeded runs in which every process is killed twice: nothing lost, nothing twice
	$(BIN)/pytest -n $(WORKERS) --dist loadscope tests-e2e/chaos

.PHONY: chaos
chaos: servers ## Such runs (RUNS=40), STOPs among 50,000, and RELOADS=100 reloads under load; one seed alone with SEED=7
	@$(BIN)/python -m tests-e2e.chaos --runs "$(or $(RUNS),8)" $(if $(SEED),--seed "$(SEED)")
	$(if $(SEED),,@STOP_RECIPIENTS=50000 $(BIN)/pytest tests-e2e/test_stop.py -k whatever_is_down)
	$(if $(SEED),,@RELOADS="$(or $(RELOADS),100)" $(BIN)/pytest tests-e2e/test_keys.py -k under_load)

.PHONY: bench
bench: servers ## Speed and cost beside a bare loop's and the usual ways' (N=10000, ROUNDS=3; YARDSTICK=0, USUAL=0, GATEWAY=0 leave out)
	@$(BIN)/python -m bench $(if $(N),--recipients "$(N)") $(if $(ROUNDS),--rounds "$(ROUNDS)") \
		$(if $(filter 0,$(YARDSTICK)),--no-yardstick) $(if $(USUAL),--usual "$(USUAL)") \
		$(if $(GATEWAY),--gateway "$(GATEWAY)")

.PHONY: bench-gateway
bench-gateway: servers ## The gateway beside a bare aiohttp hop, a part of `make bench` (REQUESTS=2000, ROUNDS=5)
	@$(BIN)/python -m bench.gateway $(if $(REQUESTS),--requests "$(REQUESTS)") $(if $(ROUNDS),--rounds "$(ROUNDS)")

.PHONY: test-containers
test-containers: $(READY) ## On containers: the tests of our servers, and the end-to-end tests once more; without an engine, one line
	@scripts/containers test

.PHONY: bench-buffers
bench-buffers: servers ## Pages that claim, settle and receipts touch among 100,000 rows and 10,000,000 (ROWS="100000 1000000")
	@$(BIN)/python -m bench.buffers $(if $(ROWS),--rows $(ROWS))

.PHONY: mutants
mutants: servers ## Plant one bug at a time in a copy, and show which tests turn red (ONLY="words of a name")
	@$(BIN)/python scripts/mutants.py --only "$(ONLY)"

.PHONY: fix
fix: $(READY) ## Format the code and repair what ruff can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: contracts
contracts: $(READY) ## Write proto-schemas/ again from the code
	$(BIN)/koinonia contracts generate

.PHONY: asvs
asvs: $(READY) ## Write docs/asvs.md again from the marks on the tests
	$(BIN)/python scripts/asvs.py

LOCK := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.PHONY: lock
lock: $(READY) ## Pin the requirements again, as they are or (UPGRADE=1) at their newest versions
	$(LOCK) $(if $(UPGRADE),--upgrade) -o requirements.txt requirements.in
	$(LOCK) $(if $(UPGRADE),--upgrade) -o requirements-dev.txt -c requirements.txt requirements-dev.in
	$(LOCK) $(if $(UPGRADE),--upgrade) -o requirements-bench.txt -c requirements-dev.txt requirements-bench.in
	$(LOCK) $(if $(UPGRADE),--upgrade) -o requirements-build.txt -c requirements-dev.txt requirements-build.in

.PHONY: clean
clean: ## Remove what is made, .venv and the state of `koinonia up` (.run) included
	rm -rf .venv .run .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
