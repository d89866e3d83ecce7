# Everything a person or CI runs. `make` alone lists it.
#
# All of it happens in .venv, which is made from PYTHON and installed in three
# levels, so that only what needs TensorFlow waits for it. Neither the system's
# Python nor the user's own packages are touched or seen.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# With -j, an install would pull the package from under what runs beside it.
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
TICKCELL := $(VENV)/bin/tickcell
PLACE := $(VENV)/.stamp-place
SERVED := $(VENV)/.stamp-served
CHECKED := $(VENV)/.stamp-checked
DEVELOPED := $(VENV)/.stamp-developed
TRAINED := build/drive

# What would send an install elsewhere, or lend it another environment's modules.
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV PIP_PREFIX PIP_ROOT PIP_TARGET
# A test run starts hundreds of processes: what one has compiled, the others take.
unexport PYTHONDONTWRITEBYTECODE
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONNOUSERSITE := 1
# Material says at each build that MkDocs 2 will not run it; pyproject.toml keeps to 1.
export NO_MKDOCS_2_WARNING := 1

# Without build isolation, even what builds the package is of a pinned version.
INSTALL := $(PY) -m pip install --constraint constraints.txt --no-build-isolation
ROOTS := proto server client model tests bench deploy examples docs/_site

# The version of a Python as 3.11; nothing if it does not run.
VERSION_OF = $(shell "$(1)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || :)

# An environment holds the path of its project, and a link to its Python.
HELD := $(shell cat $(PLACE) 2>/dev/null)
ifneq ($(HELD),$(shell pwd -P) on $(call VERSION_OF,$(PY)))
$(PLACE): remade
else ifneq ($(origin PYTHON),file)
ifneq ($(call VERSION_OF,$(PYTHON)),$(call VERSION_OF,$(PY)))
$(PLACE): remade
endif
endif

.PHONY: help run test test-fast coverage check site prove chaos fuzz cluster cluster-demo serve train bundle bench pictures proto compatible clean remade

help:  ## List what can be made
	@echo "tickcell: streaming, stateful inference for recurrent networks"
	@echo
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1	\2/p' Makefile | expand -t 22
	@echo
	@echo "All of it happens in $(VENV), made from Python 3.11 to 3.14; name one: make PYTHON=python3.12 run"

run: $(SERVED)  ## Show the promise: serve, replay, kill the server midway, and compare
	$(TICKCELL) demo

serve: $(SERVED)  ## Serve the shipped model on localhost:50061
	$(TICKCELL) serve

# Most tests wait for servers, so two processors run more than two at once; a file's tests stay
# together, since they share what is dear. PROCESSES=0 runs them one after the other.
PROCESSES ?= 4
SIDE_BY_SIDE := --numprocesses $(PROCESSES) --dist loadfile

test: $(DEVELOPED)  ## Run the tests, in PROCESSES=4; what was left out is said at the end
	$(PY) -m pytest -rs $(SIDE_BY_SIDE)

test-fast: $(CHECKED)  ## Run the tests of one process without TensorFlow, in under a minute
	$(PY) -m pytest --fast --numprocesses $(PROCESSES) --dist load

coverage: $(DEVELOPED)  ## Run the tests and say which lines and branches they reach, by FLAGS='tests/client'
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest -rs $(SIDE_BY_SIDE) $(FLAGS)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage html --quiet --directory build/coverage
	$(PY) -m coverage report

check: $(CHECKED)  ## Check format, lint, types, what is generated, and the documentation's links
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy $(ROOTS)
	$(PY) -m mypy --platform win32 --cache-dir .mypy_cache/win32 -p tickcell.client -p tickcell.wire
	$(PY) -m pytest --quiet tests/test_generated_code.py
	$(PY) -m mkdocs build --strict

site: $(CHECKED)  ## Build the documentation into build/site, strictly
	$(PY) -m mkdocs build --strict

prove: $(DEVELOPED)  ## Run the long proofs that the tests have in short
	$(PY) -m pytest -rs -m slow

chaos: $(DEVELOPED)  ## Kill and cut parts of a cluster under load; by CHAOS_STREAMS=100, …_SECONDS=60, …_SESSIONS=200
	$(PY) -m pytest -m "slow or not slow" -rsP --show-capture=stdout tests/chaos

cluster: $(DEVELOPED)  ## Run PostgreSQL with two standbys, three replicas, Envoy and Prometheus
	$(PY) -m deploy.cluster

cluster-demo: $(DEVELOPED)  ## Show the promise on a cluster: kill its parts, and compare
	$(PY) -m deploy.cluster --demo

FUZZ := $(foreach each,MESSAGES SEED COURSE,$(if $($(each)),--$(shell echo $(each) | tr A-Z a-z) $($(each))))
fuzz: $(DEVELOPED)  ## Send a million hostile messages; or MESSAGES=1000, by SEED=7, of SCENE='with callers'
	PYTHONPATH=tests $(PY) -m fuzz $(FUZZ) $(if $(SCENE),--scene "$(SCENE)")

train: $(DEVELOPED)  ## Train the shipped model again, on simulated drives, into build/drive
	rm -rf $(TRAINED)
	$(TICKCELL) train --data drive --out $(TRAINED)

bundle: $(DEVELOPED)  ## Make the shipped bundle of build/drive
	$(TICKCELL) export $(TRAINED)/model.keras --golden drive --gate drive --replace \
	  --out model/tickcell/model/bundles/drive

bench: $(DEVELOPED)  ## Measure each aim of docs/performance.md, in minutes
	$(PY) -m bench

pictures: $(DEVELOPED)  ## Draw the README's picture again
	$(TICKCELL) agent --seconds 60 --plot docs/agent.png

proto: $(CHECKED)  ## Generate the code of the wire contract and its reference again
	$(PY) proto/generate.py
	$(PY) proto/reference.py

compatible: $(CHECKED)  ## Compare the wire contract with SINCE, such as SINCE=v1.0.0
	@test -n "$(SINCE)" || { echo "name a revision: make compatible SINCE=v1.0.0" >&2; exit 1; }
	$(PY) proto/compatible.py $(SINCE)

clean:  ## Remove the environment, caches and builds
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
	find $(ROOTS) -name __pycache__ -prune -exec rm -rf {} +

$(PLACE):
	@"$(PYTHON)" -c '' 2>/dev/null || { \
	  echo "tickcell needs Python 3.11 to 3.14, and $(PYTHON) does not run." \
	    "On Debian or Ubuntu: apt-get install python3 python3-venv"; exit 1; } >&2
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || { \
	  echo "tickcell needs Python 3.11 to 3.14, and $(PYTHON) is $(call VERSION_OF,$(PYTHON))." \
	    "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; } >&2
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make an environment of its own." \
	    "On Debian or Ubuntu: apt-get install python$(call VERSION_OF,$(PYTHON))-venv"; exit 1; } >&2
	"$(PYTHON)" -m venv --clear $(VENV)
	@echo "$$(pwd -P) on $$($(PY) -c 'import sys; print("%d.%d" % sys.version_info[:2])')" > $@

$(SERVED): $(PLACE) pyproject.toml constraints.txt
	$(INSTALL) hatchling
	$(INSTALL) --editable '.[server]'
	@touch $@

$(CHECKED): $(SERVED)
	$(INSTALL) --editable '.[server,plot,dev]'
	@touch $@

$(DEVELOPED): $(CHECKED)
	@$(PY) -c 'import sys; sys.exit(sys.version_info[:2] > (3, 13))' || { \
	  echo "TensorFlow has no release for Python $(call VERSION_OF,$(PY)); name an older one:" \
	    "make PYTHON=python3.13 $(MAKECMDGOALS)"; exit 1; } >&2
	$(INSTALL) --editable '.[server,train,plot,dev]'
	@touch $@
