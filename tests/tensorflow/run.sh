#!/bin/sh
# Makes an environment with tensorflow-cpu (large) beside the project's own and runs this folder's tests.
# VENV: the project's environment; TENSORFLOW_VENV: TensorFlow's.
set -eu
cd "$(dirname "$0")/../.."
VENV="${VENV:-.venv}"
TENSORFLOW_VENV="${TENSORFLOW_VENV:-.venv-tensorflow}"
if [ ! -x "$TENSORFLOW_VENV/bin/python" ]; then
    "$VENV/bin/python" -m venv "$TENSORFLOW_VENV"
fi
"$TENSORFLOW_VENV/bin/python" -c "import tensorflow" 2>/dev/null || "$TENSORFLOW_VENV/bin/python" -m pip install --quiet "tensorflow-cpu>=2.15,<3"
SIMPLEPOSE_TENSORFLOW_PYTHON="$TENSORFLOW_VENV/bin/python" "$VENV/bin/python" -m pytest tests/tensorflow -s "$@"
