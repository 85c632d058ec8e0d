#!/bin/sh
# What a user installs: builds the source archive and from it the wheel, installs the wheel beside
# the dependencies of $VENV, and uses both outside the clone.
set -eu
. "${VENV:-.venv}/bin/activate"
out=$PWD/build/package
rm -rf "$out"
mkdir -p "$out"
python -m build --outdir "$out" . > "$out.log" 2>&1 || { cat "$out.log"; exit 1; }

# A venv with the wheel, which sees the installed dependencies but not the clone.
python -m venv --without-pip "$out/venv"
python -m pip --python "$out/venv/bin/python" install -q --no-deps --no-index --disable-pip-version-check "$out"/*.whl
purelib=$("$out/venv/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
python -c "import sys; print(*(p for p in sys.path if 'packages' in p), sep='\n')" > "$purelib/dependencies.pth"
deactivate
unset PYTHONPATH || true
PATH=$out/venv/bin:$PATH

tar -xzf "$out"/*.tar.gz -C "$out"
cd "$out"/simplepose-*/
python -c "import simplepose; assert 'package/venv' in simplepose.__file__, simplepose.__file__"
python -m simplepose version
# The archive is whole: every test is found, and these run from it with the wheel.
python -m pytest --collect-only -q -p no:cacheprovider > "$out/collected.log" || { tail -20 "$out/collected.log"; exit 1; }
python -m pytest -q -p no:cacheprovider tests/package tests/unit/core tests/unit/test_options.py
