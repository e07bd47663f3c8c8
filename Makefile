# The course in two commands: `make lab` and `make test`. `make help` lists the rest.
# Variables: PYTHON=python3.12 picks an interpreter; TORCH=cpu takes PyTorch's CPU build;
# PYTHON_OLDEST and PYTHON_NEWEST name the interpreters of `make test-oldest` and `test-newest`;
# DRAW=1 has `make slides` execute the decks again;
# IN_BROWSER=1 has `make test` execute the lessons in JupyterLab, with all the browser tests.

PYTHON ?= python3
VENV ?= .venv
TORCH ?=
IN_BROWSER ?=
EXTRAS ?= lab
comma := ,
BIN := $(VENV)/bin
RUN := $(BIN)/python
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Tests on as many workers as there are cores; each lesson and each page on one of them.
SPREAD := -n logical --maxprocesses=4 --dist=loadscope

.DEFAULT_GOAL := help
.PHONY: help lab test test-browser test-colab test-editions test-hub test-kernels test-nbgrader test-oldest test-newest quick lint format notebooks measure record book test-book slides bench playground test-playground palette doctor clean

help: ## list the commands
	@echo "advlearn: a hands-on course on adversarial examples"
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'
	@echo
	@echo "  make lab TORCH=cpu     the same with PyTorch's CPU build: a tenth of the download"

# The stamp is younger than pyproject.toml once everything in it is installed. One installation of all
# that will be needed is quicker than one after the other: EXTRAS=lab,dev,browser,book.
$(VENV)/.lab: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, this is %s. Try: make lab PYTHON=python3.11" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
ifeq ($(TORCH),cpu)
	$(PIP) install --quiet torch torchvision --index-url https://download.pytorch.org/whl/cpu
endif
	$(PIP) install --quiet --editable ".[$(EXTRAS)]"
	@touch $(addprefix $(VENV)/.,$(subst $(comma), ,$(EXTRAS)))

$(VENV)/.dev: $(VENV)/.lab
	$(PIP) install --quiet --editable ".[dev]"
	@touch $@

lab: $(VENV)/.lab ## install what is missing and open the lessons in JupyterLab
	$(BIN)/advlearn lab

doctor: $(VENV)/.lab ## examine this machine: versions, device, data, and what to do
	$(BIN)/advlearn doctor

test: $(VENV)/.dev $(if $(IN_BROWSER),$(VENV)/.browser) ## every check, every test and every notebook, with a closing summary
	@$(RUN) tests/stages.py $(if $(IN_BROWSER),--in-browser)

$(VENV)/.browser: $(VENV)/.lab
	$(PIP) install --quiet --editable ".[browser]"
	@touch $@

test-browser: $(VENV)/.browser ## every lesson in JupyterLab in a real browser, by keyboard and mouse
	$(RUN) -m pytest -q --durations=5 $(SPREAD) tests/browser

test-kernels: $(VENV)/.dev ## kernels that are forked from one parent (as root for other users, too)
	$(RUN) -m pytest -q -m kernels tests/test_kernels.py

test-hub: $(VENV)/.browser ## a hub with three users in a real browser (as root, installs it in .venv-hub)
	$(RUN) -m pytest -q --durations=5 tests/hub

quick: $(VENV)/.dev ## the same without the notebooks
	@$(RUN) tests/stages.py --without notebooks

lint: $(VENV)/.dev ## style, types and layers only
	@$(RUN) tests/stages.py --only style --only types --only layers

format: $(VENV)/.dev ## put the code into the project's format
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

notebooks: $(VENV)/.dev ## execute every lesson again and write it in normal form
	$(RUN) -m advlearn.course.notebooks

measure: $(VENV)/.dev ## run every lesson and print its time and its peak memory
	$(RUN) -m advlearn.course.notebooks --measure

test-editions: $(VENV)/.dev ## execute every lesson of the instructor's and of the learner's edition
	$(RUN) -m pytest -q -m editions tests/test_classroom_edition.py

test-nbgrader: $(VENV)/.dev ## take the nbgrader course from release to export (installs nbgrader in .venv-nbgrader)
	$(RUN) -m tests.nbgrader.environment

test-colab: $(VENV)/.dev ## run every lesson with the versions that Colab has (installs them in .venv-colab)
	$(RUN) -m tests.colab.environment

test-oldest: $(VENV)/.dev ## try the lowest versions that pyproject.toml allows (installs them in .venv-oldest)
	$(RUN) -m tests.bounds oldest

test-newest: $(VENV)/.dev ## try the newest Python and the newest versions (installs them in .venv-newest)
	$(RUN) -m tests.bounds newest

$(VENV)/.book: $(VENV)/.lab
	$(PIP) install --quiet --editable ".[book]"
	@touch $@

book: $(VENV)/.book ## make the web edition in build/book/html; a warning or a broken link fails it
	$(RUN) book/make.py

test-book: book ## look at every page of the book in Chromium: barriers, requests, a phone, search
	$(RUN) -m pytest -q --durations=5 -m book $(SPREAD) tests/book

playground: $(VENV)/.lab ## make the page in which digits are attacked, build/playground.html
	@mkdir -p build
	$(BIN)/advlearn playground --out build

test-playground: $(VENV)/.book ## the playground in Chromium: held against the library, barriers, a phone
	$(RUN) -m pytest -q --durations=5 -m playground tests/playground

record: $(VENV)/.book ## measure every lesson and draw its moving picture, for the book
	$(RUN) book/costs.py
	$(RUN) book/frames.py

slides: $(VENV)/.lab ## make the slides in build/slides, one file each, for any browser
	$(RUN) classroom/slides/make.py $(if $(DRAW),--run)

bench: $(VENV)/.dev ## time the library beside its peers (installs them in .venv-bench)
	$(RUN) benchmarks/install.py
	$(RUN) benchmarks/run.py
	$(RUN) benchmarks/lab.py
	$(RUN) benchmarks/bracket.py

palette: $(VENV)/.dev ## draw every figure in grey and for colour-blind readers, into build/palette
	MPLBACKEND=agg $(RUN) tests/vision.py

clean: ## remove the environments and the caches, never the data
	rm -rf $(VENV) .venv-bench .venv-colab .venv-oldest .venv-newest .venv-hub .venv-nbgrader .mypy_cache .ruff_cache .pytest_cache .hypothesis build
