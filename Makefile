# Every target builds inside this checkout: environments in .venv*, compiler output in build/.
#
#   make demo              build, install into .venv, run the main job
#   make test              build with warnings shown, run the tests on the installed package
#   make test-312          the same with another Python (also: make test PYTHON=python3.12)
#   make leaks oom asan    the same bodies and tests under a debug interpreter, failing allocations, sanitizers
#   make soak              the scheduler at full size: a million tasks, interrupts anywhere; minutes
#   make example           examples/native_handler, built and tested in an environment of its own
#   make links             examples/link_checker on a site of its own
#   make postgres-example  examples/ledger, run and tested on a PostgreSQL server of its own
#   make bench             table of costs as ratios to plain Python; bench-instructions counts instructions
#   make lint format docs clean
#
# SHORT=1 picks a quick subset of leaks, oom and asan. WERROR=1 makes compiler warnings errors.
# ARGS=... is handed to pytest or to the benchmark.

MAIN_JOB = -m doeff run stdlib_survey:program
PYTHON ?= python3
DEBUG_PYTHON ?= python3.11d
ARGS ?=
SHORT ?=
WERROR ?=

MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# ---- which interpreter, which environment ------------------------------------------------------
NEEDS_NO_PYTHON = help clean leaks test-%
ifneq ($(filter-out $(NEEDS_NO_PYTHON),$(or $(MAKECMDGOALS),help)),)
  INTERPRETER := $(shell scripts/find-python $(PYTHON))
  ifeq ($(INTERPRETER),)
    $(error no usable interpreter for PYTHON=$(PYTHON))
  endif
  INTERPRETER_VERSION := $(shell $(INTERPRETER) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
endif
ifeq ($(PYTHON),python3)
  VENV ?= .venv
else
  VENV ?= .venv-$(basename $(INTERPRETER_VERSION))
endif
SETUP_ARGS ?=
SHORT_OPTION = $(if $(SHORT),--short)

# Directories are listed too: adding or removing a file is a change.
SOURCES := $(shell find src include -not -name '*.pyc' -not -name __pycache__) \
           $(wildcard meson.build meson.options) pyproject.toml

# A debug interpreter would show pip's own ResourceWarnings.
PIP_INSTALL = PYTHONWARNINGS=ignore $(VENV)/bin/python -m pip install -qq

MADE = $(VENV)/.made-$(INTERPRETER_VERSION)
INSTALLED = $(VENV)/.installed
TEST_TOOLS = $(VENV)/.test-tools
DEV_TOOLS = $(VENV)/.dev-tools

$(MADE): scripts/requirements.py pyproject.toml
	@echo "== environment $(VENV), Python $(INTERPRETER_VERSION)"
	$(INTERPRETER) -m venv --clear $(VENV)
	$(PIP_INSTALL) 'pip>=24'
	$(VENV)/bin/python scripts/requirements.py build | $(PIP_INSTALL) -r /dev/stdin
	@touch $@

$(INSTALLED): $(MADE) $(SOURCES) scripts/install-package
	@echo "== build and install doeff into $(VENV)"
	scripts/install-package $(VENV) $(SETUP_ARGS) $(if $(WERROR),-Dwerror=true)
	@touch $@

$(TEST_TOOLS): $(MADE) pyproject.toml
	@echo "== test requirements into $(VENV)"
	$(VENV)/bin/python scripts/requirements.py test | $(PIP_INSTALL) -r /dev/stdin
	@touch $@

$(DEV_TOOLS): $(TEST_TOOLS) pyproject.toml
	@echo "== lint requirements into $(VENV)"
	$(VENV)/bin/python scripts/requirements.py dev | $(PIP_INSTALL) -r /dev/stdin
	@touch $@

# ---- what people type --------------------------------------------------------------------------
.PHONY: help demo links postgres-example example run-example test install install-test leaks run-leaks oom asan run-asan soak bench bench-instructions lint format docs clean

help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile

install: $(INSTALLED)

install-test: $(INSTALLED) $(TEST_TOOLS)

demo: $(INSTALLED)
	@echo "== main job: python $(MAIN_JOB)"
	PYTHONPATH=examples $(VENV)/bin/python $(MAIN_JOB)

links: install-test
	@echo "== links of a site on the loopback address"
	PYTHONPATH=examples $(VENV)/bin/python -m doeff run link_checker:program

postgres-example: install-test
	@scripts/with-postgres true
	$(VENV)/bin/python scripts/requirements.py test-postgres | $(PIP_INSTALL) -r /dev/stdin
	@echo "== ledger on PostgreSQL, and its tests"
	PYTHONPATH=examples scripts/with-postgres $(VENV)/bin/python -m doeff run ledger:program --interpreter ledger:on_a_server
	scripts/with-postgres $(VENV)/bin/python -P -m pytest tests/examples/test_ledger.py $(ARGS)

test: install-test
	@echo "== tests on the installed package, Python $(INTERPRETER_VERSION)"
	$(VENV)/bin/python -P -m pytest tests $(ARGS)

test-%:
	@$(MAKE) test PYTHON=python$(shell echo '$*' | sed 's/^3\.\{0,1\}/3./')

# Reference and block counts need an interpreter built with --with-pydebug.
leaks:
	@command -v $(DEBUG_PYTHON) >/dev/null || { \
	  echo "error: make leaks needs a debug interpreter, and $(DEBUG_PYTHON) is not here." >&2; \
	  echo "       Run scripts/install-system-tools as root, or name one: make leaks DEBUG_PYTHON=..." >&2; exit 1; }
	@$(MAKE) run-leaks PYTHON=$(DEBUG_PYTHON) VENV=.venv-dbg SETUP_ARGS="-Dbuildtype=debugoptimized -Db_lto=false"

run-leaks: install-test
	@echo "== leak hunt, debug Python $(INTERPRETER_VERSION)"
	$(VENV)/bin/python -P -m pytest $(if $(SHORT),tests/leak,tests) --leaks $(ARGS)

oom: install-test
	@echo "== every allocation fails once, Python $(INTERPRETER_VERSION)"
	$(VENV)/bin/python -P -m pytest tests/oom --oom $(SHORT_OPTION) $(ARGS)

asan:
	@$(MAKE) run-asan VENV=$(VENV)-asan SETUP_ARGS="-Dbuildtype=debugoptimized \
	  -Db_sanitize=address,undefined -Db_lundef=false -Db_lto=false"

# Leaks are hunted by counting (make leaks): CPython itself keeps memory until exit.
run-asan: install-test
	@echo "== address and undefined-behaviour sanitizers, Python $(INTERPRETER_VERSION)"
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" PYTHONMALLOC=malloc \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	$(VENV)/bin/python -P -m pytest tests --capture=sys --sanitized $(SHORT_OPTION) $(ARGS)

# ARGS=live_tasks: one of them alone.
soak: $(INSTALLED)
	@echo "== the scheduler at full size, Python $(INTERPRETER_VERSION)"
	$(VENV)/bin/python -P tests/soak/soak.py $(ARGS)

example:
	@$(MAKE) run-example VENV=$(VENV)-example

EXAMPLE_FILES := $(shell find examples/native_handler -name '*.[ch]' -o -name '*.py' -o -name '*.pyi' -o -name '*.toml' -o -name 'meson.build')
EXAMPLE_INSTALLED = $(VENV)/.example-installed

$(EXAMPLE_INSTALLED): $(INSTALLED) $(EXAMPLE_FILES)
	@echo "== build and install examples/native_handler into $(VENV)"
	PATH=$(CURDIR)/$(VENV)/bin:$$PATH $(PIP_INSTALL) --no-build-isolation --no-deps --force-reinstall \
	  -Cbuild-dir=$(CURDIR)/build/$(notdir $(VENV))-native-handler ./examples/native_handler
	@touch $@

run-example: $(EXAMPLE_INSTALLED)
	$(PIP_INSTALL) 'pytest>=8'
	@echo "== its tests"
	cd examples/native_handler && $(CURDIR)/$(VENV)/bin/python -P -m pytest -q

bench: $(INSTALLED) $(EXAMPLE_INSTALLED)
	@echo "== costs as ratios to plain Python"
	$(VENV)/bin/python benchmarks/run.py $(ARGS)

bench-instructions: $(INSTALLED)
	@echo "== instructions of the hottest loops"
	$(VENV)/bin/python benchmarks/instructions.py $(ARGS)

lint: $(DEV_TOOLS)
	@echo "== lint"
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/codespell
	$(VENV)/bin/mypy

format: $(DEV_TOOLS)
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

docs: $(INSTALLED)
	@echo "== samples of README.md and docs/ run"
	$(VENV)/bin/python scripts/run-samples.py README.md docs

clean:
	rm -rf .venv .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
