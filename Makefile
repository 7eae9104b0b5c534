# Everything a newcomer needs. Each target makes .venv by itself when it is missing or out of date.
#
#   make demo               train a small bundle, segment a DICOM study, write SEG and report
#   make demo STUDY=DIR     segment a DICOM study of your own with the shipped weights
#   make test               every test that needs nothing but the repository
#   make lint               style, types and architecture
#   make bundles            write the rendered bundles and reference pages again
#   make bench              a short run of every benchmark
#   make pictures           photograph reports for the documentation (needs chromium)
#
# TORCH is installed before everything else. Which build of it you get (CPU or CUDA) is decided by
# pip's own configuration: on Linux a plain index gives the CUDA build; a CPU wheel that pip finds
# through PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL has the higher version and wins.

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint bundles bench pictures clean

help:
	@sed -n 's/^#   \(make .*\)/  \1/p' Makefile

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "Python 3.10 or later is needed; choose one with: make PYTHON=python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt "$(TORCH)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(READY)
	$(BIN)/differseg-med demo $(if $(STUDY),--study "$(STUDY)")

test: $(READY)
	$(BIN)/python -m pytest

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bundles: $(READY)
	$(BIN)/python -c "from pathlib import Path; from differseg_med.bundle import render_all; \
		print(*render_all(Path('configs'), Path('bundles')), sep='\n')"
	$(BIN)/differseg-med explain --all --markdown > docs/reference/codes.md
	$(BIN)/python -c "from pathlib import Path; from differseg_med.bundle import tasks_page; \
		print(tasks_page(Path('configs')), end='')" > docs/tasks.md
	$(BIN)/differseg-med datasets --markdown > docs/reference/datasets.md
	$(BIN)/python -c "from differseg_med.metrics import metrics_page; print(metrics_page(), end='')" \
		> docs/reference/metrics.md
	$(BIN)/python -c "from differseg_med.engine import measurements_page; \
		print(measurements_page(), end='')" > docs/reference/measurements.md

# Short runs; what they write goes to out/bench. Each script's header has the command of the full one.
bench: $(READY)
	$(BIN)/python benchmarks/speed/run.py --short --parts blocks,exported,peers,start
	$(BIN)/python benchmarks/study_to_seg.py --slices 100 --sizes tiny
	$(BIN)/python benchmarks/read_series.py --slices 100
	$(BIN)/python benchmarks/write_seg.py --slices 100 --tries 1
	$(BIN)/python benchmarks/report_page.py --slices 60
	$(BIN)/python benchmarks/segment_many.py --studies 3
	$(BIN)/python benchmarks/load_cases.py --cases 2
	$(BIN)/python benchmarks/load_pictures.py --cases 3 --repeats 3
	$(BIN)/python benchmarks/surface_metrics.py
	$(BIN)/python benchmarks/activation_memory.py --sizes tiny --dims 3
	$(BIN)/python benchmarks/calibration.py --short
	@mkdir -p out/bench && rm -f out/bench/variants.csv out/bench/crop_weed.csv
	$(BIN)/python benchmarks/variants.py --csv out/bench/variants.csv
	$(BIN)/python -m benchmarks.accuracy --profile smoke --out out/bench/accuracy
	$(BIN)/python benchmarks/crop_weed.py --short

pictures: $(READY)
	$(BIN)/python docs/pictures/make.py $(if $(STUDIES),--studies "$(STUDIES)")

clean:
	rm -rf $(VENV) build dist runs out
