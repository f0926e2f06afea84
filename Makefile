# `make` lists the targets. Needs GNU make and Python 3.11 or newer; everything goes into .venv.

PYTHON ?= python3
PROFILE ?= pocket
SEED ?=
UV ?= uv

BIN := .venv/bin
OUT := outputs/$(PROFILE)/notebooks
# A simulated world is scored by notebook 05, and drawn by 06 and 07; published records by 08.
SIMULATED := pocket imagine paper_pocket
NAMES := 01_trace_distillation 02_similarity_filtering 03_qlora_finetuning \
         04_interleaved_inference \
         $(if $(filter $(SIMULATED),$(PROFILE)),05_evaluation 06_ablations 07_reinforcement) \
         08_published_benchmarks
RUNS := $(NAMES:%=$(OUT)/%.ipynb)
CODE := $(wildcard act2see/*.py act2see/*/*.py)
MODELS := $(shell find act2see/pocket/models -type f)
NOTEBOOKS := $(wildcard notebooks/*.ipynb notebooks/*/*.ipynb)
PARAMETERS := $(if $(filter-out pocket,$(PROFILE)),-p profile $(PROFILE)) \
              $(if $(SEED),-p seed $(SEED))
# What some notebooks alone are told: records to train on, the teacher's server, the benchmark's.
03_TOLD := $(if $(RECORDS),-p data $(RECORDS))
01_TOLD := $(03_TOLD) $(if $(TEACHER),-p teacher_model $(TEACHER)) \
           $(if $(TEACHER_URL),-p base_url $(TEACHER_URL))
08_TOLD := $(if $(BENCHMARK),-p data $(BENCHMARK))
04_TOLD := $(08_TOLD)
told = $(PARAMETERS) $($(firstword $(subst _, ,$(1)))_TOLD)
# The pocket profile needs no network, and proves it. The kernel is always that of .venv.
SETTINGS := $(if $(filter pocket,$(PROFILE)),HF_HUB_OFFLINE=1) JUPYTER_PATH=.venv/share/jupyter \
            TQDM_MININTERVAL=5
# A notebook's stderr, which holds bars and the lines of a training, is shown while it runs.
SHOWN := --no-progress-bar --log-level WARNING --stderr-file -

# Memory in large pages: on two cores training takes an eighth less time.
export THP_MEM_ALLOC_ENABLE := 1
# pip leaves compiling to the first import, which saves half a minute; it has to keep what it made.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help look site tables reproduce notebooks test lint browser cluster chaos perf ablations reinforcement adapters picture platforms clean \
        distclean always

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Variables: PROFILE=imagine  SEED=1  PYTHON=python3.12'
	@echo 'Of other profiles: RECORDS=minerva.json  BENCHMARK=video_mme.parquet  TEACHER=qwen3-vl'
	@echo '    TEACHER_URL=http://localhost:8000/v1'
	@echo 'Of look: QUESTION="where is the square?" OPTIONS="left|top|bottom|right" CALLS=0 SWAP=grey'

look: .venv/installed ## one question: the base guesses, the student looks again
	@mkdir -p outputs
	@$(SETTINGS) $(BIN)/papermill --no-progress-bar --log-level WARNING --stdout-file - \
	    --kernel python3 --cwd . -r question "$$QUESTION" -r options "$$OPTIONS" -r swap "$$SWAP" \
	    $(if $(CALLS),-p max_calls $(CALLS)) notebooks/00_start_here.ipynb outputs/look.ipynb
	@$(BIN)/jupyter nbconvert --log-level ERROR --to html outputs/look.ipynb
	@echo 'With the clip and every frame: outputs/look.html'
# Through the environment, so that a question may hold any sign.
look: export QUESTION := $(QUESTION)
look: export OPTIONS := $(OPTIONS)
look: export SWAP := $(SWAP)

site: .venv/installed ## the pages and the executed notebooks as a web site, into outputs/site/
	@test ! -f outputs/look.ipynb || { mkdir -p $(OUT) && \
	    cp outputs/look.ipynb $(OUT)/00_start_here.ipynb; }
	$(BIN)/python -W ignore docs/pages.py $(OUT) outputs/site
	@echo 'Open outputs/site/index.html.'

tables: .venv/installed ## write the tables and badges of README, docs and notebooks from data/
	$(BIN)/python -W ignore docs/tables.py

# Two at a time, where one does not wait for another: none keeps two cores busy from end to end.
# With a GPU's profile one after another.
reproduce: .venv/installed ## set up .venv and run the notebooks
	@+$(MAKE) --no-print-directory $(if $(filter $(SIMULATED),$(PROFILE)),-j 2) notebooks

notebooks: $(RUNS) ## run the notebooks that are not up to date (PROFILE=, SEED=)
	@echo 'The executed notebooks are in $(OUT).'

# Two processes, a core each. A file's tests stay together: they share what is costly to make.
test: lint ## check the style, then run the tests
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/installed ## check the style: ruff, and notebooks without outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/nbstripout --verify --keep-id $(NOTEBOOKS) || { \
	    echo 'A notebook holds outputs. Strip it: $(BIN)/nbstripout --keep-id NOTEBOOK' >&2; exit 1; }

# Playwright stays out of the lock: it is large, and the tests of `make test` do without.
browser: .venv/installed ## click through the viewer in Chromium, as a page and in JupyterLab
	test -d .venv/browser || $(BIN)/python -m pip install --target .venv/browser playwright
	HF_HUB_OFFLINE=1 PYTHONPATH=.venv/browser $(BIN)/python -m pytest tests/browser

# Ray stays out of the lock: it is large, and has no wheels for the newest Python.
cluster: .venv/installed ## test runs on many machines, with Ray on this one
	$(BIN)/python -m pip install --quiet -e '.[cluster]'
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/cluster
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -W ignore -m tests.cluster.throughput

perf: .venv/installed ## measure speed and memory against slow references, into outputs/perf.csv
	@set -e; for subject in $(filter-out report,$(notdir $(basename $(wildcard tests/perf/*.py)))); do \
	    HF_HUB_OFFLINE=1 $(BIN)/python -W ignore -m tests.perf.$$subject; done

chaos: .venv/installed ## kill, damage and fill up every stage, into data/chaos.csv (SEED=)
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -W ignore -m tests.chaos.run $(SEED)

ablations: .venv/installed ## fill the grid of ablations, a good hour on two cores, and draw it
	HF_HUB_OFFLINE=1 $(BIN)/python -W ignore -m act2see.ablations outputs/pocket/ablations
	cp outputs/pocket/ablations/ablations.csv outputs/pocket/ablations/ablations.json data/pocket/
	$(SETTINGS) $(BIN)/papermill --kernel python3 --cwd . -p figures_folder figures \
	    notebooks/06_ablations.ipynb outputs/pocket/ablations/06_ablations.ipynb

reinforcement: .venv/installed ## run all trials of reinforcement, hours on two cores, and draw them
	HF_HUB_OFFLINE=1 $(BIN)/python -W ignore -m act2see.pocket.trials outputs/pocket/trials
	cp outputs/pocket/trials/reinforcement* data/pocket/
	$(SETTINGS) $(BIN)/papermill --kernel python3 --cwd . -p figures_folder figures \
	    notebooks/07_reinforcement.ipynb outputs/pocket/trials/07_reinforcement.ipynb

adapters: .venv/installed ## train the shipped adapters anew, into act2see/pocket/models/
	@set -e; for profile in pocket imagine; do \
	    HF_HUB_OFFLINE=1 $(BIN)/python -W ignore -m act2see.pocket.making.adapters \
	        $$profile outputs/adapters/$$profile; done
	mkdir -p act2see/pocket/models/adapter act2see/pocket/models/imagine
	cp outputs/adapters/pocket/adapter/* act2see/pocket/models/adapter/
	cp outputs/adapters/imagine/adapter/* act2see/pocket/models/imagine/

picture: .venv/installed ## draw the pictures of the README, into figures/
	HF_HUB_OFFLINE=1 $(BIN)/python -W ignore -m act2see.pocket.making.picture figures
	$(BIN)/python -c 'import json, pandas; from act2see import figures, findings; \
	    table = findings.published_comparisons(pandas.read_csv("data/paper/tables.csv")); \
	    credit = json.load(open("data/paper/sources.json"))["paper"]; \
	    figures.save(figures.published_gains(table, credit), "figures/paper_gains")'

# bitsandbytes has wheels for macOS 14 and newer. All extras at once: what suits all suits each.
platforms: ## ask the index for wheels of all dependencies on other platforms (needs uv)
	@set -e; for platform in aarch64-apple-darwin aarch64-unknown-linux-gnu \
	    x86_64-unknown-linux-gnu x86_64-pc-windows-msvc; do \
	    for version in 3.11 3.12 3.13 3.14; do \
	    for needs in requirements.lock 'pyproject.toml --all-extras'; do \
	    echo "$$platform, Python $$version: $$needs"; \
	    MACOSX_DEPLOYMENT_TARGET=14.0 $(UV) pip compile --quiet --only-binary :all: \
	        --python-platform $$platform --python-version $$version $$needs >/dev/null; \
	    done; done; done

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
	$(BIN)/python -m pip install --no-compile -r requirements.lock
	$(BIN)/python -m pip install --no-deps -e .
	-$(BIN)/python -m pip install --no-deps --target .venv/torchvision torchvision==0.28.0 # one test's
# A kernel listens on this machine alone, and would warn at each start that it does not encrypt.
	@mkdir -p .venv/etc/ipython
	@echo '{"IPKernelApp": {"log_level": 40}}' >.venv/etc/ipython/ipython_kernel_config.json
	@touch $@

# A notebook runs when its code, the package, a shipped model, the profile, the seed or the run
# before it has changed. Contents decide, not dates: opening a notebook and saving it runs nothing.
# NAME.digest is of the run that is there, NAME.now of what is there now: as old as can be if alike.
define COMPARE
import hashlib, json, os, pathlib, sys
now, parameters, *sources = map(pathlib.Path, sys.argv[1:])
digest = hashlib.sha256(str(parameters).encode())
for source in sources:
    content = source.read_bytes()
    if source.suffix == ".ipynb":
        code = [c for c in json.loads(content)["cells"] if c["cell_type"] == "code"]
        content = repr([("".join(c["source"]), c["metadata"].get("tags")) for c in code]).encode()
    digest.update(b"%s %d " % (str(source).encode(), len(content)) + content)
now.parent.mkdir(parents=True, exist_ok=True)
now.write_text(digest.hexdigest())
last = now.with_suffix(".digest")
if last.exists() and last.read_text() == digest.hexdigest():
    os.utime(now, (0, 0))
endef
export COMPARE

# The + compares in `make -n` too: it plans what would run, and no more.
$(RUNS:.ipynb=.now): $(OUT)/%.now: notebooks/%.ipynb $(CODE) $(MODELS) always | .venv/installed
	@+$(PYTHON) -c "$$COMPARE" $@ '$(strip $(call told,$*))' $(filter-out always,$^)
$(OUT)/06_ablations.now: data/pocket/ablations.csv data/pocket/ablations.json
$(OUT)/07_reinforcement.now: $(wildcard data/pocket/reinforcement*)

# A run takes its final name only when it has succeeded: an interrupted one goes on where it stopped.
$(RUNS): $(OUT)/%.ipynb: $(OUT)/%.now | .venv/installed
	@rm -f $(OUT)/$*.failed.ipynb $(OUT)/$*.partial.ipynb $(OUT)/$*.digest
	@echo 'Running notebooks/$*.ipynb'; date +%s > $(OUT)/$*.begin
	@$(SETTINGS) $(BIN)/papermill $(SHOWN) --kernel python3 --cwd . $(call told,$*) \
	    notebooks/$*.ipynb $(OUT)/$*.partial.ipynb || { \
	    mv -f $(OUT)/$*.partial.ipynb $(OUT)/$*.failed.ipynb 2>/dev/null && \
	        echo 'Failed; see $(OUT)/$*.failed.ipynb' >&2; exit 1; }
	@cp $< $(OUT)/$*.digest
	@mv -f $(OUT)/$*.partial.ipynb $@
	@echo "Done: notebooks/$*.ipynb in $$(($$(date +%s) - $$(cat $(OUT)/$*.begin))) s"

$(OUT)/02_similarity_filtering.ipynb: $(OUT)/01_trace_distillation.ipynb
$(OUT)/03_qlora_finetuning.ipynb: $(OUT)/02_similarity_filtering.ipynb
$(OUT)/04_interleaved_inference.ipynb: $(OUT)/03_qlora_finetuning.ipynb
$(OUT)/05_evaluation.ipynb: $(OUT)/03_qlora_finetuning.ipynb
$(OUT)/08_published_benchmarks.ipynb: $(OUT)/03_qlora_finetuning.ipynb
