"""Streams of frames: video files, cameras and pictures in; videos out. Memory does not grow with
the length."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.files import give_name, no_room_behind, read_bytes, visible_partial
from simplepose.core.images import decode_upright, is_still, list_pictures
from simplepose.core.storage import is_remote
from simplepose.core.structures import Frame

CODECS = {
    "vp9": ("VP90", ".webm"),
    "vp8": ("VP80", ".webm"),
    "mp4": ("mp4v", ".mp4"),
    "h264": ("", ".mp4"),
}
"""Codec -> four letters for OpenCV and file ending. Browsers play all but mp4 (MPEG-4 part 2),
which players on the desktop do; vp8 is written some five times slower than mp4, vp9 some twenty
times. H.264 is written by an `ffmpeg` on the path."""
VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
"""A file of such a name is meant to be a video."""
FFMPEG = (
    *("-hide_banner", "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24"),
    *("-video_size", "{size}", "-framerate", "{fps}", "-i", "-", "-c:v", "libx264"),
    *("-preset", "veryfast", "-pix_fmt", "yuv420p", "-f", "mp4", "-movflags", "+faststart"),
)
"""What `ffmpeg` is told: frames from its input, H.264 that every browser plays."""
RETRIES = 100
"""Reads in a row that may fail in the middle of a file before the rest is given up."""
LONGEST_STILL = 600.0
"""Seconds between two frames up to which a clock is believed."""
MPEG4_UNITS = 65535
"""MPEG-4 part 2 counts time in at most so many units a second."""
SECRET = re.compile(r"(?i)((?:pass|pwd|token|secret|key|auth|sig|cred)[a-z_]*=)[^&;#\s]*")
"""What a network address says that nobody else may see, beside the name before its @."""
CODEC_IN_HEADER = (
    # MP4 and MOV: the sample description that follows a video handler
    rb"vide.{0,400}?stsd.{12}(.{4})",
    # AVI: the stream header
    rb"strh.{4}vids(.{4})",
    # Matroska and WebM: CodecID
    rb"\x86.(V_[A-Z0-9/._]+)",
)


class VideoStream:
    """A video file, network stream or camera; iterate over it to get Frames. Portrait videos of
    phones come upright.

    Attributes:
        source: name of the file or camera; of an address without its password.
        fps: frames per second as the file says; 25 where it says nothing sensible.
        frame_count: frames the file promises, 0 where unknown.
        skipped: frames that did not decode so far; after the last frame also those the file
            promised and did not hold.

    Raises:
        UserError: no such file, no camera, or a codec that cannot be decoded (named).
    """

    is_video = True

    def __init__(self, source: str | Path | int) -> None:
        camera = str(source).isdigit()
        self.source = f"camera {source}" if camera else shown_address(str(source))
        if not camera and not is_remote(self.source) and not Path(self.source).is_file():
            raise UserError(f"no such video: {source}. Cure: check the path")
        # OpenCV repeats an address that does not answer, with its password
        with _quiet() if is_remote(self.source) else contextlib.nullcontext():
            self._capture = cv2.VideoCapture(int(str(source)) if camera else str(source))
        if not self._capture.isOpened():
            raise UserError(f"cannot open {self.source}{_why_closed(self.source, camera)}")
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        fps, count = (
            self._capture.get(name) for name in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT)
        )
        self.fps = fps if 0.1 <= fps <= 1000 else 25.0
        self.frame_count = int(count) if not camera and 0 < count < 1e9 else 0
        self.skipped = 0

    def __iter__(self) -> Iterator[Frame]:
        index = failures = 0
        try:
            while not failures or failures <= min(RETRIES, self.frame_count - index):
                ok, image = self._capture.read()
                if not ok:
                    failures += 1
                    continue
                # the stream went on: those were broken frames
                self.skipped, index, failures = self.skipped + failures, index + failures, 0
                seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                seconds = seconds if seconds > 0 else index / self.fps
                cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
                yield Frame(image, self.source, index, seconds)
                index += 1
            self.skipped += max(0, self.frame_count - index)
            if index == 0:
                what, cure = _of_codec(self.source)
                raise UserError(f"{self.source} holds no frame to be decoded ({what}). {cure}")
        finally:
            self._capture.release()


class PictureStream:
    """Picture files as Frames, upright and in their order; a picture that does not decode is
    counted and named, and left out.

    Args:
        paths: files, folders and glob patterns.
        listed: they are what `list_pictures` gave: a folder or a dead link among them is a picture
            that does not decode.
        done: positions of pictures that are left out.

    Attributes:
        fps: 0, pictures have no time.
        frame_count: number of files.
        broken: what was wrong with each picture that did not decode.
    """

    is_video = False
    fps = 0.0

    def __init__(
        self, paths: Sequence[str | Path], *, listed: bool = False, done: Iterable[int] = ()
    ) -> None:
        self.paths = [Path(path) for path in paths] if listed else list_pictures(paths)
        self.source = str(self.paths[0]) if len(self.paths) == 1 else f"{len(self.paths)} pictures"
        self.frame_count = len(self.paths)
        self.broken: list[str] = []
        self.done = frozenset(done)

    @property
    def skipped(self) -> int:
        """Pictures that did not decode so far."""
        return len(self.broken)

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self.paths):
            if index in self.done:
                continue
            try:
                image, orientation = decode_upright(read_bytes(path), str(path))
            except UserError as error:
                self.broken.append(str(error))
            else:
                yield Frame(image, str(path), index, orientation=orientation)


def usual_codec() -> str:
    """A codec that keeps up with the networks: h264 where an `ffmpeg` with it is on the path, else
    mp4."""
    if not (program := shutil.which("ffmpeg")):
        return "mp4"
    asked = subprocess.run(
        [program, "-hide_banner", "-h", "encoder=libx264"], capture_output=True, check=False
    )
    return "h264" if b"Encoder libx264" in asked.stdout else "mp4"


class FfmpegWriter:
    """What OpenCV's VideoWriter does, by an `ffmpeg` of its own session: a Ctrl-C meant for us does
    not end it."""

    def __init__(self, path: Path, fps: float, size_wh: tuple[int, ...]) -> None:
        size = f"{size_wh[0]}x{size_wh[1]}"
        told = [one.format(size=size, fps=fps) for one in FFMPEG]
        self._process = subprocess.Popen(
            [str(shutil.which("ffmpeg")), *told, str(path.absolute())],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def write(self, image: np.ndarray) -> None:
        """Adds a frame, (H, W, 3) uint8 BGR."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(image).data)
        except BrokenPipeError:
            self.release()

    def release(self) -> None:
        """Finishes the file.

        Raises:
            OSError: ffmpeg ended with an error; its last words.
        """
        with contextlib.suppress(BrokenPipeError):
            _, errors = self._process.communicate()
        if self._process.returncode:
            words = errors.decode(errors="replace").splitlines() or ["it was stopped"]
            raise OSError(f"ffmpeg says: {words[-1]}")


def open_stream(source: str | Path | int) -> VideoStream | PictureStream:
    """A video file, camera number or network address, or pictures: a file, a folder or a glob
    pattern.

    Raises:
        UserError: nothing is there.
    """
    path = Path(str(source))
    if is_remote(str(source)):
        return VideoStream(source)
    pattern = re.search(r"[*?\[]", str(source)) and not path.exists()
    if pattern or path.is_dir() or is_still(path):
        return PictureStream([path])
    return VideoStream(source)


def _why_closed(source: str, camera: bool) -> str:
    """The rest of the sentence on a camera, an address or a file that did not open, with its
    cure."""
    if camera or is_remote(source):
        check = "not in use" if camera else "that the address is right"
        return f": nothing answers. Cure: check that it is connected and {check}"
    if not (size := os.path.getsize(source)):
        return ": the file is empty (0 bytes). Cure: copy it again"
    what, cure = _of_codec(source)
    return (
        f" ({size:,} bytes, {what}): it is no video, cut short, or not to be decoded here. {cure}"
    )


def _of_codec(source: str) -> tuple[str, str]:
    """Which codec a file that cannot be decoded names, and the cure."""
    if not os.path.isfile(source):
        return "nothing came", "Cure: check that it sends H.264 or Motion JPEG"
    codec = codec_in_file(source)
    name = f"AV1, {codec!r}" if codec and re.search("av0?1$", codec, re.IGNORECASE) else repr(codec)
    convert = f"convert it to H.264: ffmpeg -i {shlex.quote(source)} -c:v libx264 converted.mp4"
    if codec is None:
        return "no codec is named in it", f"Cure: copy it again, or {convert}"
    return f"codec {name}, perhaps without a decoder in OpenCV here", f"Cure: {convert}"


def shown_address(source: str) -> str:
    """A network address as it may be shown and written: without user, password and keys; anything
    else as it is."""
    scheme, found, rest = source.partition("://")
    if not found:
        return source
    # a password may hold @ and / itself
    rest = SECRET.sub(r"\1***", rest.rpartition("@")[2])
    return f"{scheme}://{rest}"


def stream_name(source: str) -> str:
    """What files of a video are called: its name without ending; of an address that of its path,
    else the host."""
    _, address, rest = shown_address(source).partition("://")
    if not address:
        return Path(source).stem or "video"
    host, _, path = rest.partition("?")[0].partition("/")
    return re.sub(r"[^\w.-]+", "_", Path(path).stem or host) or "video"


def codec_in_file(path: str) -> str | None:
    """The codec that the header of an MP4/MOV, AVI or Matroska/WebM file names, without decoding
    anything."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        content = file.read(1 << 20)
        file.seek(max(0, os.path.getsize(path) - (1 << 20)))
        content += file.read()
    for pattern in CODEC_IN_HEADER:
        if found := re.search(pattern, content, re.DOTALL):
            return found[1].decode("latin-1")
    return None


class VideoWriter:
    """Writes RGB frames to a video. It gets its name when it is closed, also after an interruption:
    what was written so far plays.

    The first frame sets the size; odd sides gain a pixel, frames of another size are fitted in with
    black borders.

    Args:
        path: ends in .webm or .mp4.
        fps: frames per second; for mp4 with as many decimals as the format holds.
        codec: `vp9`, `vp8` (.webm), `mp4` or `h264` (.mp4); by the ending where None: vp9, mp4.

    Raises:
        UserError: another ending, or the file cannot be written.
    """

    def __init__(self, path: str | Path, fps: float, codec: str | None = None) -> None:
        self.path = Path(path)
        codec = codec or {".webm": "vp9", ".mp4": "mp4"}.get(self.path.suffix)
        self.letters, ending = CODECS.get(str(codec), ("", ""))
        if not ending or ending != self.path.suffix:
            raise UserError(
                f"cannot write {path} as {codec or 'a video'}. "
                "Cure: .webm with vp9 or vp8, .mp4 with mp4 or h264"
            )
        if codec == "h264" and not shutil.which("ffmpeg"):
            raise UserError(
                f"cannot write {path} as H.264: there is no ffmpeg on the path. "
                "Cure: install ffmpeg, or take mp4 or vp8"
            )
        self.fps, self.frames = fps if fps > 0 else 25.0, 0
        if codec == "mp4":
            digits = (3, 2, 1, 0)
            fits = (d for d in digits if round(self.fps * 10**d) <= MPEG4_UNITS)
            self.fps = round(self.fps, next(fits, 0)) or self.fps
        self._due, self._seconds = 0.0, float("nan")
        self._partial = visible_partial(self.path)
        self._writer: cv2.VideoWriter | FfmpegWriter | None = None

    def __enter__(self) -> Self:
        return self

    def begin(self, image: np.ndarray) -> None:
        """Opens the file for pictures of this size, (H, W, 3), where it is not open yet."""
        if self._writer is None:
            self._size_wh = tuple(side + side % 2 for side in image.shape[1::-1])
            self._writer = self._open()

    def write(self, image: np.ndarray, seconds: float = float("nan")) -> None:
        """Adds a frame.

        With times a video of variable frame rate keeps its length: the frame before is repeated
        until a late one is due, and one that comes a frame too early is left out.

        Args:
            image: (H, W, 3) uint8 RGB.
            seconds: when it is shown in the video it is from; by default one frame after the last.
        """
        self.begin(image)
        assert self._writer is not None
        if self.frames:
            step = seconds - self._seconds
            self._due += step * self.fps if 0 < step <= LONGEST_STILL else 1
        self._seconds = seconds
        # the times of some files are rounded to milliseconds
        if self._due <= self.frames - 0.75:
            return
        while self._due >= self.frames + 0.75:
            self._add()
        self._last = cv2.cvtColor(fit_into(image, self._size_wh), cv2.COLOR_RGB2BGR)
        self._add()

    def _add(self) -> None:
        assert self._writer is not None
        try:
            self._writer.write(self._last)
        except OSError as error:
            raise self._failed(str(error), "choose another codec, and check the space") from error
        self.frames += 1

    def _open(self) -> cv2.VideoWriter | FfmpegWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch()
        except OSError as error:
            raise self._failed(
                str(error.strerror), "choose a folder that is writable and has space"
            ) from error
        if not self.letters:
            return FfmpegWriter(self._partial, self.fps, self._size_wh)
        with _quiet():
            letters = cv2.VideoWriter.fourcc(*self.letters)
            writer = cv2.VideoWriter(str(self._partial), letters, self.fps, self._size_wh)
        if not writer.isOpened():
            self._partial.unlink(missing_ok=True)
            raise self._failed(f"OpenCV here has no encoder {self.letters}", "choose another codec")
        return writer

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()

    def close(self) -> None:
        """Finishes the file; without a frame there is none."""
        if self._writer is None:
            return
        try:
            self._writer.release()
        except OSError as error:
            self._partial.unlink(missing_ok=True)
            raise self._failed(str(error), "choose another codec, and check the space") from error
        if not (self.frames and self._partial.stat().st_size):
            self._partial.unlink()
            raise self._failed("nothing arrived in the file", "check the space on the disk")
        # OpenCV does not tell of a full disk.
        if problem := no_room_behind(self._partial):
            raise self._failed(
                f"{problem}; what fitted is {self._partial}", "make space, or another folder"
            )
        give_name(self._partial, self.path)

    def _failed(self, why: str, cure: str) -> UserError:
        return UserError(f"cannot write {self.path}: {why}. Cure: {cure}")


def fit_into(image: np.ndarray, size_wh: tuple[int, ...]) -> np.ndarray:
    """The picture at `size_wh`: one missing column or row is repeated, any other size is scaled to
    fit, with black borders."""
    border, missing = cv2.BORDER_REPLICATE, np.subtract(size_wh, image.shape[1::-1])
    if missing.min() < 0 or missing.max() > 1:
        scale = min(np.divide(size_wh, image.shape[1::-1]))
        inner_wh = [max(1, round(side * scale)) for side in image.shape[1::-1]]
        image = cv2.resize(image, inner_wh, interpolation=cv2.INTER_AREA)
        border, missing = cv2.BORDER_CONSTANT, np.subtract(size_wh, inner_wh)
    (left, top), (right, bottom) = missing // 2, missing - missing // 2
    return cv2.copyMakeBorder(image, top, bottom, left, right, border)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps a remark of the video library about .webm tags, which reads like an error, off the
    screen."""
    try:
        saved = os.dup(2)
    except OSError:  # there is no screen
        yield
        return
    with open(os.devnull, "wb") as sink:
        os.dup2(sink.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
