# `make` or `make help` lists the commands.
# Variables are passed to the programs: make run PORT=9000 STATE_DIR=/tmp/other

.DEFAULT_GOAL := help
.PHONY: help run env test test-nightly test-deploy test-docker test-chaos test-fuzz test-hostile soak bench bench-quick lint lint-supply format lock clean distclean runtime dev fuzz

BIN := .venv/bin

# As many as cores: with more, Kafka and the services starve on a slow machine. Each test is scheduled by itself, unless it
# shares services with others (xdist_group); tests/conftest.py puts the longest first.
PROCESSES ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadgroup --no-loadscope-reorder --max-worker-restart 0 --durations 40
# Every process imports all test files, which takes twice as long without their bytecode.
unexport PYTHONDONTWRITEBYTECODE

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: runtime  ## run everything on this machine: Kafka, processor, gateway, exporter (PORT=8000 STATE_DIR=.state)
	@exec $(BIN)/tobogganing run

env:  ## write secrets for docker compose to .env, once (LAPTOP=1: one broker, one of each service)
	@sh deploy/env.sh $(if $(LAPTOP),laptop)

test: dev  ## run the tests, with a real Kafka that they start (PROCESSES=2 ARGS='-k name' selects tests)
	@$(PYTEST) $(ARGS)

test-nightly: dev  ## run the tests with all long forms: every fault, attack, stack and restart (35 minutes)
	@CI=true LONG=1 $(PYTEST) $(ARGS)

test-deploy: dev  ## run only the tests of docker-compose.yml and deploy/, and list the programs that they started
	@CI=true LONG=1 $(BIN)/python -m pytest tests/deploy $(ARGS)

test-docker: dev  ## run docker-compose.yml on a Docker engine, as a user does (root, Linux, Go; 15 minutes, the first time 60)
	@CI=true LONG=1 $(BIN)/python -m pytest tests/docker -x -o faulthandler_timeout=3600 $(ARGS)

test-chaos: dev  ## cause every fault twice under load, and check all results (20 minutes; ROUNDS=200 FAULTS=name,name PAIRS=200 SEED=n BROKERS=1)
	@$(BIN)/python -m tests.chaos

test-fuzz: dev fuzz  ## fuzz every decoder, HTTP connections and both APIs (SECONDS=60 for each; TARGETS=name,name SEED=n)
	@$(BIN)/python -m tests.fuzz

test-hostile: dev  ## attack a gateway while it serves a healthy fleet (SECONDS=10 for each; ATTACKS=name,name)
	@$(BIN)/python -m tests.hostile

soak: dev  ## run everything at a constant rate, and check that memory and open files do not grow (SECONDS=1800 RATE=5000)
	@$(BIN)/python -m tests.soak

bench: dev  ## measure everything, compare it with other systems, and update docs/performance.md (20 minutes)
	@$(BIN)/python -m bench --publish

bench-quick: dev  ## measure small fleets and print the tables (3 minutes)
	@$(BIN)/python -m bench --quick

lint: dev  ## check style, types and imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/unit/test_imports.py

lint-supply: runtime  ## write dist/sbom.json (CycloneDX), and look up known vulnerabilities of the pinned packages
	@sh requirements/supply.sh

format: dev  ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: dev  ## resolve the requirements, and pin them with their hashes
	@sh requirements/lock.sh

clean:  ## remove everything that was built (the data in .state and the downloads in the cache stay)
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## remove everything: also all data in .state, and the downloads that all checkouts share
	rm -rf .state "$${XDG_CACHE_HOME:-$$HOME/.cache}/tobogganing"

runtime dev fuzz:
	@sh requirements/venv.sh $@
