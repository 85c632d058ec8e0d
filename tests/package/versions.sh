#!/bin/sh
# lowest: every dependency at the lower bound that pyproject.toml names. highest: whatever the registry
# has. Both beside the torch of constraints.txt, the one build without gigabytes of CUDA packages.
set -eu
venv=.venv-$1
test -x "$venv/bin/python" || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install -q --disable-pip-version-check uv
resolution=$([ "$1" = lowest ] && echo lowest-direct || echo highest)
"$venv/bin/uv" pip install --python "$venv/bin/python" --resolution "$resolution" \
    -e '.[dev]' "$(grep '^torch==' constraints.txt)"
"$venv/bin/uv" pip list --python "$venv/bin/python"
OMP_NUM_THREADS=1 "$venv/bin/python" -m pytest -q -p no:cacheprovider ${TESTS:-tests/unit tests/parity tests/properties}
