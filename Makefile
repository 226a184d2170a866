# Every target makes what it needs: `make demo` and `make test` each work on a fresh clone.
PYTHON ?= python3
BIN := .venv/bin
RUN := $(shell date +%Y%m%d-%H%M%S)
BENCHMARKS := loss loss_accuracy gather views loader packed optimizer micro_batch step callbacks startup waiting_threads
BENCH_ARGS ?= --short
# PYTHON=python3 make gpu-check: with the packages of that Python, where no registry is reached
GPU_PYTHON := $(if $(filter file,$(origin PYTHON)),.venv-bench/bin/python,$(PYTHON))
GPU_SETUP := $(if $(filter file,$(origin PYTHON)),bench-setup)
GPU_PYTHON := PYTHONPATH=src$(addprefix :,$(PYTHONPATH)) $(GPU_PYTHON)
GPU_CHECK_ARGS ?=
FIT_ARGS ?=
FAULT_ARGS ?=
TEST_ARGS ?=
# one more than there are cores: many tests wait for processes that they started
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage faults slurm lint type audit bench bench-setup gpu-check cifar10-gpu docs version release-notes \
	release-check clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/installed-dev  ## Install the package with its development tools into .venv

demo: .venv/installed  ## Pre-train on handwritten digits, judge the encoder, show the result (about 2 minutes)
	$(BIN)/simclr fit --config experiments/quickstart.yaml --trainer.logger.version $(RUN)
	$(BIN)/simclr evaluate --config experiments/quickstart.yaml \
		--ckpt_path runs/quickstart/$(RUN)/checkpoints/last.ckpt --draws 20

# worksteal: the other distributions wait for ever, or stop, where a process of the tests has crashed.
test: .venv/installed-dev  ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --maxprocesses 4 --dist worksteal $(TEST_ARGS)

coverage:  ## Run the tests and print the coverage of src, in 1.3 times the time
	$(MAKE) test TEST_ARGS="--cov --cov-report=term-missing:skip-covered"

faults: .venv/installed-dev  ## Wrong lines, hostile files, flipped bits, 10,000 steps, 200 kills, 30 minutes of kills (hours; FAULT_ARGS="--minutes 5")
	SIMCLR_FAULTS=1 OMP_NUM_THREADS=1 $(BIN)/pytest tests/integration/test_wrong_lines.py tests/integration/test_right_settings.py
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.files
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.soak
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.campaign $(FAULT_ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.campaign --storm 30 --kinds "one process" --output runs/storm.json

slurm: .venv/installed-dev  ## Our job files on two SLURM nodes on this machine, and torchrun (Debian: slurm-wlm, munge)
	SIMCLR_CLUSTERS=1 OMP_NUM_THREADS=1 $(BIN)/pytest tests/clusters

lint: .venv/installed-dev  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: .venv/installed-dev  ## Check types
	$(BIN)/mypy

# In an environment of its own: what audits is not what is audited. Strict: what cannot be looked up is a failure.
audit: .venv/installed-dev .venv-audit/bin/pip-audit  ## Look for known vulnerabilities of the installed packages
	$(BIN)/pip freeze --exclude-editable > .venv-audit/installed.txt
	.venv-audit/bin/pip-audit --strict --disable-pip --no-deps --requirement .venv-audit/installed.txt

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

docs: .venv/installed-docs  ## Build the site into site/, and run the tutorial for it (2 minutes)
	rm -rf build/pages build/tutorial
	mkdir -p build/pages build/tutorial
	cp -r README.md CHANGELOG.md CODE_OF_CONDUCT.md CONTRIBUTING.md LICENSE SECURITY.md docs experiments benchmarks build/pages
	sed -i.bak 's/tutorial\.ipynb)/tutorial.md)/' build/pages/*.md build/pages/docs/*.md
	rm build/pages/*.bak build/pages/docs/*.bak
	cp docs/tutorial.ipynb build/tutorial
	$(BIN)/jupyter-nbconvert --log-level WARN --to markdown --execute build/tutorial/tutorial.ipynb --output-dir build/pages/docs
	$(BIN)/zensical build --strict

version:  ## Print the version
	@sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml

release-notes:  ## Print what CHANGELOG.md says of this version
	@awk -v version="$$(make --silent version)" '/^## / {on = index($$2, version) == 1} on' CHANGELOG.md | tail -n +2 | grep . \
		|| { echo "CHANGELOG.md has no section of this version: rename Unreleased" >&2; exit 1; }

# In an empty environment and another folder, from the wheel that the sdist makes: nothing of this folder is found.
release-check: .venv-release/installed  ## Build the release, and try it as a user would (about 5 minutes)
	rm -rf dist .venv-release/try
	.venv-release/build/bin/python -m build
	.venv-release/build/bin/twine check --strict dist/*.whl dist/*.tar.gz
	.venv-release/bin/pip install --quiet --force-reinstall --no-deps dist/*.whl
	mkdir .venv-release/try
	cd .venv-release/try && ../bin/simclr recipes
	cd .venv-release/try && ../bin/simclr fit --config quickstart --trainer.max_epochs 2
	cd .venv-release/try && ../bin/simclr evaluate --config quickstart --ckpt_path runs/quickstart/version_0/checkpoints/last.ckpt --draws 2
	cd .venv-release/try && ../bin/simclr export --ckpt_path runs/quickstart/version_0/checkpoints/last.ckpt --format torchscript --output encoder.pt

.venv-release/installed: pyproject.toml
	$(PYTHON) -m venv .venv-release
	@echo '*' > .venv-release/.gitignore
	$(PYTHON) -m venv .venv-release/build
	.venv-release/build/bin/pip install --quiet build twine
	.venv-release/bin/pip install --quiet .
	@touch $@

clean:  ## Remove what was built; runs/ and data/ are kept
	rm -rf .venv .venv-audit .venv-release build dist site .coverage .pytest_cache .mypy_cache .ruff_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv-audit/bin/pip-audit:
	$(PYTHON) -m venv .venv-audit
	@echo '*' > .venv-audit/.gitignore
	.venv-audit/bin/pip install --quiet pip-audit

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
