# The course in two commands: `make lab` and `make test`. `make help` lists the rest.
# Variables: PYTHON=python3.12 picks an interpreter; TORCH=cpu takes PyTorch's CPU build.

PYTHON ?= python3
VENV ?= .venv
TORCH ?=
BIN := $(VENV)/bin
RUN := $(BIN)/python
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help lab test quick lint format notebooks measure bench doctor test-colab palette clean

help: ## list the commands
	@echo "advlearn: a hands-on course on adversarial examples"
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo
	@echo "  make lab TORCH=cpu   the same with PyTorch's CPU build: a tenth of the download"

# The stamp is younger than pyproject.toml once everything in it is installed.
$(VENV)/.lab: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, this is %s. Try: make lab PYTHON=python3.11" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
ifeq ($(TORCH),cpu)
	$(PIP) install --quiet torch torchvision --index-url https://download.pytorch.org/whl/cpu
endif
	$(PIP) install --quiet --editable ".[lab]"
	@touch $@

$(VENV)/.dev: $(VENV)/.lab
	$(PIP) install --quiet --editable ".[dev]"
	@touch $@

lab: $(VENV)/.lab ## install what is missing and open the lessons in JupyterLab
	$(BIN)/advlearn lab

doctor: $(VENV)/.lab ## examine this machine: versions, device, data, and what to do
	$(BIN)/advlearn doctor

test: $(VENV)/.dev ## every check, every test and every notebook, with a closing summary
	@$(RUN) tests/stages.py

quick: $(VENV)/.dev ## the same without the notebooks
	@$(RUN) tests/stages.py --without notebooks

lint: $(VENV)/.dev ## style and types only
	@$(RUN) tests/stages.py --only style --only types

format: $(VENV)/.dev ## put the code into the project's format
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

notebooks: $(VENV)/.dev ## execute every lesson again and write it in normal form
	$(RUN) notebooks/build.py

measure: $(VENV)/.dev ## run every lesson and print its time and its peak memory
	$(RUN) notebooks/build.py --measure

test-colab: $(VENV)/.dev ## run every lesson with the versions that Colab has (installs them in .venv-colab)
	$(RUN) tests/colab/twin.py

bench: $(VENV)/.dev ## time the library beside its peers (installs them in .venv-bench)
	$(RUN) benchmarks/install.py
	$(RUN) benchmarks/run.py

palette: $(VENV)/.dev ## draw every figure in grey and for colour-blind readers, into build/palette
	MPLBACKEND=agg $(RUN) tests/vision.py

clean: ## remove the environments and the caches, never the data
	rm -rf $(VENV) .venv-bench .venv-colab .mypy_cache .ruff_cache .pytest_cache .hypothesis
