# `make gifs` is the main job, `make test` the proof. Both create what they need in .venv.
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
GIF_ARGS ?=
FUZZ_ARGS ?=
BIN := $(VENV)/bin
# Where the GIFs go; without it runs/gifs and runs/gifs-float64, then runs/gifs-2 ...
OUT ?=
# The pair whose pictures match to the last byte: Float64, a width at which it draws digits in minutes, Flux as recorded.
MATCHING := --dtype float64 --width 16 --batch 32 --every 50 --flux recorded
# Processes that share the test files: more than two gain little, the longest file decides.
JOBS ?= 2

.PHONY: gifs matching-gifs test test-all test-live fuzz soak bench bench-results docs lint coverage install dev clean

gifs: install matching-gifs
	$(BIN)/pygan gif $(if $(OUT),--out $(OUT)) $(GIF_ARGS)

matching-gifs: install
	$(BIN)/pygan gif $(if $(OUT),--out $(OUT)-float64) $(MATCHING)

test: install
	$(BIN)/pytest tests parity_tests -n $(JOBS) --dist loadfile -m "not live and not cuda and not slow"
	@echo "The long ones too: make test-all. Live claims on real Julia and Flux: make test-live"

test-all: install
	$(BIN)/pytest tests parity_tests -n $(JOBS) --dist loadfile -m "not live and not cuda"

test-live: install
	$(BIN)/pytest tests parity_tests benchmarks -m live --results docs/results/test-live.json

# 100,000 broken files for every reader; results in docs/results/fuzz.json.
fuzz: install
	$(BIN)/python tools/fuzz.py $(FUZZ_ARGS)

# 200 kills at random moments; each run must end with the files of one that never stopped (docs/reliability.md).
soak: install
	$(BIN)/pytest tests/test_resume.py -m slow -s

bench: install
	$(BIN)/pytest benchmarks --benchmark-autosave

# The committed results of this machine class, and docs/benchmarks.md made from them (needs Julia; a quiet machine).
BENCH_RESULTS ?= benchmarks/results/rows-$(shell uname -m)-$(shell nproc)-cores.json
bench-results: install
	$(BIN)/pytest benchmarks/test_rows.py --benchmark-full --benchmark-seconds 45 --benchmark-json $(BENCH_RESULTS)
	$(BIN)/pygan bench --report $(BENCH_RESULTS) --markdown docs/benchmarks.md --overwrite

# docs/parity.md with its plots and docs/planted-faults.md, from the committed results of comparisons.
docs: install
	$(BIN)/python tools/parity_document.py
	$(BIN)/python tools/planted_document.py

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coverage: dev
	$(BIN)/python tools/measure_coverage.py

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[test]'
	touch $@

dev: $(VENV)/.dev

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
