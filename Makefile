# Everything runs in .venv, which the first target that needs it creates; `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WITH_DOCS := $(VENV)/.with-docs
PLAYED := docs/play/node_modules/.installed
TYPING := build/typing/emuloss
FIELDS ?= rain
DEMO := train_surrogate.py --metric minkowski --fields rain --out runs/demo

.DEFAULT_GOAL := help
.PHONY: help install demo docs test test-all lint format bench scaling ablation super-resolution ensembles constraints lowest newest dist dist-check clean

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

install: $(INSTALLED)  ## Create .venv and install the package into it, editable, at the pinned versions

demo: $(INSTALLED)  ## Build, evaluate and freeze the recommended surrogate on synthetic rain
	$(BIN)/python $(DEMO)

test: lint  ## Lint, check types, and run the fast tests
	$(BIN)/pytest

test-all: lint  ## The same with the slow tests
	$(BIN)/pytest -m ""

lint: $(INSTALLED) $(TYPING)  ## Check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(INSTALLED)  ## Format the code and apply the safe fixes
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: $(WITH_DOCS) $(PLAYED)  ## Build the site into build/site, run its tutorials, and check its links
	$(BIN)/python -m sphinx -W --keep-going -q docs build/site
	$(BIN)/python docs/building/check.py build/site

bench: $(INSTALLED)  ## Run the speed benchmarks in turn
	@set -e; for name in exact relaxed training; do echo "== $$name"; $(BIN)/python benchmarks/$$name.py; done

scaling: $(INSTALLED)  ## Write the tables of docs/speed.md, on an idle machine
	$(BIN)/python benchmarks/scaling.py

ablation: $(INSTALLED)  ## Train and compare the whole family: make ablation OPERA=FOLDER
	$(BIN)/python benchmarks/ablation.py --opera $(OPERA) --out runs/ablation

super-resolution: $(INSTALLED)  ## Compare losses in super-resolution of synthetic rain: make super-resolution FIELDS=rain
	$(BIN)/python examples/super_resolution --fields $(FIELDS)

ensembles: $(INSTALLED)  ## Compare what ensembles of synthetic rain are trained on: make ensembles FIELDS=rain
	$(BIN)/python examples/super_resolution/ensembles.py --fields $(FIELDS)

constraints:  ## Recompile constraints.txt at the newest versions
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install --quiet uv
	build/uv/bin/uv pip compile --quiet --universal --all-extras --no-annotate --upgrade \
		--python-version 3.10 --custom-compile-command "make constraints" \
		pyproject.toml --output-file constraints.txt
	rm -rf build/uv

# Old versions call what newer ones, which they bring along, have deprecated: no fault of this package.
lowest: RESOLUTION := lowest-direct
lowest: WARNINGS := -W default::DeprecationWarning -W default::PendingDeprecationWarning -W default::FutureWarning
lowest:  ## Run the fast tests with the lowest versions that pyproject.toml allows: make lowest PYTHON=python3.10
newest: RESOLUTION := highest
newest:  ## Run the fast tests with the newest versions there are: make newest PYTHON=python3.13
lowest newest:
	$(PYTHON) -m venv --clear build/$@
	build/$@/bin/pip install --quiet uv
	build/$@/bin/uv pip compile --quiet --no-annotate --resolution $(RESOLUTION) --extra dev \
		--python build/$@/bin/python pyproject.toml --output-file build/$@/versions.txt
	build/$@/bin/uv pip install --quiet --python build/$@/bin/python -r build/$@/versions.txt
	build/$@/bin/uv pip install --quiet --python build/$@/bin/python --no-deps -e .
	build/$@/bin/pytest $(WARNINGS) $(TESTS)

dist:  ## Build wheel and sdist into dist/
	$(PYTHON) -m venv --clear build/packing
	build/packing/bin/pip install --quiet build twine
	rm -rf dist
	build/packing/bin/python -m build
	build/packing/bin/python -m twine check --strict dist/*

dist-check: dist  ## Build them, and try the wheel as a user would, in an environment of its own
	mkdir -p build/unpacked
	build/packing/bin/python -m build --wheel --outdir build/unpacked $$(rm -rf build/unpacked/* && \
		tar xzf dist/*.tar.gz -C build/unpacked && ls -d build/unpacked/*/)
	$(PYTHON) -m venv --clear build/installed
	build/installed/bin/pip install --quiet -c constraints.txt dist/*.whl
	build/installed/bin/python docs/building/smoke.py dist/*.whl build/unpacked/*.whl

clean:  ## Remove .venv, build products and caches; keep runs/
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo 'emuloss needs Python 3.10 or newer: make PYTHON=/path/to/python3'; exit 1; }
	@echo 'Installing emuloss into $(VENV) (the first time 7 GB, some minutes)'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(WITH_DOCS): $(INSTALLED)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

# What runs networks in browsers, at the version and hash of package-lock.json; it is too large for git.
$(PLAYED): docs/play/package-lock.json
	@cd docs/play && npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@

# mypy finds packages by folder name, but the package emuloss is this folder, whatever its name:
# mypy_path in pyproject.toml points at a link that bears the right one.
$(TYPING):
	@mkdir -p $(@D)
	@ln -sfn ../.. $@
