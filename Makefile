# `make app` and `make test` do all the set-up they need; nothing else has to be run first.
PYTHON ?= python3
BIN    := .venv/bin
READY  := .venv/.ready
EXTRAS ?= dev
PYTEST_ARGS ?=
APP_ARGS ?=
PAGES ?=

.DEFAULT_GOAL := help
.PHONY: help app test lint format bench docs figures screenshots notebooks smollm2 clean

help:
	@echo "make app     install into .venv and open the dashboard on the bundled model"
	@echo "make test    install into .venv and run every test"
	@echo "make lint    ruff (lint and format) and pyright"
	@echo "make format  let ruff rewrite what it can"
	@echo "make bench   measure, and rewrite benchmarks/results.json and RESULTS.md"
	@echo "make docs    build the site of the documents into build/site; a warning is an error"
	@echo "make figures run the lines that documents show, and store what they draw (PAGES=\"dynamics\")"
	@echo "make screenshots take the README's pictures of the dashboard"
	@echo "make notebooks run the notebooks and store what they put out"
	@echo "make smollm2 fetch SmolLM2-135M-Instruct, a real language model (about 100 MB)"
	@echo "make clean   remove .venv and caches"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; ok = sys.version_info >= (3, 11); \
	sys.exit(0 if ok else "abbie-lens needs Python 3.11 or newer, but $(PYTHON) is %d.%d. " \
	"Name a newer one: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $(READY)

app: $(READY)
	$(BIN)/abbie-lens app $(APP_ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks

docs: $(READY)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

figures: $(READY)
	$(BIN)/python -m docs.site.figures $(PAGES)

screenshots: $(READY)
	$(BIN)/python -m docs.site.screenshots

notebooks: $(READY)
	$(BIN)/python -m notebooks

smollm2: $(READY)
	$(BIN)/abbie-lens fetch smollm2-135m

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
