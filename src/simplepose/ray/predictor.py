"""The class that each worker has: addresses of pictures and videos in, rows of poses out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simplepose.core.device import let_threads_sleep, share_cores
from simplepose.core.errors import UserError
from simplepose.core.files import readable
from simplepose.core.images import decode_upright
from simplepose.core.lines import Line, line_of
from simplepose.core.shards import table_of
from simplepose.core.storage import is_remote, read_address, shown
from simplepose.core.structures import Frame, Poses
from simplepose.data.categories import with_flip_pairs
from simplepose.detection.estimator import PoseEstimator
from simplepose.detection.files import BoxFile, read_listing
from simplepose.detection.people import people_source
from simplepose.ray.storage import is_video, local_copy
from simplepose.video.engine import PoseTracker
from simplepose.video.outputs import picture_ids

if TYPE_CHECKING:
    import pyarrow


class PosePredictor:
    """Estimates poses in batches of addresses, for `ray.data.Dataset.map_batches`.

    Args:
        weights: run folder, .safetensors or .onnx file of the pose network; every worker reads it.
        boxes: where people are, as `simplepose predict --boxes`.
        device: of the networks.
        flip_test: average with the mirrored crop.
        flip_pairs: file of left/right pairs, in place of the network's.
        skip_broken: a picture that does not decode becomes a row with `error`; else it ends the
            run.
        numbered: image ids are the numbers in the pictures' names, else their positions.
        people: further arguments of `simplepose.detection.people.people_source`: `annotations`,
            `score_threshold`, `person_class`, `tta`.

    Raises:
        UserError: a file is missing, or is not what it should be.
    """

    def __init__(
        self,
        weights: str,
        boxes: str,
        *,
        device: str = "auto",
        flip_test: bool = True,
        flip_pairs: str = "",
        skip_broken: bool = False,
        numbered: bool = False,
        **people: Any,
    ) -> None:
        let_threads_sleep()
        threads = share_cores()
        self.estimator = PoseEstimator.from_pretrained(
            weights, device=device, flip_test=flip_test, threads=threads
        )
        schema = with_flip_pairs(self.estimator.schema, flip_pairs)
        self.estimator.spec = replace(self.estimator.spec, schema=schema)
        annotations = people.get("annotations")
        self.source = partial(
            people_source,
            boxes,
            **people,
            keypoints=schema.keypoints,
            device=device,
            threads=threads,
        )
        found = self.source()
        self.pictures = PoseTracker(self.estimator, found, track=False)
        self.listing = found if isinstance(found, BoxFile) else None
        if annotations and not self.listing:
            self.listing = read_listing(annotations, schema.keypoints)
        self.skip_broken, self.numbered = skip_broken, numbered

    @cached_property
    def videos(self) -> PoseTracker:
        """As `simplepose track` has it."""
        return PoseTracker(self.estimator, self.source(cut_border=True))

    def __call__(self, batch: Mapping[str, np.ndarray]) -> pyarrow.Table:
        """Poses of a batch.

        Args:
            batch: `path`, addresses of pictures and videos (N,); `frame`, their positions on the
                whole list (N,), which boxes of a file may be looked up by.

        Returns:
            A row a picture, in their order, those that do not decode last, and a row a frame of a
            video; see `core.shards`.

        Raises:
            UserError: a picture does not decode and `skip_broken` is off, a video does not open,
                or a store does not answer.
        """
        return table_of((line, error) for line, error, _ in self.lines(batch))

    def lines(
        self, batch: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[Line, str, tuple[Frame, Poses] | None]]:
        """The lines of a batch; what was wrong with a picture; a picture with its poses."""
        if self.listing and "frame" not in batch:
            raise UserError(
                "boxes of a file belong to positions on a list, and the batch has no column frame. "
                "Cure: add the column `frame`, 0, 1, 2, ... over all pictures"
            )
        places = batch.get("frame", np.zeros(len(batch["path"]), np.int64))
        rows = [(int(place), str(path)) for place, path in zip(places, batch["path"], strict=True)]
        for video, group in itertools.groupby(rows, lambda row: is_video(row[1])):
            if video:
                for _, address in group:
                    yield from self._video(address)
            else:
                yield from self._pictures(list(group))

    def _video(self, address: str) -> Iterator[tuple[Line, str, None]]:
        with local_copy(address) as path:
            for frame, poses in self.videos(path):
                frame = replace(frame, source=shown(address))
                yield line_of(frame, poses, frame.index), "", None

    def _pictures(
        self, rows: list[tuple[int, str]]
    ) -> Iterator[tuple[Line, str, tuple[Frame, Poses] | None]]:
        broken: list[Line] = []
        reasons: list[str] = []
        for frame, poses in self.pictures(self._frames(rows, broken, reasons)):
            line = line_of(frame, poses, self._image_id(frame.index, frame.source))
            yield line, "", (frame, poses)
        yield from ((line, reason, None) for line, reason in zip(broken, reasons, strict=True))

    def _frames(
        self, rows: Iterable[tuple[int, str]], broken: list[Line], reasons: list[str]
    ) -> Iterator[Frame]:
        """The pictures; those that do not decode become `broken` lines with `reasons`."""
        for place, address in rows:
            # a store that does not answer is no broken picture
            content = read_address(address) if is_remote(address) else None
            try:
                content = read_address(address) if content is None else content
                image, orientation = decode_upright(content, shown(address))
            except UserError as error:
                if not self.skip_broken:
                    raise UserError(
                        f"{error}; or go on without such pictures: --skip-broken"
                    ) from error
                source = readable(shown(address))
                image_id = self._image_id(place, source)
                broken.append(Line(place, 0.0, source, image_id, 0, 0, []))
                reasons.append(str(error))
            else:
                yield Frame(image, shown(address), place, orientation=orientation)

    def _image_id(self, place: int, source: str) -> int | str:
        """As `picture_ids` gives it."""
        path = Path(source)
        if self.listing:
            found = self.listing.image_id(path)
            if found == -1 and self.listing.listed:
                return path.name
            return place if found is None else found
        return picture_ids([path], None)[0] if self.numbered else place
