"""The first pose: predict and track with nothing but a picture or a video, names in place of paths, addresses, and what is said when there is nothing to see."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from tiny_onnx import save_network

from simplepose.cli import main
from simplepose.commands import networks
from simplepose.core.images import read_image, write_image
from simplepose.core.lines import read_header, read_lines
from simplepose.core.structures import People
from simplepose.video.streams import VideoWriter
from simplepose.video.window import Window

PICTURE = np.random.default_rng(0).integers(0, 256, (96, 72, 3), np.uint8)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder and an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_image("photo.png", PICTURE)
    return tmp_path


@pytest.fixture
def one_person(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector in the place of the default one."""
    monkeypatch.setattr(networks, "default_boxes", lambda schema: "somebody")
    found = People([[4, 4, 60, 90]], [0.9])
    monkeypatch.setattr(networks, "people_source", lambda *_, **__: lambda image: found)


def film(path: Path, frames: int = 3) -> Path:
    with VideoWriter(path, 10) as writer:
        for _ in range(frames):
            writer.write(PICTURE)
    return path


def test_predict_with_nothing_but_a_photo(
    one_person: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "photo.png"]) == 0
    said = capsys.readouterr()
    assert "pose network: starter, detector: somebody" in said.err
    assert "simplepose weights get people" in said.err and "1 people in 1 pictures" in said.out
    header = read_header("predictions/poses.jsonl")
    assert (header.weights, header.boxes) == ("starter", "somebody")
    (line,) = read_lines("predictions/poses.jsonl")
    assert line.people[0].bbox == (4, 4, 56, 86) and len(line.people[0].keypoints) == 17


def test_a_video_is_handed_to_track(
    one_person: None, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film(here / "clip.webm")
    assert main(["predict", "clip.webm", "--keypoint-threshold", "0"]) == 0
    said = capsys.readouterr()
    assert "clip.webm is a video" in said.err and "3 frames: " in said.out
    assert len(list((here / "tracked" / "clip").glob("clip.*"))) == 1
    assert main(["predict", "clip.webm", "--skip-broken"]) == 2
    assert "--skip-broken is for pictures" in capsys.readouterr().err
    assert main(["predict", "clip.webm", "photo.png"]) == 2
    assert "simplepose track clip.webm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("people", "threshold", "sentence"),
    [
        (People.empty(), "0.2", "nobody was found"),
        (People([[4, 4, 60, 90]], [0.9]), "1", "no keypoint has a score of 1 or more"),
    ],
)
def test_a_run_with_nothing_to_see_says_so(
    people: People,
    threshold: str,
    sentence: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("onnxruntime")
    film(here / "clip.webm")
    save_network(here / "net.onnx")
    monkeypatch.setattr(networks, "people_source", lambda *_, **__: lambda image: people)
    for command in (["predict", "photo.png"], ["track", "clip.webm", "--video-codec", "none"]):
        words = [*command, "--weights", "net.onnx", "--boxes", "d.onnx"]
        words += ["--keypoint-threshold", threshold]
        assert main(words) == 0
        assert sentence in capsys.readouterr().err


def test_names_that_were_not_fetched_are_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for option, name in (("--boxes", "yolox-s"), ("--weights", "mmpose-res50-256x192")):
        assert main(["predict", "photo.png", option, name]) == 2
        error = capsys.readouterr().err
        assert "Apache-2.0" in error and error.endswith(f"simplepose weights get {name}\n")


def test_a_hub_network_without_the_package_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    assert main(["predict", "photo.png", "--weights", "hf:me/mine"]) == 2
    assert "simplepose[hub]" in capsys.readouterr().err


def test_boxes_and_scores_are_drawn_on_request(here: Path) -> None:
    pytest.importorskip("onnxruntime")
    save_network(here / "net.onnx")
    command = ["predict", "photo.png", "--weights", "net.onnx", "--boxes", "whole"]
    for name, words in (("plain", []), ("both", ["--draw", "boxes,scores"])):
        assert main([*command, "--output", name, *words]) == 0
    plain, both = (read_image(f"{name}/photo.jpg") for name in ("plain", "both"))
    assert (plain[-2:] != both[-2:]).any()  # the box is the whole picture


def test_other_drawings_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "photo.png", "--draw", "hats"]) == 2
    assert "--draw is hats" in capsys.readouterr().err


@pytest.fixture
def server(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (here / "page.html").write_text("<html>")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


def test_a_picture_of_the_network(
    one_person: None, server: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", f"{server}/photo.png?token=secret"]) == 0
    said = capsys.readouterr()
    assert "token=***" in said.err and "secret" not in said.err
    assert (here / "predictions" / "photo.jpg").exists()
    assert (here / "cache" / "simplepose" / "pictures" / "photo.png").exists()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("{}/gone.png", "404"),
        ("{}/page.html", "is no picture"),
        ("http://127.0.0.1:9/a.png", "cannot be fetched"),
        ("file:///etc/passwd", "no http address"),
        ("rtsp://camera/a", "no http address"),
    ],
)
def test_other_addresses_are_one_sentence(
    address: str, sentence: str, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", address.format(server)]) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Cure: " in error and "Traceback" not in error


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """An OpenCV with windows; q is pressed at the second frame."""
    shown: list[np.ndarray] = []
    monkeypatch.setattr("cv2.getBuildInformation", lambda: "  GUI:   QT5\n")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("cv2.imshow", lambda title, image: shown.append(image))
    monkeypatch.setattr("cv2.waitKey", lambda wait: ord("q") if len(shown) == 2 else -1)
    monkeypatch.setattr("cv2.getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr("cv2.destroyAllWindows", lambda: None)
    return shown


def test_show_opens_a_window_until_q(
    one_person: None, here: Path, screen: list[np.ndarray]
) -> None:
    film(here / "clip.webm", frames=6)
    assert main(["track", "clip.webm", "--show", "--video-codec", "none", "--output", "out"]) == 0
    assert len(screen) == 2 and screen[0].shape == PICTURE.shape
    assert len(list(read_lines("out/poses.jsonl"))) == 2


def test_show_without_windows_or_screen_is_one_sentence(
    here: Path,
    screen: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    film(here / "clip.webm")
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["track", "clip.webm", "--show"]) == 2
    assert "--show needs a screen" in capsys.readouterr().err
    monkeypatch.setattr("cv2.getBuildInformation", lambda: "  GUI:   NONE\n")
    assert main(["track", "clip.webm", "--show"]) == 2
    assert "pip install opencv-python\n" in capsys.readouterr().err
    assert not (here / "tracked").exists() and Window.__doc__


def test_the_list_of_weights_fits_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    (row,) = [line for line in lines if line.startswith("  mmpose-res50-256x192")]
    assert "130 MiB" in row and "Apache-2.0" in row and "0.718" in row
    assert any(line.startswith("  starter ") for line in lines)
