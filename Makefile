# PYTHON=python3.12        the interpreter that .venv is made with
# ARGS="--num-updates 200" arguments of scripts/train.py
# PYTEST_ARGS="-x -k wave" replaces the arguments of pytest
# LOCK_ARGS=--upgrade      arguments of uv, for make lock
# DOCS_ARGS=-E             arguments of Sphinx, for make docs
# DOCS_NOTEBOOKS="gpu"     the only notebooks that make docs executes
# UV=/path/to/uv           the uv that make lock runs
# LOWEST_ARGS="-x -k wave" replaces the arguments of pytest in make test-lowest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help train test test-quick test-lowest docs lint format lock clean FORCE

PYTHON ?=
ARGS ?=
PYTEST_ARGS ?= $(TWO_PROCESSES)
LOCK_ARGS ?=
DOCS_ARGS ?=
UV ?= uv
# The rooms that call other packages.
LOWEST_ARGS ?= $(addprefix tests/,cli data engine experiment fleet jobs models parts \
  plotting storage worker)

# A process runs whole files, which tests/conftest.py sorts, the longest first.
TWO_PROCESSES := -n 2 --dist loadfile --no-loadscope-reorder
VENV := .venv
STAMP := $(VENV)/.installed
RUN := $(VENV)/bin/python
LOWEST := .venv-lowest

# A pyenv shim can exist and still fail, so candidates are run, not only looked up.
CANDIDATES = $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
IS_SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

train: $(STAMP)  ## set up .venv if needed, then run scripts/train.py $(ARGS)
	$(RUN) scripts/train.py $(ARGS)

test: lint  ## everything that must hold: lint, types, tests
	$(RUN) -m pytest $(PYTEST_ARGS)

test-quick: $(STAMP)  ## the tests of all files that take little time
	$(RUN) -m pytest $(TWO_PROCESSES) -m quick

test-lowest: $(LOWEST)/.installed  ## tests with the oldest versions allowed
	$(LOWEST)/bin/python -m pytest $(LOWEST_ARGS)

docs: $(STAMP)  ## documentation as pages in build/site, with executed notebooks
	$(RUN) -m sphinx -b html -W --keep-going -q $(DOCS_ARGS) docs build/site
	@echo "open $(CURDIR)/build/site/index.html"

lint: $(STAMP)  ## ruff and pyright, changing nothing
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright

format: $(STAMP)  ## let ruff repair and format the code
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

lock:  ## rewrite requirements.lock from pyproject.toml (needs uv)
	@command -v "$(UV)" >/dev/null || \
	  { echo "make lock needs uv: put it on the PATH or pass UV=/path/to/uv" >&2; exit 1; }
	"$(UV)" pip compile pyproject.toml --extra dev --output-file requirements.lock \
	  --quiet --no-config --universal --generate-hashes --python-version 3.11 \
	  --fork-strategy requires-python --custom-compile-command "make lock" $(LOCK_ARGS)

clean:  ## remove both environments, caches and built packages; keeps runs/
	rm -rf $(VENV) $(LOWEST) build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp holds the folder that it was made for and is written last: a set-up that
# was interrupted, and a .venv that was copied or lost its Python, are made anew.
INSTALLED_FOR := $(shell test -x $(RUN) && cat $(STAMP) 2>/dev/null)
ifneq ($(INSTALLED_FOR),$(CURDIR))
$(STAMP): FORCE
endif

$(STAMP): requirements.lock pyproject.toml
	@rm -f $@; found=; no_pip=; \
	for python in $(CANDIDATES); do \
	  "$$python" -c '$(IS_SUITABLE)' >/dev/null 2>&1 || continue; \
	  if "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; \
	  then found=$$python; break; else no_pip=$$python; fi; \
	done; \
	if [ -n "$$found" ]; then \
	  echo "setting up $(VENV) with $$("$$found" --version), once"; \
	  "$$found" -m venv --clear $(VENV); \
	elif [ -n "$$no_pip" ]; then \
	  echo "$$no_pip cannot make a virtual environment: install its venv package (Debian: apt-get install python3-venv)" >&2; exit 1; \
	else \
	  echo "no Python 3.11, 3.12 or 3.13 runs here (tried: $(CANDIDATES)); install one or pass PYTHON=/path/to/python" >&2; exit 1; \
	fi
	@$(RUN) -m pip install --quiet --require-hashes -r requirements.lock
	@$(RUN) -m pip install --quiet --no-deps --no-build-isolation -e .
	@echo "$(CURDIR)" > $@

# The oldest versions are those of the oldest Python.
$(LOWEST)/.installed: constraints-lowest.txt pyproject.toml
	@rm -f $@
	@$(or $(PYTHON),python3.11) -m venv --clear $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet --constraint constraints-lowest.txt \
	  --editable ".[parquet,plots,tensorboard]" hypothesis pytest pytest-xdist
	@touch $@
