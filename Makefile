# Development tasks. `make help` lists them; a machine needs python3 (3.11 or newer), a C compiler and make.
# Everything runs in a virtual environment that the first task builds: .venv, or `make VENV=elsewhere ...`.

SHELL   := /bin/bash
PYTHON  ?= python3
VENV    ?= .venv
WORKERS ?= 2
DEMO    ?= demo-out
PORT    ?= 8000
WEB     := examples/browser/node_modules/.package-lock.json

BIN   := $(VENV)/bin
STAMP := $(VENV)/.snncompile-installed
PIP   := $(BIN)/python -m pip --disable-pip-version-check
# --no-build-isolation: build with the pinned setuptools in the environment, not with one fetched for the occasion.
INSTALL := $(PIP) install --quiet --no-build-isolation --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install demo diehl browser brunel test test-browser lint types pytest bench workloads clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## build the virtual environment and install the package into it, editable

$(STAMP): constraints.txt pyproject.toml tests/oracles.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "snncompile needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) setuptools setuptools-scm wheel
	$(INSTALL) --editable '.[test,examples]'
	$(INSTALL) --use-pep517 --no-deps --requirement tests/oracles.txt
	@touch $@

demo: $(STAMP)  ## train on real digits, build, run the held-out ones, also as ONNX (DEMO=demo-out); fails below 96 %
	$(BIN)/python examples/digits/data.py --out $(DEMO)
	$(BIN)/python examples/digits/train.py --out $(DEMO)
	rm -rf $(DEMO)/digits.snn
	$(BIN)/snncompile build examples/digits/model.py --weights $(DEMO)/weights.safetensors \
	    --target triton --arch sm_80,sm_90,sm_100,gfx942 --out $(DEMO)/digits.snn
	$(BIN)/snncompile run $(DEMO)/digits.snn $(DEMO)/heldout.npz --record lif.spikes --out $(DEMO)/outputs.npz
	$(BIN)/snncompile export $(DEMO)/digits.snn --to onnx --out $(DEMO)/digits.onnx
	$(BIN)/snncompile export $(DEMO)/digits.snn --to onnx --form step --out $(DEMO)/digits-step.onnx
	$(BIN)/python examples/digits/deploy.py $(DEMO)
	$(BIN)/python examples/digits/report.py $(DEMO)

diehl: $(STAMP)  ## a network that learns the digits by itself, and a picture of what it looks for (DEMO=demo-out)
	$(BIN)/python examples/diehl_cook/learn.py --out $(DEMO)

browser: $(STAMP) $(WEB)  ## draw digits in a browser: the step form in onnxruntime-web, served here (PORT=8000); needs npm
	test -e $(DEMO)/digits-step.onnx || $(MAKE) demo
	$(BIN)/python examples/browser/prepare.py $(DEMO) --out $(DEMO)/browser
	@echo 'open http://127.0.0.1:$(PORT)/ (Ctrl-C ends)'
	$(BIN)/python -m http.server --directory $(DEMO)/browser --bind 127.0.0.1 $(PORT)

$(WEB): examples/browser/package-lock.json
	npm ci --prefix examples/browser --ignore-scripts --no-audit --no-fund
	@touch $@

brunel: $(STAMP)  ## Brunel's network of 12,500 neurons: raster, rates and regularity against theory (brunel-out)
	$(BIN)/python examples/brunel/simulate.py --out brunel-out

# Every check runs even when an earlier one failed, so that one run tells everything; pytest's summary comes last.
test: $(STAMP)  ## lint, type check and tests: what CI runs
	@status=0; \
	for check in lint types pytest; do $(MAKE) --no-print-directory $$check || status=1; done; \
	exit $$status

lint: $(STAMP)  ## ruff
	$(BIN)/ruff check .

types: $(STAMP)  ## mypy on the installed layout
	$(BIN)/python tools/typecheck.py

pytest: $(STAMP)  ## the tests alone (WORKERS=2)
	$(BIN)/python -m pytest -n $(WORKERS) tests

test-browser: $(STAMP) $(WEB)  ## the browser example in a headless Chromium; needs npm and chromium
	SNNCOMPILE_NEEDS_BROWSER=1 $(BIN)/python -m pytest tests/examples/test_browser.py

bench: $(STAMP)  ## run the small benchmarks in benchmarks/
	@status=0; for script in $$(grep -l __main__ benchmarks/*.py); do echo "== $$script"; \
	$(BIN)/python $$script || case $$script in benchmarks/gpu_*) ;; *) status=1;; esac; done; exit $$status

workloads: $(STAMP)  ## the large benchmark, against other libraries; writes docs/performance.md
	$(INSTALL) --editable '.[plots]'
	$(INSTALL) --use-pep517 --no-deps --requirement benchmarks/peers.txt
	$(BIN)/python -m benchmarks.workloads

clean:  ## remove caches, build outputs and the virtual environment .venv
	rm -rf .venv build dist demo-out brunel-out examples/browser/node_modules .pytest_cache .hypothesis .ruff_cache .mypy_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
