#!/bin/sh
# Runs the tracking measures beside motmetrics and trackeval, in an environment of their own: VENV=.venv sh tests/trackeval/run.sh
set -e
cd "$(dirname "$0")/../.."
own="${VENV:-.venv}-trackeval"
if [ ! -x "$own/bin/pytest" ]; then
  "${PYTHON:-${VENV:-.venv}/bin/python}" -m venv "$own"
  "$own/bin/pip" install --quiet motmetrics==1.4.0 trackeval==1.3.0 scipy msgspec pytest
fi
PYTHONPATH=src exec "$own/bin/python" -m pytest -q -m trackeval -p no:cacheprovider tests/trackeval
