# Every target makes what it needs: `make demo` and `make test` each work on a fresh clone.
PYTHON ?= python3
BIN := .venv/bin
RUN := $(shell date +%Y%m%d-%H%M%S)
BENCHMARKS := loss loss_accuracy gather views loader packed optimizer micro_batch step
BENCH_ARGS ?= --short
# PYTHON=python3 make gpu-check: with the packages of that Python, where no registry is reached
GPU_PYTHON := $(if $(filter file,$(origin PYTHON)),.venv-bench/bin/python,$(PYTHON))
GPU_SETUP := $(if $(filter file,$(origin PYTHON)),bench-setup)
GPU_PYTHON := PYTHONPATH=src$(addprefix :,$(PYTHONPATH)) $(GPU_PYTHON)
GPU_CHECK_ARGS ?=
FIT_ARGS ?=
FAULT_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test faults slurm lint type bench bench-setup gpu-check cifar10-gpu docs clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/installed-dev  ## Install the package with its development tools into .venv

demo: .venv/installed  ## Pre-train on handwritten digits, judge the encoder, show the result (about 2 minutes)
	$(BIN)/simclr fit --config experiments/quickstart.yaml --trainer.logger.version $(RUN)
	$(BIN)/simclr evaluate --config experiments/quickstart.yaml \
		--ckpt_path runs/quickstart/$(RUN)/checkpoints/last.ckpt --draws 20

# worksteal: the other distributions wait for ever, or stop, where a process of the tests has crashed.
test: .venv/installed-dev  ## Run the tests and print the coverage of src
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal --cov --cov-report=term-missing:skip-covered

faults: .venv/installed-dev  ## Kill 200 trainings at random moments, let them go on, compare (an hour; FAULT_ARGS="--minutes 5")
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.campaign $(FAULT_ARGS)

slurm: .venv/installed-dev  ## Our job files on two SLURM nodes on this machine, and torchrun (Debian: slurm-wlm, munge)
	SIMCLR_CLUSTERS=1 OMP_NUM_THREADS=1 $(BIN)/pytest tests/clusters

lint: .venv/installed-dev  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: .venv/installed-dev  ## Check types
	$(BIN)/mypy

bench: bench-setup  ## Compare with other packages, in short (CIFAR10=FOLDER: accuracy, too; BENCH_ARGS=: the full form, hours)
	@for script in $(BENCHMARKS); do \
		echo "== benchmarks/$$script.py $(BENCH_ARGS)"; \
		.venv-bench/bin/python benchmarks/$$script.py $(BENCH_ARGS) || exit 1; \
	done
ifdef CIFAR10
	.venv-bench/bin/python benchmarks/time_to_accuracy.py $(BENCH_ARGS) --root $(CIFAR10)
else
	@echo "time_to_accuracy.py is left out: make bench CIFAR10=FOLDER, with train/<class>/*.jpg and test/<class>/*.jpg in it"
endif

bench-setup: .venv-bench/installed  ## Install the other packages with this one into .venv-bench

gpu-check: $(GPU_SETUP)  ## Is it right and fast on this GPU? Eight minutes (without a GPU: a rehearsal on the CPU)
	$(GPU_PYTHON) benchmarks/gpu_check.py $(GPU_CHECK_ARGS)

cifar10-gpu: $(GPU_SETUP)  ## Pre-train on CIFAR-10 for eight minutes of one GPU, and judge the encoder (CIFAR10=FOLDER)
	$(GPU_PYTHON) -m simclr_lightning fit --config experiments/cifar10/gpu.yaml --data.root $(CIFAR10) \
		--trainer.logger.version $(RUN) $(FIT_ARGS)
	$(GPU_PYTHON) -m simclr_lightning evaluate --config runs/cifar10-gpu/$(RUN)/config.yaml \
		--ckpt_path runs/cifar10-gpu/$(RUN)/checkpoints/last.ckpt --raw_pixels false --protocols linear,knn

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

.venv/installed-dev: pyproject.toml tests/models/peers.txt | .venv/bin/pip
	$(BIN)/pip install --quiet --editable ".[dev]"
	$(BIN)/pip install --quiet --upgrade --no-deps --target .venv/peers --requirement tests/models/peers.txt
	@touch $@ .venv/installed

.venv/installed-docs: pyproject.toml | .venv/bin/pip
	$(BIN)/pip install --quiet --editable ".[docs]"
	@touch $@ .venv/installed

# solo-learn pins releases of 2021, which no longer install; its loss needs none of them. The pattern in .gitignore keeps
# git and linters out.
.venv-bench/installed: pyproject.toml benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-bench
	@echo '*' > .venv-bench/.gitignore
	.venv-bench/bin/pip install --quiet --editable ".[fast]" --requirement benchmarks/requirements.txt
	.venv-bench/bin/pip install --quiet --no-deps solo-learn==1.0.2
	@touch $@
