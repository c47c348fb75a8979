# The hook, CI and people call these targets and nothing else.
PYTHON ?= python3
PORT ?= 8000
TORCH ?= torch==2.13.0
DEV := .venv
SERVE := .venv-serve
LOCK = $(DEV)/bin/uv pip compile --quiet --no-config --generate-hashes --python-version 3.11 \
	--python-platform x86_64-manylinux_2_28 --annotation-style line --custom-compile-command 'make lock' $(LOCK_FLAGS)

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

.PHONY: help setup serve test check format bench results lock test-deploy clean

# Two environments: the one that serves has no torch in it.
$(SERVE)/.ready: pyproject.toml
	$(PYTHON) -m venv $(SERVE)
	$(SERVE)/bin/pip install --quiet --upgrade pip
	$(SERVE)/bin/pip install --quiet --editable '.[cpu]'
	touch $@

# torch first and by itself: a torch that is already there, or a CPU build, then satisfies the extras.
$(DEV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/pip install --quiet --upgrade pip
	$(DEV)/bin/python -c 'import torch' 2>/dev/null || $(DEV)/bin/pip install --quiet '$(TORCH)'
	$(DEV)/bin/pip install --quiet --editable '.[cpu,training,export,dev,search-dev]'
	touch $@

setup: $(DEV)/.ready  ## make the development environment

serve: $(SERVE)/.ready  ## serve the shipped bundle; PORT=8000
	$(SERVE)/bin/bootleg serve --port $(PORT)

test: setup  ## the whole suite
	$(DEV)/bin/python -m pytest -m 'not deploy'

test-deploy: setup  ## build and run docker-compose.yml; needs a Docker engine
	$(DEV)/bin/python -m pytest -m deploy tests/deploy

check: setup  ## lint, formatting, types
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy

format: setup  ## mend what can be mended
	$(DEV)/bin/ruff check --fix .
	$(DEV)/bin/ruff format .

lock: setup  ## pin what the images install; newer releases with LOCK_FLAGS=--upgrade
	echo 'hatchling>=1.26' | $(LOCK) --output-file docker/requirements-build.lock -
	$(LOCK) --extra cpu --extra otel --output-file docker/requirements-cpu.lock pyproject.toml
	$(LOCK) --extra gpu --extra otel --output-file docker/requirements-gpu.lock pyproject.toml
	echo '$(TORCH)' | $(LOCK) --extra cpu --extra training --extra export --extra parquet --extra tensorboard \
	  --constraints - --output-file docker/requirements-training.lock pyproject.toml

bench: setup  ## run the benchmarks; each writes benchmarks/results/NAME.json
	$(DEV)/bin/python -m benchmarks.training_step
	$(DEV)/bin/python -m benchmarks.serve
	$(DEV)/bin/python -m benchmarks.sizing

results: setup  ## write the tables of README and docs from benchmarks/results
	$(DEV)/bin/python -m benchmarks.tables --write

clean:
	rm -rf $(DEV) $(SERVE) build dist .mypy_cache .pytest_cache .ruff_cache
