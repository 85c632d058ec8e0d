"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


# Under nohup a hang-up is ignored, here and in every process that a test starts: tests of it would
# prove nothing.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it


def real_data_root() -> Path:
    """The folder of real test data: SIMPLEPOSE_TEST_DATA, or ../shared/data beside the checkout."""
    return Path(os.environ.get("SIMPLEPOSE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of tests/fuzz."""
    parser.addoption("--fuzz-seconds", type=float, default=0, help="0: a few files a format")
    parser.addoption("--fuzz-seed", type=int, default=0, help="other damage")
    parser.addoption("--fuzz-keep", default="", help="folder for files that fail")


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """`real_data("coco_val2017_visible150")`: a path of the real data, or the test is skipped with one sentence."""

    def find(name: str) -> Path:
        path = real_data_root() / name
        if not path.exists():
            pytest.skip(
                f"real data {name} not found below {real_data_root()} (set SIMPLEPOSE_TEST_DATA)"
            )
        if path.suffix == ".onnx" and "ultralight" in name:
            # older ones refuse the shapes of its batch norm
            pytest.importorskip("onnxruntime", minversion="1.31")
        return path

    return find
