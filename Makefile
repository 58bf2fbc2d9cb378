# Needs python >= 3.11, make and git; everything else comes from PyPI into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet --progress-bar off

.PHONY: help demo test test-all gates chromium docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo      install into $(VENV) and run the whole pipeline on the shipped samples"
	@echo "make test      formatting, lint, types and the quick tests, with coverage"
	@echo "make test-all  the same with the long tests"
	@echo "make chromium  install the browser that the tests of the page drive; needs root and apt"
	@echo "make docs      write docs/cli.md anew from the commands"
	@echo "make clean     delete what these made, $(VENV) included"

demo: $(VENV)/installed
	$(BIN)/sfhq demo

# A process of tests for each core; one that has nothing left to do takes tests from another.
PYTEST := $(BIN)/python -m pytest --cov -n auto --dist worksteal

test: gates
	$(PYTEST)

test-all: gates
	SFHQ_EXAMPLES=$${SFHQ_EXAMPLES:-2000} $(PYTEST) -m ''

docs: $(VENV)/installed-test
	$(BIN)/python -c "import cli; from pathlib import Path; \
		from sfhq.commands.reference import write_reference; \
		write_reference(cli.main, Path('docs/cli.md'))"

gates: $(VENV)/installed-test chromium
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict

# Never fails: without a browser the tests of the page skip themselves, and this says why.
chromium:
	@without() { echo "no chromium, so the tests of the page are skipped: $$1"; exit 0; }; \
	if command -v chromium || command -v chromium-browser; then exit 0; fi >/dev/null; \
	command -v apt-get >/dev/null || without "there is no apt-get; install chromium by hand"; \
	[ "$$(id -u)" = 0 ] || without "apt-get needs root; run: sudo make chromium"; \
	echo "Installing chromium for the tests of the page."; \
	log=$$(mktemp); \
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
		--no-install-recommends chromium; } >$$log 2>&1 || \
		without "apt-get failed, see $$log: $$(tail -n 1 $$log)"; \
	rm -f $$log

# The stamp, not the folder, says that the environment was made to its end.
$(VENV)/made:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "python %d.%d found, 3.11 or newer wanted; run: make PYTHON=/path/to/python3.11 ..." % v[:2])'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/installed: setup.py pyproject.toml | $(VENV)/made
	@echo "Installing sfhq and what it needs into $(VENV); the first time takes some minutes."
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-test: setup.py pyproject.toml constraints.txt | $(VENV)/made
	@echo "Installing sfhq and its test tools into $(VENV); the first time takes some minutes."
	$(INSTALL) -c constraints.txt -e '.[test]'
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
