"""Streams of frames: video files, cameras and pictures in; videos out. Memory does not grow with the length."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.files import partial_name, read_bytes
from simplepose.core.images import PICTURE_ENDINGS, decode_image, list_pictures, orientation_of
from simplepose.core.structures import Frame

CODECS = {"vp9": ("VP90", ".webm"), "vp8": ("VP80", ".webm"), "mp4": ("mp4v", ".mp4")}
"""Codec -> four letters and file ending. Browsers play vp9 and vp8; vp8 is written some five times faster than vp9; mp4 (MPEG-4 part 2)
is the fastest and for players on the desktop."""
RETRIES = 100
"""Reads in a row that may fail in the middle of a file before the rest is given up."""


class VideoStream:
    """A video file, network stream or camera; iterate over it to get Frames. Portrait videos of phones come upright.

    Attributes:
        source: name of the file or camera.
        fps: frames per second as the file says; 25 where it says nothing sensible.
        frame_count: frames the file promises, 0 where unknown.
        skipped: frames that did not decode so far; after the last frame also those the file promised and did not hold.

    Raises:
        UserError: no such file, no camera, or a codec that cannot be decoded (named).
    """

    is_video = True

    def __init__(self, source: str | Path | int) -> None:
        camera = isinstance(source, int) or str(source).isdigit()
        self.source = f"camera {source}" if camera else str(source)
        if not camera and "://" not in self.source and not Path(self.source).is_file():
            raise UserError(f"no such video: {source}. Cure: check the path")
        self._capture = (
            cv2.VideoCapture(int(str(source))) if camera else cv2.VideoCapture(self.source)
        )
        if not self._capture.isOpened():
            raise UserError(
                f"cannot open {self.source}{_why_closed(None if camera else self.source)}"
            )
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        fps, count = (
            self._capture.get(cv2.CAP_PROP_FPS),
            self._capture.get(cv2.CAP_PROP_FRAME_COUNT),
        )
        self.fps = float(fps) if np.isfinite(fps) and 0.1 <= fps <= 1000 else 25.0
        self.frame_count = (
            int(count) if not camera and np.isfinite(count) and 0 < count < 1e9 else 0
        )
        self.skipped = 0

    def __iter__(self) -> Iterator[Frame]:
        index = failures = 0
        try:
            while True:
                ok, image = self._capture.read()
                if not ok:
                    if index + failures >= self.frame_count or failures >= RETRIES:
                        break
                    failures += 1
                    continue
                if failures:  # the stream went on: those were broken frames
                    self.skipped, index, failures = self.skipped + failures, index + failures, 0
                seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                seconds = seconds if seconds > 0 else index / self.fps
                yield Frame(
                    cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), self.source, index, seconds
                )
                index += 1
            self.skipped += max(0, self.frame_count - index)
            if index == 0:
                codec = codec_in_file(self.source)
                raise UserError(
                    f"{self.source} holds no frame that can be decoded{f' (codec {codec!r})' if codec else ''}. Cure: check the file"
                )
        finally:
            self._capture.release()


class PictureStream:
    """Picture files as Frames, upright and in their order; a picture that does not decode is counted and named, and left out.

    Args:
        paths: files, folders and glob patterns.
        listed: they are what `list_pictures` gave: a folder or a dead link among them is a picture that does not decode.

    Attributes:
        fps: 0, pictures have no time.
        frame_count: number of files.
        skipped: pictures that did not decode.
        broken: what was wrong with each of them.
    """

    is_video = False
    fps = 0.0

    def __init__(self, paths: Sequence[str | Path], *, listed: bool = False) -> None:
        self.paths = [Path(path) for path in paths] if listed else list_pictures(paths)
        self.source = str(self.paths[0]) if len(self.paths) == 1 else f"{len(self.paths)} pictures"
        self.frame_count = len(self.paths)
        self.skipped = 0
        self.broken: list[str] = []

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self.paths):
            try:
                content = read_bytes(path)
                image = decode_image(content, str(path), upright=True)
            except UserError as error:
                self.skipped += 1
                self.broken.append(str(error))
                continue
            yield Frame(image, str(path), index, orientation=orientation_of(content))


def open_stream(source: str | Path | int) -> VideoStream | PictureStream:
    """A video file, camera number or network address, or pictures: a file, a folder or a glob pattern.

    Raises:
        UserError: nothing is there.
    """
    path = Path(str(source))
    pattern = not path.exists() and re.search(r"[*?\[]", str(source))
    if (
        path.is_dir()
        or path.suffix.lower() in PICTURE_ENDINGS
        or (pattern and "://" not in str(source))
    ):
        return PictureStream([path])
    return VideoStream(source)


def _why_closed(path: str | None) -> str:
    """The rest of the sentence on a camera (None), an address or a file that did not open, with its cure."""
    if path is None or "://" in path:
        return f": nothing answers. Cure: check that it is connected and {'not in use' if path is None else 'that the address is right'}"
    size, codec = os.path.getsize(path), codec_in_file(path)
    if not size:
        return ": the file is empty (0 bytes). Cure: copy it again"
    if codec is None:
        return f" ({size:,} bytes): it is no video or is cut short, no codec is named in it. Cure: copy it again, or choose another file"
    return (
        f" (codec {codec!r}, {size:,} bytes): it is cut short, or there is no decoder for it here. Cure: copy it again, or convert it, for "
        "example to H.264 in MP4"
    )


def codec_in_file(path: str) -> str | None:
    """The codec that the header of an MP4/MOV, AVI or Matroska/WebM file names, without decoding anything."""
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 20)
            file.seek(max(0, os.path.getsize(path) - (1 << 20)))
            content = head + file.read()
    except OSError:
        return None
    for pattern in (
        rb"vide.{0,400}?stsd.{12}(.{4})",  # the sample description that follows a video handler
        rb"strh.{4}vids(.{4})",  # AVI stream header
        rb"\x86.(V_[A-Z0-9/._]+)",  # Matroska CodecID
    ):
        found = re.search(pattern, content, re.DOTALL)
        if found:
            return found[1].decode("latin-1")
    return None


class VideoWriter:
    """Writes RGB frames to a video. It gets its name when it is closed, also after an interruption: what was written so far plays.

    The first frame sets the size; odd sides gain a pixel, frames of another size are fitted in with black borders.

    Args:
        path: ends in .webm or .mp4.
        fps: frames per second.
        codec: `vp9`, `vp8` (.webm) or `mp4` (.mp4); by the ending where None, vp9 for .webm.

    Raises:
        UserError: another ending, or the file cannot be written.
    """

    def __init__(self, path: str | Path, fps: float, codec: str | None = None) -> None:
        self.path = Path(path)
        codec = codec or {".webm": "vp9", ".mp4": "mp4"}.get(self.path.suffix.lower(), "")
        if codec not in CODECS or CODECS[codec][1] != self.path.suffix.lower():
            raise UserError(
                f"cannot write {path} as {codec or 'a video'}. Cure: .webm with vp9 or vp8, .mp4 with mp4"
            )
        self.letters, self.fps = CODECS[codec][0], fps if fps > 0 else 25.0
        self.frames = 0
        self._partial = partial_name(self.path)
        self._writer: cv2.VideoWriter | None = None
        self._size_wh = (0, 0)

    def write(self, image: np.ndarray) -> None:
        """(H, W, 3) uint8 RGB."""
        if self._writer is None:
            self._open(image)
        fitted = fit_into(image, self._size_wh)
        self._writer.write(cv2.cvtColor(fitted, cv2.COLOR_RGB2BGR))  # type: ignore[union-attr]
        self.frames += 1

    def _open(self, image: np.ndarray) -> None:
        self._size_wh = (image.shape[1] + image.shape[1] % 2, image.shape[0] + image.shape[0] % 2)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch()
        except OSError as error:
            raise UserError(
                f"cannot write {self.path}: {error.strerror}. Cure: choose a folder that is writable and has space"
            ) from error
        with _quiet():
            self._writer = cv2.VideoWriter(
                str(self._partial), cv2.VideoWriter.fourcc(*self.letters), self.fps, self._size_wh
            )
        if not self._writer.isOpened():
            self._partial.unlink(missing_ok=True)
            self._writer = None  # `close` has nothing to finish
            raise UserError(
                f"cannot write {self.path}: OpenCV here has no encoder {self.letters}. Cure: choose another codec"
            )

    def close(self) -> None:
        """Finishes the file; without a frame there is none."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.release()
        if self.frames and self._partial.stat().st_size > 0:
            os.replace(self._partial, self.path)
        else:
            self._partial.unlink(missing_ok=True)
            raise UserError(
                f"cannot write {self.path}: nothing arrived in the file. Cure: check the space on the disk"
            )

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def fit_into(image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """The picture at `size_wh`: one missing column or row is repeated, any other size is scaled to fit, with black borders."""
    (width, height), (h, w) = size_wh, image.shape[:2]
    if 0 <= width - w <= 1 and 0 <= height - h <= 1:
        return (
            cv2.copyMakeBorder(image, 0, height - h, 0, width - w, cv2.BORDER_REPLICATE)
            if (w, h) != size_wh
            else image
        )
    scale = min(width / w, height / h)
    inner = cv2.resize(
        image,
        (max(1, min(width, round(w * scale))), max(1, min(height, round(h * scale)))),
        interpolation=cv2.INTER_AREA,
    )
    left, top = (width - inner.shape[1]) // 2, (height - inner.shape[0]) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return canvas


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps a remark of the video library about .webm tags, which reads like an error, off the screen."""
    saved: Any = None
    with contextlib.suppress(OSError):
        saved = os.dup(2)
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 2)
        os.close(sink)
    try:
        yield
    finally:
        if saved is not None:
            os.dup2(saved, 2)
            os.close(saved)
