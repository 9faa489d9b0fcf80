# Two commands do everything: `make demo` and `make test`. Both set the machine up themselves.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo demo-ha test test-fast test-conformance test-lab test-cassandra lint lock bench clean .in-lab .beside-it

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: $(STAMP)  ## system packages and the virtual environment

$(STAMP): requirements-dev.lock pyproject.toml tools/setup.sh
	PYTHON=$(PYTHON) tools/setup.sh $(VENV)
	@touch $@

lint: $(STAMP)  ## ruff, mypy --strict, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-fast: lint  ## (1) cases and properties, no machines
	$(BIN)/pytest tests/fast

test-conformance: lint  ## (2) stores and drivers against real parts: sshd, libvirt's test driver, SQLite, Cassandra (as root)
	$(BIN)/pytest tests/conformance

test-lab: lint  ## (3) real hosts, real guests, real faults (as root)
	$(BIN)/pytest tests/lab

test-cassandra: lint  ## what of (2) and (3) is on Cassandra: real nodes, brought by Maven (as root)
	$(BIN)/pytest tests -m cassandra

bench: $(STAMP)  ## (4) ratios against Ansible and pyinfra, and the scale run; a quarter of an hour (as root)
	$(BIN)/python -m tools.bench
	$(BIN)/python -m tools.bench.scale
	$(BIN)/python -m tools.bench.load
	$(BIN)/python -m tools.bench.failover
	$(BIN)/python -m tools.bench.sync
	$(BIN)/python -m tools.bench.store
	$(BIN)/python -m tools.bench.joining
	$(BIN)/python -m tools.bench.filters
	$(BIN)/python -m tools.bench.filtered
	$(BIN)/python -m tools.bench.tunnels
	$(BIN)/python -m tools.bench.probes

demo: $(STAMP)  ## a fleet comes up on this machine, is broken, and mends itself (as root)
	@$(BIN)/python -m tools.demo

demo-ha: $(STAMP)  ## the same with three Cassandra nodes, git and two controllers, of which some are killed (as root)
	@$(BIN)/python -m tools.demo_ha

test: lint  ## everything: the lab beside the rest, since both mostly wait; in a pipe each is shown at its end
	$(MAKE) -j2 -k --no-print-directory -O$(if $(MAKE_TERMOUT),none,target) .in-lab .beside-it

.in-lab:
	$(BIN)/pytest tests -m "lab and not cassandra"

.beside-it:
	$(BIN)/pytest tests -m "not lab or cassandra"

lock: $(STAMP)  ## write the lock file anew from pyproject.toml
	$(BIN)/python -m pip install -q pip-tools
	$(BIN)/pip-compile -q --extra dev --generate-hashes --no-emit-index-url --no-emit-find-links --strip-extras --allow-unsafe -o requirements-dev.lock pyproject.toml
	$(BIN)/pip-compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --strip-extras --allow-unsafe -o requirements.lock pyproject.toml
	$(BIN)/pip-compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --strip-extras --allow-unsafe -o requirements-bench.lock tools/bench/requirements.in

clean:  ## what was made in the tree
	rm -rf $(VENV) .venv-bench build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
