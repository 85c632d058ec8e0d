"""What goes into a pack: each person's region, its resolution, and an estimate of the whole."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from simplepose.config import AugmentConfig
from simplepose.core.errors import UserError
from simplepose.core.images import read_image
from simplepose.data.annotations import Annotations
from simplepose.data.pack import FORMAT, annotations_hash, stored_sizes
from simplepose.data.picture_sizes import with_picture_sizes
from simplepose.data.regions import person_views

SAMPLE = 24
"""Pictures that are packed for the estimate."""
MEMBER_OVERHEAD = 160
"""Bytes of headers and table a member costs, about."""


@dataclass(frozen=True, slots=True)
class PackPlan:
    """What is going to be packed."""

    people: Annotations
    """N trainable people."""
    regions: np.ndarray
    """(N, 4) part of the picture of each; at least one pixel."""
    stored_wh: np.ndarray
    """(N, 2) size it is stored in."""
    settings: dict[str, Any]
    """Member `plan.json`: annotation file, its hash, margins, resolution, quality, format."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What packing will cost, from a sample of pictures."""

    bytes: int
    """Size of the zip."""
    core_seconds: float
    """Processor time."""


def plan_pack(
    people: Annotations,
    augment: AugmentConfig,
    input_size_wh: tuple[int, int],
    *,
    udp: bool = False,
    quality: int = 90,
    full_colour: bool = False,
) -> PackPlan:
    """Decides each person's region, all that the augmentation can show of the picture, and the resolution that its closest view can use.

    Args:
        people: trainable people.
        augment: random changes of the training.
        input_size_wh: size of the crop.
        udp: unit convention, see `simplepose.pose.geometry`.
        quality: of the JPEGs, 1 to 100.
        full_colour: keep colour at full resolution (4:4:4), not at half as most photographs do (4:2:0).

    Raises:
        UserError: nobody to pack, a quality that there is not, or an annotation file that is gone.
    """
    if not len(people):
        raise UserError(
            f"{people.source} has no person to train on. Cure: annotate keypoints with visibility 1 or 2"
        )
    people = with_picture_sizes(
        people, skip_broken=True
    )  # the broken ones are reported when they are packed
    rotation = 2 * augment.rotation_degrees if augment.rotation_probability else 0.0
    margins = (
        f"scale up to {1 + augment.scale_factor:g}, rotation up to {rotation:g} degrees, half body {'yes' if augment.half_body_probability else 'no'}, "
        f"shift up to {augment.shift_factor:g}, aspect {input_size_wh[0]}:{input_size_wh[1]}"
    )
    if not 1 <= quality <= 100:
        raise UserError(
            f"JPEG quality {quality} is outside 1 to 100. Cure: --quality 90, or 95 for a larger pack"
        )
    regions, ratios = person_views(people, augment, input_size_wh, udp=udp)
    beside = np.where(ratios < 1, np.ceil(1 / ratios), 0).astype(np.int64)[
        :, None
    ]  # a stored pixel more, to interpolate with
    low, high = (
        np.maximum(regions[:, :2] - beside, 0),
        np.minimum(regions[:, 2:] + beside, people.person_sizes_wh),
    )
    regions = np.concatenate(
        [low, np.where((high <= low).any(1)[:, None], low + 1, high)], axis=1
    )  # empty ones are stored as one pixel
    stored = stored_sizes(regions, ratios)
    settings = {
        "format": FORMAT,
        "annotations": str(people.source),
        "annotations_sha256": annotations_hash(people),
        "people": len(people),
        "margins": margins,
        "input_size": f"{input_size_wh[0]}x{input_size_wh[1]}",
        "smallest_scale": round(1 - augment.scale_factor, 6),
        "quality": quality,
        "chroma": "4:4:4" if full_colour else "4:2:0",
        "channel_order": "rgb",
        "regions_sha256": hashlib.sha256(
            np.concatenate([regions, stored], axis=1).tobytes()
        ).hexdigest(),
    }
    return PackPlan(people, regions, stored, settings)


def encode_region(image: np.ndarray, plan: PackPlan, row: int) -> bytes:
    """One person's region as JPEG; one outside the picture becomes a black pixel."""
    left, top, right, bottom = plan.regions[row].tolist()
    part = image[top:bottom, left:right]
    part = part if part.size else np.zeros((1, 1, 3), np.uint8)
    if part.shape[1::-1] != (size := tuple(plan.stored_wh[row].tolist())):
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    colour = (
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        if plan.settings["chroma"] == "4:4:4"
        else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    )
    settings = [
        cv2.IMWRITE_JPEG_QUALITY,
        plan.settings["quality"],
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        colour,
    ]
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(part, cv2.COLOR_RGB2BGR), settings)[1])


def estimate_pack(plan: PackPlan) -> Estimate:
    """Packs a few pictures into nothing and scales up by people and pictures."""
    people = plan.people
    pictures = np.unique(people.image_index)
    chosen = pictures[np.linspace(0, len(pictures) - 1, min(SAMPLE, len(pictures))).astype(int)]
    size = count = 0
    began = time.thread_time()
    for picture in chosen.tolist():
        try:
            image = read_image(people.image_paths[picture])
        except UserError:  # the packing itself will say so
            continue
        for row in np.flatnonzero(people.image_index == picture).tolist():
            size += len(encode_region(image, plan, row)) + MEMBER_OVERHEAD
            count += 1
    seconds = time.thread_time() - began
    return Estimate(
        int(size / max(count, 1) * len(people)), seconds / max(len(chosen), 1) * len(pictures)
    )
