"""PoseTrack 2017 annotations in poseval's JSON form (`annolist`): every number stands in a list of
one, joints carry ids."""

from __future__ import annotations

import math
import re
from typing import Any

from simplepose.core.errors import UserError
from simplepose.core.schema import POSETRACK_15
from simplepose.data.coco import Image, Row

JOINTS = (
    "right_ankle",
    "right_knee",
    "right_hip",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_wrist",
    "right_elbow",
    "right_shoulder",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "head_bottom",
    "nose",
    "head_top",
)
"""The joint of each id, 0 to 14, as poseval numbers them."""


def posetrack17_rows(
    frames: Any, source: str, first_image: int = 0, first_person: int = 0
) -> tuple[list[Image], list[Row]]:
    """One sequence -> pictures and people of the PoseTrack18 kind; `scores` are NaN for none.

    Args:
        frames: the `annolist`.
        source: the file, for messages.
        first_image: how many pictures were read before; ids continue from there.
        first_person: the same for people.

    Raises:
        UserError: an empty sequence or an unknown joint id.
    """
    if not isinstance(frames, list) or not frames:
        raise UserError(
            f"{source} is an empty sequence (no frames). Cure: remove the file, or copy it again"
        )
    images: list[Image] = []
    rows: list[Row] = []
    for number, frame in enumerate(frames):
        image = _one(frame.get("image"), {}) if isinstance(frame, dict) else {}
        name = image.get("name") if isinstance(image, dict) else None
        if not isinstance(name, str) or not name:
            raise UserError(
                f"{source}: frame {number} has no image name. Cure: add the name of the picture file"
            )
        image_id = first_image + number + 1
        folder = name.split("/")[-2] if "/" in name else ""
        regions = [region.get("point") or [] for region in frame.get("ignore_regions") or []]
        images.append(
            Image(
                id=image_id,
                file_name=name,
                frame_id=_one(frame.get("imgnum"), number),
                vid_id=(re.findall(r"\d+", folder) or [folder])[0],
                is_labeled=bool(_one(frame.get("is_labeled"), 1)),
                ignore_regions_x=[[_one(point["x"], 0) for point in one] for one in regions],
                ignore_regions_y=[[_one(point["y"], 0) for point in one] for one in regions],
            )
        )
        for rect in frame.get("annorect") or []:
            person_id = first_person + len(rows) + 1
            rows.append(_person(rect, image_id, person_id, f"{source}: {name}"))
    return images, rows


def _person(rect: dict[str, Any], image_id: int, person_id: int, where: str) -> Row:
    triples: list[Any] = [0.0] * (3 * len(POSETRACK_15))
    scores: list[Any] = [math.nan] * len(POSETRACK_15)
    for points in rect.get("annopoints") or []:
        for point in points.get("point") or []:
            joint = _one(point.get("id"), None)
            if not isinstance(joint, int) or not 0 <= joint < len(JOINTS):
                raise UserError(
                    f"{where} has a joint of id {joint!r}; PoseTrack knows 0 to {len(JOINTS) - 1}. Cure: correct that joint"
                )
            place = POSETRACK_15.keypoints.index(JOINTS[joint])
            xy = [_one(point["x"], 0.0), _one(point["y"], 0.0)]
            triples[3 * place : 3 * place + 3] = [*xy, 1]
            scores[place] = _one(point.get("score"), math.nan)
    corners = [_one(rect.get(corner), None) for corner in ("x1", "y1", "x2", "y2")]
    return Row(
        id=person_id,
        image_id=image_id,
        track_id=_one(rect.get("track_id"), None),
        keypoints=triples,
        scores=scores,
        head_box_xyxy=None if None in corners else corners,
    )


def _one(value: Any, default: Any) -> Any:
    """poseval wraps numbers in lists of one."""
    if isinstance(value, list):
        value = value[0] if value else None
    return default if value is None else value
