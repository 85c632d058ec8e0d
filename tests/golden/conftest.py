"""Recorded outputs: what the package gave on the day of recording, for whoever rebuilds its inside.

    pytest tests/golden                           recompute and compare
    pytest tests/golden -k track --record         record again what the chosen tests compute
    pytest tests/golden --whole                   also the tests on all pictures (minutes)

Each test records numbers, compared within a tolerance on every machine, and may add a digest, which
must be equal where processor and libraries are those of the recording. `doors.py` holds every
command, option and import of internals: a change of names ends there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import doors
import numpy as np
import pytest
import torch

RECORDED = Path(__file__).resolve().parent / "recorded"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="golden: write what is computed")
    parser.addoption("--whole", action="store_true", help="golden: also tests that take minutes")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums do not depend on the number of cores."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.fixture
def whole(request: pytest.FixtureRequest) -> None:
    """Skips a test that takes minutes, unless it is asked for."""
    if not request.config.getoption("--whole", default=False):
        pytest.skip("takes minutes: pytest tests/golden --whole")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`golden(name, value, atol=..., exact=...)`: compares with the recording, or records."""
    record = request.config.getoption("--record", default=False)

    def check(
        name: str, value: Any, *, atol: float = 0.0, rtol: float = 0.0, exact: Any = None
    ) -> None:
        path = RECORDED / f"{name}.json"
        found = {"machine": doors.machine(), "digest": None if exact is None else digest(exact)}
        found["value"] = json.loads(json.dumps(value))
        if record:
            path.parent.mkdir(exist_ok=True)
            path.write_text(lines(found), encoding="utf-8")
            return
        assert path.exists(), f"{path.name} is not recorded: pytest tests/golden --record"
        known = json.loads(path.read_text(encoding="utf-8"))
        differences = list(compare(known["value"], found["value"], name, atol, rtol))
        assert not differences, "\n".join(differences[:10])
        if known["machine"] == found["machine"]:
            assert known["digest"] == found["digest"], (
                f"{name}: equal within tolerance, not exactly"
            )

    return check


def compare(known: Any, found: Any, where: str, atol: float, rtol: float) -> Iterator[str]:
    """One line for each difference of two JSON values."""
    if isinstance(known, dict) and isinstance(found, dict):
        for key in sorted(known.keys() ^ found.keys()):
            yield f"{where}: {key!r} is {'missing' if key in known else 'new'}"
        for key in known.keys() & found.keys():
            yield from compare(known[key], found[key], f"{where}.{key}", atol, rtol)
    elif isinstance(known, list) and isinstance(found, list) and len(known) == len(found):
        for index, (one, other) in enumerate(zip(known, found, strict=True)):
            yield from compare(one, other, f"{where}[{index}]", atol, rtol)
    elif isinstance(known, float) and isinstance(found, float):
        if not np.isclose(found, known, atol=atol, rtol=rtol, equal_nan=True):
            yield f"{where}: {found!r}, recorded {known!r}"
    elif type(known) is not type(found) or known != found:
        yield f"{where}: {found!r}, recorded {known!r}"


def lines(found: dict[str, Any]) -> str:
    """JSON with one line for each entry of the value, for readable differences."""
    value = found["value"]
    if isinstance(value, dict):
        rows = [f"  {json.dumps(key)}: {json.dumps(value[key])}" for key in value]
        body = "{\n" + ",\n".join(rows) + "\n }"
    else:
        body = "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in value) + "\n ]"
    head = (
        f'{{\n "machine": {json.dumps(found["machine"])},\n "digest": {json.dumps(found["digest"])}'
    )
    return f'{head},\n "value": {body}\n}}\n'


def digest(value: Any) -> str:
    """Of plain values and arrays; whole numbers count as 64 bits wide, others as 32."""
    total = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, dict):
            for key in sorted(part):
                add(key)
                add(part[key])
        elif isinstance(part, (list, tuple)):
            total.update(f"list {len(part)} ".encode())
            for item in part:
                add(item)
        elif isinstance(part, np.ndarray) and part.dtype.kind in "biuf":
            array = np.ascontiguousarray(part, np.float32 if part.dtype.kind == "f" else np.int64)
            total.update(f"{array.dtype} {array.shape} ".encode())
            total.update((array + 0).tobytes())  # -0.0 is 0.0
        elif isinstance(part, np.ndarray):
            add(part.tolist())
        else:
            total.update(json.dumps(part).encode() + b" ")

    add(value)
    return total.hexdigest()[:16]


@pytest.fixture(scope="session")
def hashed() -> Callable[[Any], str]:
    """`digest`, for tests whose value is one."""
    return digest


@pytest.fixture(scope="session")
def few_people(
    real_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], tuple[Path, Path]]:
    """`few_people(8)`: a COCO file of 8 real people in as many pictures, and their folder."""

    def make(count: int) -> tuple[Path, Path]:
        root = real_data("coco_train_small384")
        content = json.loads((root / "person_keypoints_train_small384.json").read_text())
        chosen: dict[int, dict[str, Any]] = {}
        for annotation in content["annotations"]:
            if annotation["num_keypoints"] > 8 and len(chosen) < count:
                chosen.setdefault(annotation["image_id"], annotation)
        content["annotations"] = list(chosen.values())
        content["images"] = [image for image in content["images"] if image["id"] in chosen]
        path = tmp_path_factory.mktemp("people") / "people.json"
        path.write_text(json.dumps(content))
        return path, root / "images"

    return make
