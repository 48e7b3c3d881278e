# make demo   set everything up and run the main job on a simulated study (about 4 minutes on 2 cores)
# make test   set everything up and run all checks and tests
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
OUT ?= demo

.PHONY: demo test docs clean

.venv/.core: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("elsewhere needs Python 3.11 or newer; say which with: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e .
	touch $@

.venv/.dev: .venv/.core
	$(PIP) -e '.[dev]'
	touch $@

demo: .venv/.core
	$(BIN)/elsewhere demo --out $(OUT)

test: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 $(ARGS)

docs: .venv/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv site demo build .pytest_cache .mypy_cache .ruff_cache
