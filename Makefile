# Everything a developer runs. `make demo` and `make test` need Python 3.11 and make; they fetch the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
ENGINE := scripts/engine up && eval "$$(scripts/engine env)"

.PHONY: help demo test test-fast check golden lock-dev bench benchmark clean
help:       ## What there is
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 18

demo: $(VENV)/ready       ## The main job on examples/digits-onnx: init, lock, build, smoke
	@$(ENGINE) && PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo

test: $(VENV)/ready       ## All tests, those that need Docker included
	@$(ENGINE) && MLSHIP_REQUIRE=docker $(BIN)/pytest --run-docker --timeout=600 $(PYTEST_ARGS)

test-fast: $(VENV)/ready  ## Tests of values and texts, on every save: no Docker, no network, no other programs
	$(BIN)/pytest --numprocesses=2 --timeout=60 tests/unit tests/cli tests/golden $(PYTEST_ARGS)

check: $(VENV)/ready      ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --scripts-are-modules scripts/engine scripts/bench scripts/refresh-tables scripts/compare-doctors scripts/benchmark scripts/benchmark-page

golden: $(VENV)/ready     ## Write the golden files anew; read the diff before you commit it
	$(BIN)/pytest --update-golden tests/golden tests/unit tests/cli

bench: $(VENV)/ready      ## What mlship costs beside an empty program and the bare engine
	@$(ENGINE) && $(BIN)/python scripts/bench

benchmark: $(VENV)/ready  ## mlship beside BentoML, LitServe, MLflow and two Dockerfiles; an hour, as root
	@$(ENGINE) && $(BIN)/python scripts/benchmark

lock-dev: $(VENV)/ready   ## Resolve requirements-dev.in anew
	CUSTOM_COMPILE_COMMAND="make lock-dev" $(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options --annotation-style=line \
	  --output-file=requirements-dev.txt pyproject.toml requirements-dev.in

$(VENV)/ready: requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: there is no python3 on PATH; mlship needs Python 3.11 or newer" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: mlship needs Python 3.11 or newer; run make PYTHON=python3.11")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { v=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  echo "error: $(PYTHON) cannot make virtual environments: it lacks venv or ensurepip" >&2; \
	  echo "hint: on Debian and Ubuntu run \`apt-get install python$$v-venv\`, then run make again" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

clean:      ## Remove what make made here
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
