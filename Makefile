# `make` lists the targets. Needs GNU make and Python 3.11 or newer; everything goes into .venv.

PYTHON ?= python3
PROFILE ?= pocket
SEED ?=

BIN := .venv/bin
OUT := outputs/$(PROFILE)/notebooks
NAMES := 01_trace_distillation 02_similarity_filtering 03_qlora_finetuning \
         04_interleaved_inference 05_benchmarks_and_ablations 06_ablations
RUNS := $(NAMES:%=$(OUT)/%.ipynb)
CODE := $(wildcard act2see/*.py act2see/*/*.py)
MODELS := $(shell find data -name '*.safetensors' 2>/dev/null)
PARAMETERS := $(if $(filter-out pocket,$(PROFILE)),-p profile $(PROFILE)) \
              $(if $(SEED),-p seed $(SEED))
# The pocket profile needs no network, and proves it. The kernel is always that of .venv.
SETTINGS := $(if $(filter pocket,$(PROFILE)),HF_HUB_OFFLINE=1) JUPYTER_PATH=.venv/share/jupyter

# Memory in large pages: on two cores training takes an eighth less time.
export THP_MEM_ALLOC_ENABLE := 1

.DEFAULT_GOAL := help
.PHONY: help reproduce notebooks test lint perf ablations clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Variables: PROFILE=imagine  SEED=1  PYTHON=python3.12'

reproduce: .venv/installed notebooks ## set up .venv and run the six notebooks

notebooks: $(RUNS) ## run the notebooks that are not up to date (PROFILE=, SEED=)
	@echo 'The executed notebooks are in $(OUT).'

test: lint ## check the style, then run the tests
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

lint: .venv/installed ## check the style: ruff, and notebooks without outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(if $(wildcard notebooks/*.ipynb),$(BIN)/nbstripout --verify --keep-id notebooks/*.ipynb)

perf: .venv/installed ## measure speed and memory against slow references, into outputs/perf.csv
	@set -e; for subject in $(filter-out report,$(notdir $(basename $(wildcard tests/perf/*.py)))); do \
	    HF_HUB_OFFLINE=1 $(BIN)/python -W ignore -m tests.perf.$$subject; done

ablations: .venv/installed ## fill the grid of ablations, a good hour on two cores, and draw it
	HF_HUB_OFFLINE=1 $(BIN)/python -W ignore data/pocket/ablate.py outputs/pocket/ablations
	cp outputs/pocket/ablations/ablations.csv outputs/pocket/ablations/ablations.json data/pocket/
	$(SETTINGS) $(BIN)/papermill --kernel python3 --cwd . -p figures_folder figures \
	    notebooks/06_ablations.ipynb outputs/pocket/ablations/06_ablations.ipynb

clean: ## remove outputs/
	rm -rf outputs

distclean: clean ## remove outputs/ and .venv/
	rm -rf .venv

.venv/installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
	    echo 'act2see needs Python 3.11 or newer, and there is no $(PYTHON).' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "act2see needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	    echo 'Name a newer one: make PYTHON=python3.12' >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -r requirements.lock
	$(BIN)/python -m pip install --no-deps -e .
	-$(BIN)/python -m pip install --no-deps --target .venv/torchvision torchvision==0.28.0 # one test's
	@touch $@

# A notebook runs when it, the package, a shipped model, the seed or the run before it has changed.
# It takes its final name only when it has succeeded: an interrupted run goes on where it stopped.
$(RUNS): $(OUT)/%.ipynb: notebooks/%.ipynb $(CODE) $(MODELS) $(OUT)/parameters | .venv/installed
	@rm -f $(OUT)/$*.failed.ipynb $(OUT)/$*.partial.ipynb
	@echo 'Running notebooks/$*.ipynb'
	@$(SETTINGS) $(BIN)/papermill --kernel python3 --cwd . $(PARAMETERS) \
	    $< $(OUT)/$*.partial.ipynb || { \
	    mv -f $(OUT)/$*.partial.ipynb $(OUT)/$*.failed.ipynb 2>/dev/null && \
	        echo 'Failed; see $(OUT)/$*.failed.ipynb' >&2; exit 1; }
	@mv -f $(OUT)/$*.partial.ipynb $@

$(OUT)/02_similarity_filtering.ipynb: $(OUT)/01_trace_distillation.ipynb
$(OUT)/03_qlora_finetuning.ipynb: $(OUT)/02_similarity_filtering.ipynb
$(OUT)/04_interleaved_inference.ipynb: $(OUT)/03_qlora_finetuning.ipynb
$(OUT)/05_benchmarks_and_ablations.ipynb: $(OUT)/04_interleaved_inference.ipynb
$(OUT)/06_ablations.ipynb: data/pocket/ablations.csv

# The parameters of the last run: another seed runs all of them again.
ifneq ($(strip $(shell cat $(OUT)/parameters 2>/dev/null)),$(strip $(PARAMETERS)))
.PHONY: $(OUT)/parameters
endif
$(OUT)/parameters:
	@mkdir -p $(OUT)
	@echo '$(strip $(PARAMETERS))' > $@
