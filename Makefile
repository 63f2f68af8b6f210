# Two commands do all the set-up on a machine with Python 3.11 and make:
#   make demo   the main job on the embedded default (local files, SQLite, no server)
#   make test   the tests
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
HOME_DIR ?= demo-home
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

# The tests start hundreds of processes: where modules may not be kept compiled, each compiles them anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo ui quick durations test test-slow lint docs format clean browser postgres orthanc bench

help: ## show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo-installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[ui]'
	@touch $@

$(VENV)/.dev-installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo-installed

demo: $(VENV)/.demo-installed ## phantom cohort -> every asset, headless, with a summary
	@$(BIN)/radiobject-assets demo --home $(HOME_DIR)

ui: $(VENV)/.demo-installed ## the Dagster UI over the demo's home, on http://127.0.0.1:3000
	@test -f $(HOME_DIR)/dataset.yaml || $(BIN)/radiobject-assets demo --home $(HOME_DIR)
	$(BIN)/radiobject-assets up --dataset $(HOME_DIR)/dataset.yaml --home $(HOME_DIR)/dagster --port $${PORT:-3000}

# The browser test needs Chromium: installed where the system allows it, else the test skips with a reason.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get -qq update >/dev/null 2>&1 && \
		  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium chromium-driver \
		  >/dev/null 2>&1; } || echo "Chromium can't be installed here: the browser test will skip"

# The test of the server deployment needs a Postgres: installed where the system allows it, else the test skips.
postgres:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get -qq update >/dev/null 2>&1 && \
		  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends postgresql \
		  >/dev/null 2>&1; } || echo "Postgres can't be installed here: the test of the deployment will skip"

# Tests of archives need an Orthanc and dcmtk: installed where the system allows it, else the tests skip.
orthanc:
	@command -v Orthanc >/dev/null && command -v storescu >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get -qq update >/dev/null 2>&1 && \
		  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends orthanc \
		  orthanc-dicomweb dcmtk >/dev/null 2>&1; } || echo "Orthanc can't be installed here: tests will skip"

# Three workers for two cores: many tests wait for servers, quiet periods and deadlines.
# Files are chosen by what `make durations` measured: 230 s of work for one process, over two minutes for two.
# Whole runs (tests/platform, tests/cases, tests/ui) take minutes each: `make test` has them.
QUICK := -m "not slow and not s3 and not browser" tests/foundation tests/imaging tests/store tests/ingest \
	tests/training tests/diagnostics
quick: $(VENV)/.dev-installed ## tests that answer in three minutes, for people at work
	$(BIN)/python -m pytest -n $${WORKERS:-3} --dist loadfile -p tests.quick $(QUICK) --fit $${SECONDS_OF_TESTS:-230}

durations: $(VENV)/.dev-installed ## measure what `make quick` chooses by (nothing else should run)
	$(BIN)/python -m pytest -n $${WORKERS:-3} --dist loadfile -p tests.quick $(QUICK) --record-durations

# So that no worker is left alone with a file of minutes at the end.
LONGEST_FIRST := --dist loadfile --no-loadscope-reorder -p tests.quick --longest-first
test: $(VENV)/.dev-installed browser postgres orthanc ## every test but the slow ones
	$(BIN)/python -m pytest -n $${WORKERS:-3} $(LONGEST_FIRST) -m "not slow"

test-slow: $(VENV)/.dev-installed browser postgres orthanc ## every test
	$(BIN)/python -m pytest -n $${WORKERS:-3} $(LONGEST_FIRST)

lint: $(VENV)/.dev-installed ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Nothing is fetched: fonts and scripts are the theme's own. The variable silences the theme's advertisement.
docs: $(VENV)/.dev-installed ## the documentation site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

format: $(VENV)/.dev-installed ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev-installed ## speed and memory, side by side with peers (nothing else should run)
	$(PIP) install -c constraints.txt -e '.[dev,bench]'
	for each in ingest ingest_many headers read scale train; do $(BIN)/python -m benchmarks.$$each || exit 1; done

clean: ## remove what was made, but not data outside this folder
	rm -rf $(HOME_DIR) $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
