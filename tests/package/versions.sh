#!/bin/sh
# lowest: every dependency at the lower bound that pyproject.toml names. newest: whatever the registry
# has. Both beside the torch of constraints.txt, the one build without gigabytes of CUDA packages.
set -eu
venv=.venv-$1
test -x "$venv/bin/python" || "${PYTHON:-python3}" -m venv "$venv"
pip="$venv/bin/pip install -q --disable-pip-version-check"
$pip "$(grep '^torch==' constraints.txt)"
if [ "$1" = lowest ]; then
    "$venv/bin/python" - > "$venv/lowest.txt" <<'PYTHON'
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
for name in (*project["dependencies"], *extras["tables"], *extras["hdf5"]):
    if not name.startswith("torch"):
        print(name.replace(">=", "=="))
PYTHON
    $pip -c "$venv/lowest.txt" -e . pandas pyarrow h5py
else
    $pip --upgrade --upgrade-strategy eager -e '.[onnx,tables,hdf5]' "$(grep '^torch==' constraints.txt)"
fi
$pip pytest hypothesis pytest-xdist
"$venv/bin/pip" list --format freeze
OMP_NUM_THREADS=1 "$venv/bin/python" -m pytest -q -p no:cacheprovider ${TESTS:-tests/unit tests/parity tests/properties}
