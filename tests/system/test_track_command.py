"""`simplepose track` from the command line to the files, with a tiny network made on the spot, and on the real video where there is one."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from tiny_onnx import save_network

from simplepose.cli import main
from simplepose.core.errors import UserError
from simplepose.core.images import write_image
from simplepose.core.lines import read_lines
from simplepose.video.streams import VideoWriter, open_stream

pytest.importorskip("onnxruntime")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Twelve frames of odd size in which a bright box walks, with a file of its boxes."""
    boxes = []
    with VideoWriter(tmp_path / "film.mp4", 10) as writer:
        for index in range(12):
            image = np.random.default_rng(0).integers(0, 60, (91, 161, 3)).astype(np.uint8)
            image[20:80, 20 + 3 * index : 60 + 3 * index] = 220
            writer.write(image)
            boxes.append(
                {
                    "image_id": index,
                    "category_id": 1,
                    "bbox": [20 + 3 * index, 20, 40, 60],
                    "score": 0.9,
                }
            )
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    save_network(tmp_path / "net.onnx")
    return tmp_path


def track(folder: Path, *more: str, boxes: str = "boxes.json", video: str = "film.mp4") -> int:
    arguments = [
        "track",
        str(folder / video),
        "--weights",
        str(folder / "net.onnx"),
        "--output",
        str(folder / "out"),
    ]
    return main([*arguments, *(["--boxes", str(folder / boxes)] if boxes else []), *more])


def test_all_outputs(film: Path, capsys) -> None:
    assert (
        track(
            film,
            "--posetrack",
            "--table",
            "csv",
            "--fill-gaps",
            "3",
            "--smooth-after",
            "1",
            "--smooth",
            "--detect-every",
            "2",
        )
        == 0
    )
    out = film / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "film.mp4",
        "poses.csv",
        "poses.jsonl",
        "posetrack",
        "results.json",
    ]
    lines = list(read_lines(out / "poses.jsonl"))
    assert [line.frame for line in lines] == list(range(12))
    assert {tuple(line.poses.track_ids.tolist()) for line in lines[1:]} == {
        (1,)
    }  # the id comes with the second sighting
    assert {row["track_id"] for row in json.loads((out / "results.json").read_text())} == {1}
    stream = open_stream(out / "film.mp4")
    images = [frame.image for frame in stream]
    assert len(images) == 12 and images[0].shape == (92, 162, 3)
    assert "1 identities" in capsys.readouterr().out


def test_an_output_folder_that_exists_is_refused_and_kept(film: Path, capsys) -> None:
    (film / "out").mkdir()
    (film / "out" / "mine.txt").write_text("mine")
    assert track(film, "--video-codec", "none") == 2
    assert "--overwrite" in capsys.readouterr().err and os.listdir(film / "out") == ["mine.txt"]
    assert track(film, "--video-codec", "none", "--overwrite") == 0
    assert (film / "out" / "mine.txt").read_text() == "mine" and (
        film / "out" / "poses.jsonl"
    ).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": "none.onnx"}, "no such file"),
        ({"boxes": "net.onnx"}, "another layout"),
        ({"video": "none.mp4"}, "no such video"),
        ({"video": "boxes.json"}, "it is no video"),
        ({"video": "empty.mp4"}, "the file is empty (0 bytes)"),
        ({"video": "half.mp4"}, "cut short"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    film: Path, capsys, change, message: str
) -> None:
    (film / "empty.mp4").write_bytes(b"")
    (film / "half.mp4").write_bytes((film / "film.mp4").read_bytes()[:2000])
    assert track(film, **change) == 2
    error = capsys.readouterr().err
    assert message in error and "Cure:" in error and "Traceback" not in error
    assert not (film / "out").exists()


def test_ground_truth_has_its_own_words(film: Path, capsys) -> None:
    assert track(film, "--boxes", "gt", boxes="") == 2
    error = capsys.readouterr().err
    assert "--boxes FILE.json" in error and "--annotations" not in error


def test_a_posetrack_file_that_cannot_be_scored_is_said(film: Path, capsys) -> None:
    assert track(film, "--video-codec", "none", "--posetrack") == 0
    assert (
        "lacks PoseTrack's keypoints head_bottom, head_top: simplepose score"
        in capsys.readouterr().err
    )
    assert track(film, "--video-codec", "none", "--overwrite") == 0
    assert "PoseTrack" not in capsys.readouterr().err


def save_pictures(film: Path) -> None:
    for frame in open_stream(film / "film.mp4"):
        write_image(film / "pictures" / f"{frame.index}.png", frame.image)


def test_pictures_are_estimated_but_not_followed(film: Path) -> None:
    save_pictures(film)
    assert track(film, "--video-codec", "none", "--posetrack", video="pictures") == 0
    lines = list(read_lines(film / "out" / "poses.jsonl"))
    assert len(lines) == 12 and all(
        len(line.poses) == 1 and line.poses.track_ids is None for line in lines
    )
    rows = json.loads((film / "out" / "posetrack" / "pictures.json").read_text())["annotations"]
    assert len(rows) == 12 and not any("track_id" in row for row in rows)


def test_boxes_that_are_on_no_frame_are_said(film: Path, capsys) -> None:
    (film / "far.json").write_text(
        json.dumps([{"image_id": 900, "bbox": [1, 2, 30, 40], "score": 0.9}])
    )
    save_pictures(film)
    for video in ("film.mp4", "pictures"):
        assert (
            track(film, "--video-codec", "none", "--overwrite", boxes="far.json", video=video) == 0
        )
        error = capsys.readouterr().err
        assert "boxes left out: 1 are of other pictures; none is used" in error
    assert track(film, "--video-codec", "none", "--overwrite") == 0
    assert "note" not in capsys.readouterr().err


def test_a_name_that_is_not_utf8_loses_nothing(film: Path) -> None:
    folder = os.fsdecode(os.fsencode(film) + b"/caf\xe9")
    write_image(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png"), np.zeros((90, 60, 3), np.uint8))
    assert (
        track(
            film, "--video-codec", "none", "--posetrack", "--boxes", "whole", boxes="", video=folder
        )
        == 0
    )
    assert [Path(line.source).name for line in read_lines(film / "out" / "poses.jsonl")] == [
        "caf\\xe9.png"
    ]
    (posetrack,) = (film / "out" / "posetrack").iterdir()
    assert (
        json.loads(posetrack.read_bytes())["images"][0]["file_name"] == "images/caf\\xe9/000000.jpg"
    )


@pytest.mark.parametrize("codec", ["vp8", "mp4"])
def test_the_video_is_never_written_over(film: Path, capsys, codec: str) -> None:
    name = "film.webm" if codec == "vp8" else "film.mp4"
    if codec == "vp8":
        (film / name).write_bytes((film / "film.mp4").read_bytes())
    before = (film / name).read_bytes()
    assert (
        track(film, "--overwrite", "--output", str(film), "--video-codec", codec, video=name) == 2
    )
    assert f"{name} is read" in capsys.readouterr().err
    assert (film / name).read_bytes() == before and not (film / "poses.jsonl").exists()


@pytest.mark.parametrize(
    ("more", "video", "message"),
    [
        (["--smooth-after", "1"], "pictures", "are not followed"),
        (["--smooth"], "pictures", "are not followed"),
        (["--fill-gaps", "1"], "pictures", "are not followed"),
        (["--smooth-after", "-1"], "film.mp4", "--smooth-after is -1. Cure: "),
        (["--smooth-after", "nan"], "film.mp4", "--smooth-after is nan"),
        (["--smooth-after", "inf"], "film.mp4", "--smooth-after is inf"),
        (["--fill-gaps", "-1"], "film.mp4", "--fill-gaps is -1. Cure: "),
        (["--frames", "-1"], "film.mp4", "--frames is -1. Cure: "),
        (["--batch-frames", "-1"], "film.mp4", "--batch-frames is -1. Cure: "),
        (["--detect-every", "0"], "film.mp4", "--detect-every is 0. Cure: "),
        (["--keep-frames", "-1"], "film.mp4", "--keep-frames is -1. Cure: "),
        (["--box-threshold", "nan"], "film.mp4", "--box-threshold is nan. Cure: "),
        (["--keypoint-threshold", "-1"], "film.mp4", "--keypoint-threshold is -1. Cure: "),
        (["--table", "parquet"], "film.mp4", "needs the package 'pyarrow'"),
    ],
)
def test_options_that_cannot_work_are_refused_before_the_first_frame(
    film: Path, capsys, monkeypatch, more, video: str, message: str
) -> None:
    if video == "pictures":
        save_pictures(film)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert track(film, *more, video=video) == 2
    error = capsys.readouterr().err
    assert message in error and "Cure:" in error and not (film / "out").exists()


def break_the_video(monkeypatch, frame: int) -> None:
    """The annotated video cannot be written from that frame on."""
    whole = VideoWriter.write

    def write(self: VideoWriter, image: np.ndarray, seconds: float) -> None:
        if self.frames == frame:
            raise UserError("the encoder gave up. Cure: none")
        whole(self, image, seconds)

    monkeypatch.setattr(VideoWriter, "write", write)


def test_an_error_leaves_everything_up_to_it(film: Path, capsys, monkeypatch) -> None:
    break_the_video(monkeypatch, frame=5)
    assert track(film, "--table", "csv") == 2
    error = capsys.readouterr().err
    assert "the encoder gave up" in error and "stopped after 6" in error
    assert len(list(read_lines(film / "out" / "poses.jsonl"))) == 6
    assert {row["image_id"] for row in json.loads((film / "out" / "results.json").read_text())} == {
        1,
        2,
        3,
        4,
        5,
    }
    assert sorted(path.name for path in (film / "out").iterdir()) == [
        "film.mp4",
        "poses.csv",
        "poses.jsonl",
        "results.json",
    ]


def test_an_error_at_once_leaves_the_old_files(film: Path, capsys, monkeypatch) -> None:
    assert track(film, "--video-codec", "vp8") == 0
    before = {path.name: path.read_bytes() for path in (film / "out").iterdir()}

    def no_encoder(self: VideoWriter, image: np.ndarray) -> None:
        raise UserError("the encoder gave up. Cure: none")

    monkeypatch.setattr(VideoWriter, "begin", no_encoder)
    assert track(film, "--video-codec", "vp8", "--overwrite") == 2
    error = capsys.readouterr().err
    assert "the encoder gave up" in error and "stopped after" not in error
    assert {path.name: path.read_bytes() for path in (film / "out").iterdir()} == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_video_that_plays_and_whole_lines(
    film: Path, number: int, status: int
) -> None:
    """A long film; the signal comes once the first frames are out."""
    with VideoWriter(film / "long.mp4", 10) as writer:
        for index in range(1500):
            writer.write(np.full((240, 320, 3), index % 200, np.uint8))
    command = [
        sys.executable,
        "-m",
        "simplepose",
        "track",
        str(film / "long.mp4"),
        "--weights",
        str(film / "net.onnx"),
    ]
    command += ["--boxes", "whole", "--output", str(film / "out"), "--video-codec", "vp8"]
    # A runner in the background may ignore Ctrl-C, and children inherit that.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **heard)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any(
        path.stat().st_size > 20_000 for path in film.glob("out/poses.partial.jsonl")
    ):
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == status and "Traceback" not in error
    lines = list(read_lines(film / "out" / "poses.jsonl"))
    frames = sum(1 for _ in open_stream(film / "out" / "long.webm"))
    assert 0 < len(lines) < 1500 and abs(frames - len(lines)) <= 1
    rows = json.loads((film / "out" / "results.json").read_text())
    assert len(rows) == sum(len(line.people) for line in lines)
    assert not list(film.glob("out/.*")) + list(film.glob("out/*partial*"))


def test_a_real_clip_has_one_id_for_one_person(real_data, tmp_path: Path) -> None:
    """The first person of the real video, who walks in from below: 110 frames, one identity."""
    code = main(
        [
            "track",
            str(real_data("videos_and_media") / "one-by-one-person-detection.mp4"),
            *("--weights", str(real_data("weights_ultralight_simplepose") / "deploy.onnx")),
            *("--boxes", str(real_data("weights_person_detectors") / "yolox_nano.onnx")),
            *("--output", str(tmp_path / "out"), "--frames", "110", "--video-codec", "none"),
        ]
    )
    assert code == 0
    lines = list(read_lines(tmp_path / "out" / "poses.jsonl"))
    ids = {
        track_id
        for line in lines
        if line.poses.track_ids is not None
        for track_id in line.poses.track_ids.tolist()
    }
    assert len(lines) == 110 and ids == {1}
    assert sum(len(line.poses) for line in lines[70:]) >= 38


def test_a_video_of_variable_frame_rate_keeps_its_length(film: Path) -> None:
    """Six frames at ten a second, the last three after two seconds: the annotated video waits."""
    path = film / "phone.webm"
    with VideoWriter(path, 10, "vp8") as writer:
        for index in range(6):
            writer.write(np.full((48, 64, 3), 40 * index, np.uint8))
    content = path.read_bytes()
    for index in range(3, 6):
        # a block: track 1, then its time in milliseconds
        before, after = (struct.pack(">BH", 0x81, 100 * index + late) for late in (0, 2000))
        assert content.count(before) == 1
        content = content.replace(before, after)
    path.write_bytes(content)
    times = [0, 0.1, 0.2, 2.3, 2.4, 2.5]
    assert [frame.seconds for frame in open_stream(path)] == pytest.approx(times)
    assert track(film, "--video-codec", "mp4", video="phone.webm", boxes="boxes.json") == 0
    assert [line.seconds for line in read_lines(film / "out" / "poses.jsonl")] == times
    drawn = open_stream(film / "out" / "phone.mp4")
    last = list(drawn)[-1]
    assert (last.index + 1) / drawn.fps == pytest.approx(2.6, abs=1.5 / drawn.fps)
    assert last.image.mean() > 180


def test_an_address_keeps_its_password(film: Path, monkeypatch, capfd) -> None:
    """Neither names, files nor messages tell it, whether or not the address answers."""
    secrets = ("Geheim", "Wort", "wache")
    with VideoWriter(film / "live.webm", 10, "vp8") as writer:
        for index in range(3):
            writer.write(np.full((48, 64, 3), 40 * index, np.uint8))
    monkeypatch.chdir(film)
    server = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    where = f"wache:Geheim@127.0.0.1:{server.server_port}"
    command = ["--weights", "net.onnx", "--boxes", "boxes.json"]
    try:
        assert main(["track", f"http://{where}/live.webm?token=Wort", *command]) == 0
        assert main(["track", f"http://{where}/none.jpg?token=Wort", *command]) == 2
        assert main(["predict", f"http://{where}/live.webm?token=Wort", *command]) == 2
    finally:
        server.shutdown()
        server.server_close()
    told = capfd.readouterr()
    # the server's own record of requests is on the screen too
    lines = [line for line in (told.out + told.err).splitlines() if "HTTP/1." not in line]
    written = [path for path in (film / "tracked").rglob("*")]
    assert {path.name for path in written} >= {"live", "live.mp4", "poses.jsonl"}
    lines += [str(path) for path in written]
    lines += [path.read_text("latin-1") for path in written if path.is_file()]
    assert not any(secret in line for secret in secrets for line in lines)
    assert [line.source for line in read_lines(film / "tracked" / "live" / "poses.jsonl")]
