"""Streams in and out: what is written is read back, and every kind of broken input has its answer."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.core.images import write_image
from simplepose.video.streams import (
    LONGEST_STILL,
    PictureStream,
    VideoStream,
    VideoWriter,
    codec_in_file,
    fit_into,
    open_stream,
    shown_address,
    stream_name,
    usual_codec,
)


def picture(value: int, width: int = 64, height: int = 48) -> np.ndarray:
    image = np.full((height, width, 3), 40, np.uint8)
    image[: height // 2, : width // 2] = (value, 0, 255 - value)
    return image


def save(path: Path, frames: int = 5, width: int = 64, height: int = 48, fps: float = 10) -> Path:
    with VideoWriter(path, fps) as writer:
        for index in range(frames):
            writer.write(picture(40 * index, width, height))
    return path


@pytest.mark.parametrize("ending", [".webm", ".mp4"])
@pytest.mark.parametrize(("width", "height"), [(64, 48), (63, 47), (17, 90)])
def test_what_is_written_is_read_back(tmp_path: Path, ending: str, width: int, height: int) -> None:
    stream = open_stream(save(tmp_path / f"a{ending}", 5, width, height))
    assert stream.fps == pytest.approx(10) and stream.is_video
    frames = list(stream)
    assert [frame.index for frame in frames] == list(range(5)) and stream.skipped == 0
    np.testing.assert_allclose(
        [frame.seconds for frame in frames], [0, 0.1, 0.2, 0.3, 0.4], atol=1e-3
    )
    for index, frame in enumerate(frames):
        assert frame.image.shape == (height + height % 2, width + width % 2, 3)  # padded to even
        np.testing.assert_allclose(
            frame.image[4:16, 2:6].mean((0, 1)), [40 * index, 0, 255 - 40 * index], atol=25
        )  # RGB, not BGR
    assert [path.name for path in tmp_path.iterdir()] == [f"a{ending}"]


@pytest.mark.parametrize(
    ("fps", "held"),
    [
        (119.937, 119.94),
        (239.762, 239.76),
        (240.001, 240),
        (999.57, 999.6),
        (30000 / 1001, 29.97),
        (60000 / 1001, 59.94),
        (0.333, 0.333),
    ],
)
def test_frame_rates_that_mpeg4_cannot_hold_are_rounded(
    tmp_path: Path, fps: float, held: float
) -> None:
    stream = open_stream(save(tmp_path / "a.mp4", 3, fps=fps))
    assert stream.fps == pytest.approx(held, abs=1e-3) and len(list(stream)) == 3


def shown(path: Path) -> list[int]:
    """Which of the frames that `picture` drew each frame shows."""
    return [round(frame.image[4:16, 2:6, 0].mean() / 40) for frame in open_stream(path)]


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        # constant, from any beginning, rounded or with a frame that did not decode
        ([0, 0.1, 0.2, 0.3], [0, 1, 2, 3]),
        ([7, 7.1, 7.2, 7.3], [0, 1, 2, 3]),
        ([0, 0.134, 0.166, 0.3], [0, 1, 2, 3]),
        ([0, 0.1, 0.3, 0.4], [0, 1, 1, 2, 3]),
        # slower, faster
        ([0, 0.1, 0.6, 0.7], [0, 1, 1, 1, 1, 1, 2, 3]),
        ([0, 0.02, 0.04, 0.06, 0.08, 0.1], [0, 2]),
        # a clock that stands, goes back or leaps says nothing
        ([0, 0, 0], [0, 1, 2]),
        ([5, 5.1, 0, 0.1], [0, 1, 2, 3]),
        ([0, 0.1, 2 * LONGEST_STILL, 2 * LONGEST_STILL + 0.1], [0, 1, 2, 3]),
        ([float("nan")] * 3, [0, 1, 2]),
    ],
)
def test_a_variable_frame_rate_keeps_its_length(
    tmp_path: Path, times: list[float], wanted: list[int]
) -> None:
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        for index, seconds in enumerate(times):
            writer.write(picture(40 * index), seconds)
    assert shown(tmp_path / "a.mp4") == wanted and writer.frames == len(wanted)


def test_times_of_a_long_video_do_not_drift(tmp_path: Path) -> None:
    """Times in milliseconds, one frame a time: each is written once."""
    with VideoWriter(tmp_path / "a.mp4", 119.937) as writer:
        for index in range(500):
            writer.write(picture(0), round(index / 119.937, 3))
    assert writer.frames == 500


def test_vp8_and_a_wrong_pair_of_codec_and_ending(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.webm", 10, "vp8") as writer:
        writer.write(picture(0))
    assert codec_in_file(str(tmp_path / "a.webm")) == "V_VP8"
    for name, codec in (("a.avi", None), ("a.mp4", "vp9"), ("a.webm", "mp4"), ("a.webm", "h264")):
        with pytest.raises(UserError, match=name):
            VideoWriter(tmp_path / name, 10, codec)


FAKE = """#!{python}
import sys
if "-h" in sys.argv:
    print({answer!r})
else:
    content = sys.stdin.buffer.read({most})
    if {most} >= 0:
        sys.exit("no space")
    open(sys.argv[-1], "wb").write(" ".join(sys.argv).encode() + b"|" + content)
"""


def fake_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str, most: int = -1) -> None:
    """A program of that name alone on the path; with `most` it ends after so many bytes."""
    folder.mkdir()
    program = folder / "ffmpeg"
    program.write_text(FAKE.format(python=sys.executable, answer=answer, most=most))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_h264_goes_through_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ffmpeg(tmp_path / "bin", monkeypatch, "Encoder libx264 [H.264]")
    assert usual_codec() == "h264"
    with VideoWriter(tmp_path / "-a.mp4", 12.5, "h264") as writer:
        writer.write(picture(0))
        writer.write(picture(250))
    command, content = (tmp_path / "-a.mp4").read_bytes().split(b"|", 1)
    height, width = picture(0).shape[:2]
    assert f"-video_size {width}x{height} -framerate 12.5".encode() in command
    assert content == b"".join(picture(level)[..., ::-1].tobytes() for level in (0, 250))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["-a.mp4", "bin"]


def test_an_ffmpeg_that_fails_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_ffmpeg(tmp_path / "bin", monkeypatch, "", most=10)
    assert usual_codec() == "mp4"  # it has no such encoder
    with (
        pytest.raises(UserError, match=r"a\.mp4.*ffmpeg says: no space"),
        VideoWriter(tmp_path / "a.mp4", 10, "h264") as writer,
    ):
        for _ in range(100):
            writer.write(np.zeros((200, 300, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_without_ffmpeg_the_usual_codec_is_mp4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert usual_codec() == "mp4"
    with pytest.raises(UserError, match=r"a\.mp4.*no ffmpeg"):
        VideoWriter(tmp_path / "a.mp4", 10, "h264")


def test_an_interruption_leaves_a_video_that_plays(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "a.webm", 10) as writer:
        for index in range(5):
            writer.write(picture(40 * index))
            if index == 2:
                raise KeyboardInterrupt
    assert len(list(open_stream(tmp_path / "a.webm"))) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a.webm"]


def test_no_frame_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.webm", 10):
        pass
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"file/a\.webm"),
        VideoWriter(tmp_path / "file" / "a.webm", 10) as writer,
    ):
        writer.write(picture(0))


@pytest.mark.parametrize(
    ("size", "shape"), [((64, 48), (48, 64, 3)), ((66, 48), (48, 66, 3)), ((30, 90), (90, 30, 3))]
)
def test_fit_into(size, shape) -> None:
    assert fit_into(picture(200), size).shape == shape


def test_frames_of_another_size_are_fitted_in(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        for width, height in ((64, 48), (32, 24), (20, 90)):
            writer.write(picture(200, width, height))
    assert {frame.image.shape for frame in open_stream(tmp_path / "a.mp4")} == {(48, 64, 3)}


# broken input


def test_no_such_video(tmp_path: Path) -> None:
    for name in ("none.mp4", "none.webm"):
        with pytest.raises(UserError, match=name):
            open_stream(tmp_path / name)
    with pytest.raises(UserError, match=r"none\.jpg"):
        open_stream(tmp_path / "none.jpg")


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(UserError, match="camera 97"):
        open_stream(97)


@pytest.mark.parametrize(
    ("address", "name", "secrets"),
    [
        ("rtsp://admin:Geheim@10.0.0.5:554/live/ch1.sdp", "ch1", ["admin", "Geheim"]),
        ("rtsp://admin:Ge@he/im@10.0.0.5:554", "10.0.0.5_554", ["Ge@", "he/", "im@"]),
        ("http://cam/video.mjpg?user=a&password=Geheim&x=1", "video", ["Geheim"]),
        ("https://host/a/index.m3u8?access_token=Ge.heim", "index", ["heim"]),
        ("rtsp://10.0.0.5/user=admin_password=Geheim_channel=1", None, ["Geheim"]),
        ("http://host/", "host", []),
    ],
)
def test_passwords_of_addresses_are_not_shown(
    address: str, name: str | None, secrets: list[str]
) -> None:
    for text in (shown_address(address), stream_name(address)):
        assert text and not any(secret in text for secret in secrets)
    assert shown_address(address).startswith(address.partition("://")[0] + "://")
    assert "/" not in stream_name(address)
    if name:
        assert stream_name(address) == name


@pytest.mark.parametrize("source", ["a/b@c.mp4", "pass=1.mp4", "0"])
def test_files_and_cameras_keep_their_names(source: str) -> None:
    assert shown_address(source) == source
    assert stream_name(source) == Path(source).stem


def test_a_camera_that_does_not_answer_keeps_its_password(capfd) -> None:
    """Neither the error nor OpenCV's own words tell it."""
    with pytest.raises(UserError) as caught:
        open_stream("rtsp://admin:Geheim@127.0.0.1:9/live?token=Wort")
    told = str(caught.value) + "".join(capfd.readouterr())
    assert "127.0.0.1:9/live" in told and "Geheim" not in told and "Wort" not in told


def test_av1_is_named_with_the_cure(tmp_path: Path) -> None:
    path = save(tmp_path / "a b.mp4")
    path.write_bytes(path.read_bytes().replace(b"mp4v", b"av01").replace(b"esds", b"free"))
    with pytest.raises(UserError) as caught:
        list(open_stream(path))
    assert "AV1" in caught.value.problem and "av01" in caught.value.problem
    assert f"ffmpeg -i '{path}'" in caught.value.cure


def test_an_unknown_codec_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mp4")
    assert codec_in_file(str(path)) == "mp4v"
    path.write_bytes(path.read_bytes().replace(b"mp4v", b"zzz9").replace(b"esds", b"free"))
    with pytest.raises(UserError, match="zzz9"):
        list(open_stream(path))


@pytest.mark.parametrize("content", [b"", b"this is no video" * 100])
def test_a_file_that_is_no_video(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.mp4"):
        list(open_stream(tmp_path / "a.mp4"))


def test_a_video_without_frames(tmp_path: Path) -> None:
    """An AVI whose frames were never written."""
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    writer.release()
    with pytest.raises(UserError, match=r"a\.avi"):
        list(open_stream(tmp_path / "a.avi"))


def motion_jpeg(path: Path, frames: int = 10) -> tuple[Path, list[int]]:
    """An AVI of independent JPEG frames, and where each begins."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for index in range(frames):
        writer.write(picture(20 * index))
    writer.release()
    content, places, at = path.read_bytes(), [], 0
    while (at := content.find(b"\xff\xd8\xff", at)) >= 0:
        places.append(at)
        at += 3
    return path, places


def test_a_frame_that_does_not_decode_is_counted_and_skipped(tmp_path: Path) -> None:
    path, places = motion_jpeg(tmp_path / "a.avi")
    assert len(places) == 10
    content = bytearray(path.read_bytes())
    content[places[4] : places[5] - 8] = bytes(places[5] - 8 - places[4])
    path.write_bytes(content)
    stream = open_stream(path)
    assert len(list(stream)) == 9 and stream.skipped == 1


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    path, places = motion_jpeg(tmp_path / "a.avi")
    path.write_bytes(path.read_bytes()[: places[6] - 8])
    stream = open_stream(path)
    frames = len(list(stream))
    assert 5 <= frames <= 6 and stream.frame_count in (0, frames, 10)


def test_a_portrait_phone_video_comes_upright(tmp_path: Path) -> None:
    """The rotation flag of phones is the matrix of the track header; 90 degrees clockwise here."""
    path = save(tmp_path / "a.mp4")
    content = path.read_bytes()
    identity = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    header = content.find(b"tkhd")
    at = content.find(identity, header)
    assert 0 < at - header < 60
    turned = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 48 << 16, 0, 0x40000000)
    path.write_bytes(content[:at] + turned + content[at + len(turned) :])
    (frame, *_) = open_stream(path)
    assert frame.image.shape == (64, 48, 3)
    assert (
        frame.image[8, 40, 2] > 200 and frame.image[8, 8, 2] < 90
    )  # the top left corner went to the top right


# pictures


def test_pictures_of_a_folder_and_a_pattern(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "c.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("")
        else:
            write_image(tmp_path / name, picture(0))
    stream = open_stream(tmp_path)
    assert isinstance(stream, PictureStream) and not stream.is_video
    assert [(frame.index, Path(frame.source).name) for frame in stream] == [
        (0, "a.jpg"),
        (1, "b.png"),
    ]
    assert [Path(frame.source).name for frame in open_stream(f"{tmp_path}/*.png")] == ["b.png"]
    assert [Path(frame.source).name for frame in open_stream(tmp_path / "a.jpg")] == ["a.jpg"]


def test_a_broken_picture_is_counted_and_named(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", picture(0))
    (tmp_path / "b.png").write_bytes(b"")
    stream = PictureStream([tmp_path])
    assert len(list(stream)) == 1 and stream.skipped == 1 and "b.png" in stream.broken[0]


def test_a_real_video(real_data) -> None:
    stream = VideoStream(real_data("videos_and_media") / "one-by-one-person-detection.mp4")
    assert (stream.fps, stream.frame_count) == (10.0, 1394)
    frame = next(iter(stream))
    assert frame.image.shape == (432, 768, 3)


def test_a_missing_encoder_is_the_error_that_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed:
        """What OpenCV gives where it cannot encode."""

        fourcc = staticmethod(lambda *_: 0)

        def __init__(self, *_: object) -> None:
            pass

        def isOpened(self) -> bool:
            return False

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoWriter", Closed)
    with pytest.raises(UserError, match=r"encoder"), VideoWriter(tmp_path / "a.webm", 10) as writer:
        writer.write(np.zeros((20, 20, 3), np.uint8))
    assert not list(tmp_path.iterdir())
