"""The page of serve in a browser: a picture chosen, dropped, pasted and filmed; what it draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simplepose.config import ServeConfig
from simplepose.core.lines import header_of
from simplepose.core.schema import COCO_17
from simplepose.core.structures import Frame, Poses

pytest.importorskip("fastapi", reason="simplepose serve needs fastapi (pip install '.[serve]')")
pytest.importorskip("prometheus_client", reason="simplepose serve needs prometheus-client")
from serving import serving

from simplepose.serve.app import create_app

FIGURE = np.array(
    [
        *([50, 12], [53, 10], [47, 10], [56, 12], [44, 12], [62, 26], [38, 26], [68, 42], [32, 42]),
        *([72, 56], [28, 56], [58, 56], [42, 56], [60, 74], [40, 74], [61, 92], [39, 92]),
    ]
)
"""Keypoints in percent of a picture."""
GREY = (128, 128, 128)


def estimate(frames: Sequence[Frame]) -> list[Poses]:
    """A person as large as the picture; nobody in a picture that is higher than wide."""
    found = []
    for frame in frames:
        height, width = frame.image.shape[:2]
        keypoints = FIGURE[None] * [width / 100, height / 100]
        scores = np.linspace(0.3, 0.9, 17)[None]
        box = [[0.2 * width, 0.05 * height, 0.8 * width, 0.95 * height]]
        poses = Poses(keypoints, scores, box, np.ones(1))
        found.append(poses[:0] if height > width else poses)
    return found


@pytest.fixture
def address() -> Iterator[str]:
    header = header_of(COCO_17, weights="<b>runs/first", boxes="whole")
    with serving(create_app(estimate, header, ServeConfig(max_megabytes=1))) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "<img src=x onerror=alert(1)>.png"
    Image.new("RGB", (1200, 900), GREY).save(path)
    return path


def coloured(page: Any) -> int:
    """Pixels of the canvas that are not the picture's grey."""
    script = """() => {
      const view = document.getElementById("view");
      const data = view.getContext("2d").getImageData(0, 0, view.width, view.height).data;
      let count = 0;
      for (let i = 0; i < data.length; i += 4) count += Math.abs(data[i] - 128) + Math.abs(data[i + 2] - 128) > 40;
      return count;
    }"""
    return int(page.evaluate(script))


def said(page: Any, text: str) -> None:
    """Waits until the page says something."""
    page.wait_for_function(
        "text => document.getElementById('said').textContent.includes(text)", arg=text
    )


@pytest.mark.parametrize("dark", [False, True])
def test_a_chosen_picture_is_drawn_on(
    visit: Callable[..., Any], fits: Callable[[Any], None], address: str, photo: Path, dark: bool
) -> None:
    page = visit(address, width=400, dark=dark)
    fits(page)
    assert "<b>runs/first" in page.inner_text("body")
    page.set_input_files("#file", photo)
    said(page, "1 person")
    assert page.evaluate("[view.width, view.height]") == [1200, 900]
    everything = coloured(page)
    assert everything > 5_000
    fits(page)
    # the limbs, coloured as sides; the middle of a limb of the left and of the right
    for a, b, colour in ((5, 7, [242, 169, 59]), (6, 8, [77, 163, 255])):
        x, y = ((FIGURE[a] + FIGURE[b]) / 2 * [12, 9]).round().astype(int).tolist()
        assert page.evaluate(f"[...pen.getImageData({x}, {y}, 1, 1).data]")[:3] == colour
    page.evaluate("at('threshold').value = 0.6; draw()")
    assert 0 < coloured(page) < everything
    page.check("#boxes")
    assert page.evaluate("[...pen.getImageData(240, 450, 1, 1).data]")[:3] == [255, 255, 255]
    page.evaluate("at('threshold').value = 1; draw()")
    page.click("summary")
    fits(page)
    assert f'"source": "{photo.name}"' in page.inner_text("#lines")


def test_dropped_and_pasted(visit: Callable[..., Any], address: str) -> None:
    page = visit(address)
    for event, field in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        page.evaluate(
            """async ([event, field]) => {
              const canvas = new OffscreenCanvas(60, event === "drop" ? 80 : 40);
              canvas.getContext("2d").fillRect(0, 0, 9, 9);
              const files = new DataTransfer();
              files.items.add(new File([await canvas.convertToBlob()], "a.png", {type: "image/png"}));
              const sent = new Event(event, {bubbles: true, cancelable: true});
              sent[field] = files;
              dispatchEvent(sent);
            }""",
            [event, field],
        )
        said(page, "no people" if event == "drop" else "1 person")


def test_the_camera(visit: Callable[..., Any], address: str) -> None:
    page = visit(address)
    page.click("#camera")
    said(page, "1 person")
    assert page.get_attribute("#camera", "aria-pressed") == "true"
    page.wait_for_function("() => turn > 2")
    page.click("#camera")
    assert page.get_attribute("#camera", "aria-pressed") == "false"
    assert page.evaluate("stream") is None and page.inner_text("#camera") == "Camera"


def test_what_is_no_picture_is_said(chromium: Any, address: str, tmp_path: Path) -> None:
    """Not by `visit`: a browser notes each refused request as an error."""
    (tmp_path / "a.png").write_bytes(b"nothing")
    (tmp_path / "large.png").write_bytes(b"x" * 1_200_000)
    context = chromium.new_context()
    page = context.new_page()
    page.goto(address)
    page.set_input_files("#file", tmp_path / "a.png")
    said(page, "a.png is no picture")
    page.set_input_files("#file", tmp_path / "large.png")
    said(page, "more than 1 MB")
    context.close()
