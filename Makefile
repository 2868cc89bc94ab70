# Every target makes the environment it needs; a stamp makes the second call instant.
# The interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NAME ?=
ARGS ?=
BASE := $(VENV)/.stamp-base
DEV := $(VENV)/.stamp-dev
DOCS := $(VENV)/.stamp-docs
UV := $(shell command -v uv 2>/dev/null)

ifdef UV
INSTALL = $(UV) pip install --quiet --python $(BIN)/python -c constraints.txt
MAKE_VENV = $(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
else
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
MAKE_VENV = $(PYTHON) -m venv $(VENV)
endif

.PHONY: help demo test browser lint format docs bench trial gpu fuzz clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(BASE) ## digits: train, attack, repair, evaluate, and a report page
	$(BIN)/suture demo --out suture-demo $(ARGS)

# One thread a worker: small tensors lose by more, and workers would fight over the cores.
test: $(DEV) ## the whole test suite, on all cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --durations=15 $(ARGS)

browser: $(DEV) ## report, comparison, study and studio in Chromium, if this machine has one
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser $(ARGS)

lint: $(DEV) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DOCS) ## the documentation as a site, in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(DEV) ## benchmarks; make bench NAME=scoring runs one
	$(BIN)/python benchmarks/run.py $(NAME) $(ARGS)

trial: $(DEV) ## a newcomer's first hour with the built wheel; its transcript is docs/trial.md
	$(BIN)/python benchmarks/trial.py $(ARGS)

gpu: $(DEV) ## the tests that need a CUDA device
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m cuda --durations=15 $(ARGS)

fuzz: $(DEV) ## mutated files thrown at every reader; make fuzz ARGS="--count 100000"
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.run --count 20000 $(ARGS)

clean: ## remove everything that make made
	rm -rf $(VENV) site suture-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BASE): pyproject.toml constraints.txt
	@echo "making the environment in $(VENV) (a minute or two, about 6 GB)"
	@$(MAKE_VENV)
	@$(INSTALL) -e .
	@touch $@

$(DEV): $(BASE)
	@$(INSTALL) -e '.[dev]'
	@# Other people's attacks, to compare with; without the old pins of what they would bring.
	@$(INSTALL) --no-deps torchattacks foolbox eagerpy GitPython gitdb smmap
	@touch $@

$(DOCS): $(BASE)
	@$(INSTALL) -e '.[docs]'
	@touch $@
