# Two commands: `make demo` and `make test`. Both set everything up first, and are quick the second time.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-slow lint setup clean
.DEFAULT_GOAL := demo

demo: $(READY)          ## set up, then run the demo: people drawn, networks trained, clips animated, scored, reported
	$(BIN)/rotoscope demo

test: $(READY)          ## set up, then ruff, mypy, import-linter and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(READY)     ## kill, resume, Ray and end-to-end tests
	$(BIN)/python -m pytest -m slow

lint: $(READY)          ## mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: $(READY)         ## only set up

$(READY): pyproject.toml constraints.txt
	command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: install it, or give its name with PYTHON=..."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,mediapipe]"
	touch $@

clean:                  ## remove the environment, the lake and the run history
	rm -rf .venv lake .dagster
