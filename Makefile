PYTHON ?= python3
VENV ?= .venv

in_venv := $(VENV)/bin/python
other_python := Another one is chosen with PYTHON, as in: make PYTHON=python3.12 demo

.DELETE_ON_ERROR:
.PHONY: help demo proof test test-gpu test-matrix test-applications test-kill test-attack test-native test-crash test-slurm test-placement test-presets docs screenshots coverage check clean

help:  ## This list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/installed  ## Real digits: records, training, evaluation, export: a minute, no GPU.
	$(in_venv) -m scripts.demo

proof: $(VENV)/installed  ## Show the contracts hold on this machine.
	$(in_venv) -m scripts.proof

test: $(VENV)/installed  ## All tests; those that need a GPU are skipped where there is none.
	$(in_venv) -m pytest

test-gpu: $(VENV)/installed-gpu  ## What needs a GPU, on every visible one; docs/gpus.md.
	$(in_venv) -m pytest -m gpu -n 0 -rA --tb=short

test-matrix: $(VENV)/installed  ## Models, optimizers, precisions, devices, workers: an hour; docs/reliability.md.
	$(in_venv) -m pytest -m matrix tests/trainer/test_invariance.py tests/trainer/test_replicas.py \
	  tests/trainer/workers/test_workers.py \
	  --matrix-table=docs/reliability.md

test-applications: $(VENV)/installed  ## All of keras.applications: an hour; docs/reliability.md.
	$(in_venv) -m pytest -m applications tests/models/test_applications.py --applications-table=docs/reliability.md

test-kill: $(VENV)/installed  ## 30 kills of 8 runs, most of them of workers: a quarter of an hour.
	$(in_venv) -m pytest -m kill -n 0 tests/trainer/test_resume.py tests/trainer/workers/test_kills.py \
	  --kill-table=docs/reliability.md

test-attack: $(VENV)/installed  ## 200 SIGKILLs, full disks, lost networks, changed bytes: half an hour.
	$(in_venv) -m pytest -m attack --dist load tests/test_attack.py tests/test_byte_fuzz.py \
	  tests/test_full_disk.py --attack-table=docs/reliability.md

test-native: $(VENV)/installed  ## A million mutated records through the native decoder, with sanitizers.
	$(in_venv) -m pytest -m native -n 0 tests/input/native/test_sanitizers.py \
	  --attack-table=docs/reliability.md

test-slurm: $(VENV)/installed  ## A Slurm of two nodes on this machine, as root; else skipped.
	$(in_venv) -m pytest -m slurm -n 0 tests/trainer/launch/test_slurm_cluster.py

test-placement: $(VENV)/installed  ## 80 steps traced for GPUs, on any machine: an hour; docs/gpus.md.
	@# TensorFlow keeps what was traced, about 0.3 GB a step: a process for each model.
	for model in cnn resnet18 resnet50 MobileNetV2 EfficientNetB0; do \
	  $(in_venv) -m pytest -m "placement or not placement" -n 0 tests/trainer/test_placement.py \
	    -k "everything and $$model" --placement-table=docs/gpus.md || exit 1; \
	done

test-presets: $(VENV)/installed  ## Two steps of every preset, on tiny images: five minutes.
	$(in_venv) -m pytest -m "presets or not presets" -n 0 tests/scripts/test_presets.py

test-crash: $(VENV)/installed  ## Every save interrupted at each system call; docs/reliability.md.
	$(in_venv) -m pytest -n 0 tests/test_crashes.py --crash-table=docs/reliability.md

docs: $(VENV)/installed  ## Run every command and example of README and docs: a quarter of an hour.
	$(in_venv) -m pytest -m docs tests/scripts

screenshots: $(VENV)/installed  ## The documents' pictures of TensorBoard and a report; needs Chromium.
	$(in_venv) -m docs.screenshots

coverage: $(VENV)/installed  ## All tests, and the lines they do not reach.
	$(in_venv) -m pytest --cov

check: $(VENV)/installed  ## Lint, formatting, types, imports, layout and length of files.
	$(in_venv) -m ruff check
	$(in_venv) -m ruff format --check
	$(in_venv) -m mypy
	$(in_venv) -m pytest -q -n 0 tests/test_imports.py tests/test_layout.py

clean:  ## Remove what the other targets wrote, but for the virtual environment.
	rm -rf build demo proof *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage
	find input models trainer scripts tests -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/installed: setup.cfg setup.py pyproject.toml constraints.txt $(wildcard input/native/*.c) | $(in_venv)
	@echo 'Installing TensorFlow and the rest into $(VENV): 2.6 GB, some minutes.'
	@$(in_venv) -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt -e '.[demo,dev]'
	@touch $@

# Without a driver there is no use for CUDA's libraries; with one, TensorFlow sees no GPU without them.
$(VENV)/installed-gpu: $(VENV)/installed
	@if [ -e /proc/driver/nvidia/version ] || command -v nvidia-smi >/dev/null; then \
	  echo 'Installing the CUDA libraries into $(VENV): 3 GB more.'; \
	  $(in_venv) -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt -e '.[demo,dev,gpu]' && touch $@; \
	fi

$(in_venv):
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v < (3, 14) or sys.exit( \
	  "samestep needs Python 3.11, 3.12 or 3.13; $(PYTHON) is %d.%d." % v[:2])' || \
	  { echo '$(other_python)' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo '$(PYTHON) cannot make virtual environments. On Debian and Ubuntu:' \
	         'apt-get install python3-venv' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
