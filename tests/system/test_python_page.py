"""The page about Python runs as it stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_onnx import save_network

from simplepose.core.images import read_image, write_image

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("onnxruntime")
    save_network(tmp_path / "net.onnx")
    write_image(tmp_path / "photo.jpg", np.full((240, 230, 3), 90, np.uint8))
    monkeypatch.chdir(tmp_path)
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    exec(compile(code.replace("runs/NAME", "net.onnx"), str(PAGE), "exec"), {})
    assert len(pandas.read_csv("keypoints.csv")) == 2 * 17
    assert read_image("left_wrist.png").shape == (48, 32, 3)
    sheet = read_image("heatmaps.png")
    assert (
        sheet.shape[1] > 2 * 192 and (np.ptp(sheet.astype(int), axis=2) > 60).any()
    )  # the maps' violet to yellow
