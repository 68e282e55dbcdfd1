# `make demo` and `make test` are each all it takes on a machine with Python 3.10 or newer, pip and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out
DATA ?= ../shared/data
JOBS ?= 2

.PHONY: help demo test lint benchmark memory speed pictures clean

help:
	@echo "make demo       install into $(VENV), register a synthetic breast pair, write $(OUT)/demo"
	@echo "make test       install into $(VENV), run all tests (as root on Debian, system libraries too)"
	@echo "make lint       formatting, style, types, imports"
	@echo "make benchmark  measure accuracy, write $(OUT)/accuracy.md"
	@echo "make memory     measure the memory of ConvexAdam at 512 x 512 x 512 voxels, and of encoding"
	@echo "make speed      measure the encoders side by side with the packages they come from, and the cache"
	@echo "make pictures   make the pictures of the README anew, into Resources/Screenshots"
	@echo "make clean      remove what the commands above wrote"

demo: $(VENV)/installed
	$(BIN)/foundation-registration phantom longitudinal --output $(OUT)/demo/phantom --spacing-mm 2
	$(BIN)/foundation-registration register \
		$(OUT)/demo/phantom/fixed.nii.gz $(OUT)/demo/phantom/moving.nii.gz --output $(OUT)/demo/result \
		--encoder litemedsam --working-spacing-mm 2 \
		--fixed-labels $(OUT)/demo/phantom/fixed_labels.nii.gz \
		--moving-labels $(OUT)/demo/phantom/moving_labels.nii.gz \
		--fixed-landmarks $(OUT)/demo/phantom/fixed_landmarks.mrk.json \
		--moving-landmarks $(OUT)/demo/phantom/moving_landmarks.mrk.json
	@echo "Look at $(OUT)/demo/result/overview.png"

test: $(VENV)/installed-test
	$(BIN)/python Testing/stand_in/system_packages.py
	OMP_NUM_THREADS=1 FOUNDATION_REGISTRATION_DATA=$(DATA) $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

lint: $(VENV)/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

benchmark: $(VENV)/installed-test
	$(BIN)/python Testing/benchmarks/accuracy.py --data $(DATA) --output $(OUT)

memory: $(VENV)/installed-test
	$(BIN)/python Testing/benchmarks/memory.py
	$(BIN)/python Testing/benchmarks/encoding.py memory

speed: $(VENV)/installed-test
	$(BIN)/python Testing/benchmarks/encoders.py
	$(BIN)/python Testing/benchmarks/encoding.py cache

pictures: $(VENV)/installed-test
	$(BIN)/python Testing/tutorial/make_pictures.py

# Debian splits `venv` off its Python; where it is missing, virtualenv does the same.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		$(PYTHON) -m pip install --quiet --target .virtualenv virtualenv && \
		PYTHONPATH=.virtualenv $(PYTHON) -m virtualenv --quiet $(VENV); }

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/installed

clean:
	rm -rf $(OUT) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
