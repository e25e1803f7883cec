# Everything there is to run. `make help` lists the targets; CI calls the same ones and nothing else.
# Needed on the machine: Python 3.11 or newer with its venv module, make, git.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
say = printf '%s  %s\n' "$$(date +%H:%M:%S)" "$(1)" >&2
# Configuration of this machine (extra indexes, folders of wheels) must not leak into the locks.
LOCK := env -u PIP_FIND_LINKS -u UV_FIND_LINKS -u UV_EXTRA_INDEX_URL XDG_CONFIG_HOME=/nonexistent \
	$(UV) pip compile pyproject.toml --quiet --universal --generate-hashes --no-emit-index-url \
	--python-version 3.11 --custom-compile-command "make lock"
INSTALL := VIRTUAL_ENV=$(abspath $(VENV)) $(UV) pip

TESTS := tests/unit tests/contract tests/integration tests/end_to_end

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help up setup test check bench soak docs lock fmt e2e golden

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(VENV)/.installed  ## install what is needed into .venv and start Dormouse (Ctrl-C stops it)
	@exec $(BIN)/dormouse up

setup: $(VENV)/.developer  ## install everything for working on Dormouse, without starting it

test: $(VENV)/.developer  ## run all tests (those that need Chromium are skipped, with the reason, where there is none)
	@$(call say,tests)
	@$(BIN)/python -m pytest $(TESTS) --durations=15 || { test $$? -eq 1 && \
		$(call say,what failed above is run once more alone; it must pass there and be looked into) && \
		$(BIN)/python -m pytest $(TESTS) --last-failed --last-failed-no-failures none; }
	@$(call say,tests passed)

e2e: $(VENV)/.developer  ## run only the tests that start the whole product
	@$(BIN)/python -m pytest tests/end_to_end --durations=15

check: $(VENV)/.developer  ## lint, formatting, types, layers
	@$(call say,ruff)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(call say,mypy)
	@$(BIN)/mypy
	@$(call say,layers)
	@$(BIN)/lint-imports

fmt: $(VENV)/.developer  ## format the code and apply the safe fixes of the linter
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.developer  ## measure, write benchmarks/results/*.json, print the table
	@$(BIN)/python -m benchmarks

soak: $(VENV)/.developer  ## sleep and wake under random requests and count what was lost
	@$(BIN)/python -m benchmarks.soak

docs: $(VENV)/.developer  ## write the generated pages of docs/ anew
	@$(BIN)/python -m docs.generate

golden: $(VENV)/.developer  ## write the expected files of golden tests anew (review them as part of the diff)
	@DORMOUSE_GOLDEN=write $(BIN)/python -m pytest tests/unit -q -k golden

lock: $(VENV)/.uv  ## resolve the dependencies of pyproject.toml anew, with hashes
	@$(call say,resolving)
	@$(LOCK) --upgrade --group build --output-file requirements.lock
	@$(LOCK) --upgrade --group build --group dev --constraint requirements.lock --output-file requirements-dev.lock

# Each file below marks a finished step, so that a second run does nothing.

$(VENV)/.uv: requirements.lock
	@command -v git >/dev/null || { echo "git is missing: install it and run make again." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: run make with PYTHON=/path/to/python3.11." >&2; exit 1; }
	@$(call say,creating the virtual environment $(VENV))
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "Python's venv module is missing: on Debian and Ubuntu install python3-venv." >&2; rm -rf $(VENV); exit 1; }
	@awk '/^uv==/ {on=1} on {print} on && !/\\$$/ {exit}' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/uv.lock
	@touch $@

$(VENV)/.installed: $(VENV)/.uv requirements.lock pyproject.toml
	@$(call say,installing the packages of requirements.lock)
	@$(INSTALL) sync --quiet --require-hashes requirements.lock
	@$(INSTALL) install --quiet --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.developer
	@$(call say,installed)
	@touch $@

$(VENV)/.developer: $(VENV)/.uv requirements-dev.lock pyproject.toml
	@$(call say,installing the packages of requirements-dev.lock)
	@$(INSTALL) sync --quiet --require-hashes requirements-dev.lock
	@$(INSTALL) install --quiet --no-deps --no-build-isolation --editable .
	@$(call say,installed)
	@touch $(VENV)/.installed $@
