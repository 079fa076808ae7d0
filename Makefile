# Everything a newcomer needs: `make demo` and `make test`. Both set up .venv first.
# Needs Python 3.11 to 3.13 and make; uv is used where it is installed and bootstrapped with pip where not.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	if command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then echo $$p; break; fi; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo serve docs test test-all check page audit bench lock format clean

help:
	@echo "make demo    the main job end to end, on real digits, over HTTP"
	@echo "make test    the test suite          make check   types, lint, import contracts, audit"
	@echo "make test-all  the same, with the cases that are marked slow"
	@echo "make serve   the service; stays      make bench   benchmarks (docs/benchmarks.md)"
	@echo "make docs    the documentation site, in build/site"
	@echo "make audit   known vulnerabilities of the locked packages, where a database answers"
	@echo "make setup   only the environment in .venv"

setup: $(READY)

# Compiled at once: a worker that may not write bytecode would compile TensorFlow anew at each start.
$(READY): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Secateur needs Python 3.11, 3.12 or 3.13 on PATH; none was found. Install one, or name it: make PYTHON=/path/to/python"; exit 1; }
	@command -v uv >/dev/null 2>&1 || test -x .uv/bin/uv || { $(PYTHON) -m venv .uv && .uv/bin/python -m pip install --quiet uv; }
	@UV=$$(command -v uv || echo .uv/bin/uv); \
	set -e; \
	$$UV venv --quiet --allow-existing --no-python-downloads --python "$$(command -v $(PYTHON))" .venv; \
	VIRTUAL_ENV=.venv $$UV pip install --quiet --compile-bytecode --require-hashes -r requirements/dev.txt; \
	VIRTUAL_ENV=.venv $$UV pip install --quiet --no-deps --no-build-isolation --editable .; \
	$(BIN)/python -m compileall -q app workers
	@touch $(READY)

demo: setup
	$(BIN)/secateur demo

serve: setup
	$(BIN)/secateur serve

docs: setup
	$(BIN)/python -m tools.site

# What shares a process, and what begins first: tests/conftest.py.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: setup
	$(PYTEST) -m "not slow"

test-all: setup
	$(PYTEST)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.page --check
	$(BIN)/python -m tools.audit

# The page at /, from app/web to app/web/built; only this needs node.
page: setup
	$(BIN)/python -m tools.page

audit: setup
	$(BIN)/python -m tools.audit

bench: setup
	$(BIN)/python -m benchmarks.service
	$(BIN)/python -m benchmarks.fuzz
	$(BIN)/python -m benchmarks.coverage
	$(BIN)/python -m benchmarks.graphs
	$(BIN)/python -m benchmarks.fit
	$(BIN)/python -m benchmarks.mnist

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Locks without hosts: hashes name the files, whatever the registry.
lock:
	UV=$$(command -v uv || echo .uv/bin/uv); set -e; \
	C="$$UV pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url pyproject.toml"; \
	$$C --all-extras --group dev -o requirements/dev.txt; \
	$$C --extra worker -c requirements/dev.txt -o requirements/worker.txt; \
	$$C -c requirements/dev.txt -o requirements/api.txt

clean:
	rm -rf .venv .uv .pytest_cache .mypy_cache .ruff_cache
