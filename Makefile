# Needs python >= 3.11, make and git; everything else comes from PyPI into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet --progress-bar off

.PHONY: help demo test test-all clean
.DEFAULT_GOAL := help

help:
	@echo "make demo      install into $(VENV) and run the whole pipeline on the shipped samples"
	@echo "make test      formatting, lint, types and the quick tests, with coverage"
	@echo "make test-all  the same with the long tests"
	@echo "make clean     delete what these made, $(VENV) included"

demo: $(VENV)/installed
	$(BIN)/sfhq demo

# The page's tests drive a Chromium; where there is none and Debian's may be installed, it is.
CHROMIUM = command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	chromium; } >/dev/null 2>&1 || echo "no chromium: the tests of the page are skipped"

test: $(VENV)/installed-test
	@$(CHROMIUM)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict
	$(BIN)/python -m pytest --cov

test-all: $(VENV)/installed-test
	@$(CHROMIUM)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict
	$(BIN)/python -m pytest --cov -m ''

# The stamp, not the folder, says that the environment was made to its end.
$(VENV)/made:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "python %d.%d found, 3.11 or newer wanted; run: make PYTHON=/path/to/python3.11 ..." % v[:2])'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/installed: setup.py pyproject.toml | $(VENV)/made
	@echo "Installing sfhq and what it needs into $(VENV); the first time takes some minutes."
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-test: setup.py pyproject.toml | $(VENV)/made
	@echo "Installing sfhq and its test tools into $(VENV); the first time takes some minutes."
	$(INSTALL) -e '.[test]'
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
