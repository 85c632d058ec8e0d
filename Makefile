# make demo, make test, make lint: each sets up .venv by itself.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
WORKERS ?= 2
export OMP_NUM_THREADS ?= 2

.PHONY: demo test lint test-tensorflow test-trackeval clean

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

test-tensorflow: $(READY)
	VENV=$(VENV) sh tests/tensorflow/run.sh

test-trackeval: $(READY)
	VENV=$(VENV) sh tests/trackeval/run.sh

clean:
	rm -rf $(VENV) $(VENV)-tensorflow $(VENV)-trackeval demo .pytest_cache .ruff_cache .mypy_cache .hypothesis
