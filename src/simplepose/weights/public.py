"""A small table of public weights and a download that can be resumed and is verified. Nothing is downloaded without being asked for.

Sources of the table: torchvision's and MMPose's model pages (the eight digits in their file names begin the file's sha256: torch.hub's
convention, and MMPose's publish_model.py), Microsoft's README, YOLOX's release 0.1.1rc0. Sizes are given where they are published.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from simplepose import __version__
from simplepose.core.errors import UserError

COCO_DETECTIONS = "val2017, official detections (56.4 AP)"
_CHUNK = 1 << 16
_TIMEOUT_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class PublicWeights:
    """One row of the table."""

    name: str
    """What `simplepose weights get` calls it."""
    url: str
    """Where it is published; a page where it cannot be fetched directly."""
    licence: str
    """Licence its publisher states."""
    sha256: str = ""
    """Whole sha256 or its published beginning; empty where none is published."""
    size_mb: float | None = None
    """Published size in megabytes (MiB); None where none is published."""
    score: str = ""
    """Reported score and what it was measured on."""
    preset: str = ""
    """Preset to import it as; empty for trunks and detectors."""
    by_hand: str = ""
    """How to get it where it cannot be fetched directly; empty otherwise."""

    @property
    def file_name(self) -> str:
        """Name of the downloaded file."""
        return self.url.rsplit("/", 1)[-1]


def _torchvision(
    depth: int, digits: str, size_mb: float, version: int, accuracy: float
) -> PublicWeights:
    return PublicWeights(
        name=f"torchvision-resnet{depth}-v{version}",
        url=f"https://download.pytorch.org/models/resnet{depth}-{digits}.pth",
        licence="BSD-3-Clause",
        sha256=digits,
        size_mb=size_mb,
        score=f"ImageNet acc@1 {accuracy:.2f}",
    )


def _mmpose(depth: int, size: str, file: str, digits: str, ap: float) -> PublicWeights:
    generation = (
        "v1/body_2d_keypoint/topdown_heatmap/coco"
        if file.startswith("td-hm")
        else "top_down/resnet"
    )
    return PublicWeights(
        name=f"mmpose-res{depth}-{size}",
        url=f"https://download.openmmlab.com/mmpose/{generation}/{file}.pth",
        licence="Apache-2.0",
        sha256=digits,
        score=f"AP {ap:.3f}, {COCO_DETECTIONS}",
        preset=f"coco_r{depth}_{size}_ms",
    )


def _microsoft(depth: int, size: str, ap: float) -> PublicWeights:
    return PublicWeights(
        name=f"microsoft-r{depth}-{size}",
        url="https://github.com/microsoft/human-pose-estimation.pytorch",
        licence="MIT (code); models for research purpose",
        score=f"AP {ap:.3f}, {COCO_DETECTIONS}",
        preset=f"coco_r{depth}_{size}_ms",
        by_hand=f"open the OneDrive or Google Drive folder linked in its README and take pose_coco/pose_resnet_{depth}_{size}.pth.tar",
    )


def _yolox(name: str, sha256: str, size_bytes: int | None, ap: float) -> PublicWeights:
    return PublicWeights(
        name=f"yolox-{name}",
        url=f"https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_{name}.onnx",
        licence="Apache-2.0",
        sha256=sha256,
        size_mb=size_bytes / 2**20 if size_bytes else None,
        score=f"COCO box AP {ap:.1f} over 80 classes",
    )


PUBLIC_WEIGHTS = (
    _torchvision(18, "f37072fd", 44.7, 1, 69.758),
    _torchvision(34, "b627a593", 83.3, 1, 73.314),
    _torchvision(50, "0676ba61", 97.8, 1, 76.130),
    _torchvision(50, "11ad3fa6", 97.8, 2, 80.858),
    _torchvision(101, "63fe2227", 170.5, 1, 77.374),
    _torchvision(101, "cd907fc2", 170.5, 2, 81.886),
    _torchvision(152, "394f9c45", 230.4, 1, 78.312),
    _torchvision(152, "f82ba261", 230.5, 2, 82.284),
    _mmpose(
        50, "256x192", "td-hm_res50_8xb64-210e_coco-256x192-04af38ce_20220923", "04af38ce", 0.718
    ),
    _mmpose(
        50, "384x288", "td-hm_res50_8xb64-210e_coco-384x288-7b8db90e_20220923", "7b8db90e", 0.731
    ),
    _mmpose(
        101, "256x192", "td-hm_res101_8xb64-210e_coco-256x192-065d3625_20220926", "065d3625", 0.728
    ),
    _mmpose(101, "384x288", "res101_coco_384x288-8c71bdc9_20200709", "8c71bdc9", 0.749),
    _mmpose(
        152, "256x192", "td-hm_res152_8xb32-210e_coco-256x192-0345f330_20220928", "0345f330", 0.736
    ),
    _mmpose(
        152, "384x288", "td-hm_res152_8xb32-210e_coco-384x288-7fbb906f_20220927", "7fbb906f", 0.750
    ),
    _microsoft(50, "256x192", 0.704),
    _microsoft(50, "384x288", 0.722),
    _microsoft(101, "256x192", 0.714),
    _microsoft(101, "384x288", 0.736),
    _microsoft(152, "256x192", 0.720),
    _microsoft(152, "384x288", 0.743),
    _yolox("nano", "c789161ed43c8269fcd4e67c67eeeb4e80c622da2eb296a20bc6007bd18a0b7d", None, 25.8),
    _yolox(
        "tiny", "427cc366d34e27ff7a03e2899b5e3671425c262ea2291f88bb942bc1cc70b0f7", 20_219_662, 32.8
    ),
    _yolox(
        "s", "c5c2d13e59ae883e6af3b45daea64af4833a4951c92d116ec270d9ddbe998063", 35_858_002, 40.5
    ),
)


def find_public(name: str) -> PublicWeights:
    """The row called `name`.

    Raises:
        UserError: there is none; lists the names.
    """
    for row in PUBLIC_WEIGHTS:
        if row.name == name:
            return row
    raise UserError(
        f"there are no public weights {name!r}. Cure: one of {', '.join(row.name for row in PUBLIC_WEIGHTS)}"
    )


def download(
    row: PublicWeights,
    folder: str | Path,
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """Fetches a file, continuing where an earlier attempt broke off.

    The bytes grow in `NAME.partial` beside the target, which is kept when the connection breaks. The file gets its name only when its
    checksum fits; a file that does not fit is removed.

    Args:
        row: what to fetch.
        folder: where to put it; made where it is missing.
        progress: called with bytes so far and bytes in all (None where the server does not say).

    Returns:
        The file; at once where it is already there and fits.

    Raises:
        UserError: it must be fetched by hand, the connection broke, the server refused, or the checksum does not fit.
    """
    if row.by_hand:
        raise UserError(
            f"{row.name} cannot be fetched directly. Cure: {row.by_hand} ({row.url}), then simplepose import FILE --as {row.preset}"
        )
    target = Path(folder) / row.file_name
    if target.exists():
        _verify(target, row, "is there already, but ")
        return target
    partial = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(row, partial, progress)
    except urllib.error.HTTPError as error:
        raise UserError(
            f"{row.url} answered {error.code} {error.reason}. Cure: try again later, or fetch it with a browser into {target}"
        ) from error
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        ConnectionError,
        TimeoutError,
    ) as error:
        reason = getattr(error, "reason", None) or error
        have = partial.stat().st_size if partial.exists() else 0
        kept = f"; {have} bytes are kept in {partial}" if have else ""
        raise UserError(
            f"the download of {row.url} broke off: {reason}{kept}. Cure: run the command again to go on"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write {partial}: {error.strerror or error}. Cure: choose a folder that is writable and has space"
        ) from error
    _verify(partial, row, "was removed: ", remove=True)
    partial.replace(target)
    return target


def _fetch(
    row: PublicWeights, partial: Path, progress: Callable[[int, int | None], None] | None
) -> None:
    """Appends what is missing to `partial`, or starts again where the server ignores ranges."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(row.url, headers={"User-Agent": f"simplepose/{__version__}"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        # nothing lies behind what we have: either it is whole, or it is wrong and the checksum will tell
        error.close()
        return
    with answer:
        if have and not _continues(answer, have):
            have = 0  # the server sends the whole file
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        with partial.open("ab" if have else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                if progress:
                    progress(have, total)
    if total is not None and have < total:
        raise ConnectionError(f"{have} of {total} bytes arrived")


def _continues(answer: http.client.HTTPResponse, have: int) -> bool:
    """Whether the answer begins at byte `have`."""
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return answer.status == 206 and found is not None and int(found[1]) == have


def _verify(path: Path, row: PublicWeights, clause: str, *, remove: bool = False) -> None:
    """Compares the sha256 with the published one."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest().startswith(row.sha256):
        return
    if remove:
        path.unlink()
    cure = (
        "try again; if it happens twice, the publisher has changed the file"
        if remove
        else "move it away and fetch it again"
    )
    raise UserError(
        f"{path} {clause}its sha256 {digest.hexdigest()[:16]}... is not the published {row.sha256[:16]}... Cure: {cure}"
    )
