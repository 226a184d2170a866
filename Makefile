# Every target makes what it needs: `make demo` and `make test` each work on a fresh clone.
PYTHON ?= python3
BIN := .venv/bin
DEMO_RUN := $(shell date +%Y%m%d-%H%M%S)

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint type bench docs clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/installed-dev  ## Install the package with its development tools into .venv

demo: .venv/installed  ## Pre-train on handwritten digits, judge the encoder, show the result (about 2 minutes)
	$(BIN)/simclr fit --config experiments/quickstart.yaml --trainer.logger.version $(DEMO_RUN)
	$(BIN)/simclr evaluate --config experiments/quickstart.yaml \
		--ckpt_path runs/quickstart/$(DEMO_RUN)/checkpoints/last.ckpt --draws 20

test: .venv/installed-dev  ## Run the tests and print the coverage of src
	$(BIN)/pytest --cov --cov-report=term-missing:skip-covered

lint: .venv/installed-dev  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: .venv/installed-dev  ## Check types
	$(BIN)/mypy

bench: .venv/installed  ## Time the loss beside a plain implementation
	$(BIN)/python benchmarks/loss.py

docs: .venv/installed-docs  ## Build the site into site/
	$(BIN)/mkdocs build --strict

clean:  ## Remove what was built; runs/ and data/ are kept
	rm -rf .venv build dist site .coverage .pytest_cache .mypy_cache .ruff_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/pip
	$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/pip
	$(BIN)/pip install --quiet --editable ".[dev]"
	@touch $@ .venv/installed

.venv/installed-docs: pyproject.toml | .venv/bin/pip
	$(BIN)/pip install --quiet --editable ".[docs]"
	@touch $@ .venv/installed
