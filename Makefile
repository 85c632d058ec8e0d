# make demo, test, lint, test-package, site: each sets up its own environment.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
WORKERS ?= 2
export OMP_NUM_THREADS ?= 2

.PHONY: demo test lint site test-package test-lowest test-highest test-ray test-tensorflow test-trackeval clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'simplepose needs Python 3.11 or newer, this is ' + sys.version.split()[0])"
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -c constraints.txt torch -e '.[dev]'
	touch $@

demo: $(READY)
	$(VENV)/bin/simplepose demo --output demo

test: $(READY)
	$(VENV)/bin/ruff check src tests benchmarks
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n $(WORKERS) --dist loadfile

lint: $(READY)
	$(VENV)/bin/ruff check src tests benchmarks
	$(VENV)/bin/ruff format --check src tests benchmarks
	$(VENV)/bin/mypy

test-package: $(READY)
	VENV=$(VENV) sh tests/package/run.sh

test-ray: $(READY)
	$(VENV)/bin/pip install -q --disable-pip-version-check -c constraints.txt -e '.[ray]'
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest tests/ray_data

site:
	test -x $(VENV)-site/bin/zensical || $(PYTHON) -m venv $(VENV)-site
	$(VENV)-site/bin/pip install -q --disable-pip-version-check -c constraints.txt zensical mkdocstrings-python
	$(VENV)-site/bin/zensical build --strict

test-lowest test-highest: test-%:
	PYTHON=$(PYTHON) sh tests/package/versions.sh $*

test-tensorflow: $(READY)
	VENV=$(VENV) sh tests/tensorflow/run.sh

test-trackeval: $(READY)
	VENV=$(VENV) sh tests/trackeval/run.sh

clean:
	rm -rf $(VENV) $(VENV)-* build demo .cache .pytest_cache .ruff_cache .mypy_cache .hypothesis
