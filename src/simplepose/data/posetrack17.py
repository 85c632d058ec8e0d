"""PoseTrack 2017 annotations in poseval's JSON form (`annolist`): every number stands in a list of one, joints carry ids."""

from __future__ import annotations

import math
import re
from typing import Any

from simplepose.core.errors import UserError
from simplepose.core.schema import POSETRACK_15

JOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow", "right_shoulder",
    "left_shoulder", "left_elbow", "left_wrist", "head_bottom", "nose", "head_top",
)  # fmt: skip
"""The joint of each id, 0 to 14, as poseval numbers them."""


def is_posetrack17(content: Any) -> bool:
    """Whether a parsed JSON file has poseval's form."""
    return isinstance(content, dict) and "annolist" in content


def posetrack17_rows(
    content: dict[str, Any], source: str, first_image: int = 0, first_person: int = 0
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One sequence -> images and annotations of the PoseTrack18 kind, with `scores` (NaN for none); ids continue from those already read.

    Raises:
        UserError: an empty sequence or an unknown joint id.
    """
    if not content["annolist"]:
        raise UserError(f"{source} is an empty sequence (no frames). Cure: remove the file, or copy it again")
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for number, frame in enumerate(content["annolist"]):
        image = _one(frame.get("image"), {}) if isinstance(frame, dict) else {}
        name = image.get("name") if isinstance(image, dict) else None
        if not isinstance(name, str) or not name:
            raise UserError(f"{source}: frame {number} has no image name. Cure: add the name of the picture file")
        image_id = first_image + number + 1
        regions = [region.get("point") or [] for region in frame.get("ignore_regions") or []]
        images.append(
            {
                "id": image_id,
                "file_name": name,
                "frame_id": _one(frame.get("imgnum"), number),
                "vid_id": (re.findall(r"\d+", name.split("/")[-2]) or [name.split("/")[-2]])[0] if "/" in name else "",
                "is_labeled": bool(_one(frame.get("is_labeled"), 1)),
                "ignore_regions_x": [[_one(point["x"], 0) for point in points] for points in regions],
                "ignore_regions_y": [[_one(point["y"], 0) for point in points] for points in regions],
            }
        )
        for rect in frame.get("annorect") or []:
            rows.append(_person(rect, image_id, first_person + len(rows) + 1, f"{source}: {name}"))
    return images, rows


def _person(rect: dict[str, Any], image_id: int, person_id: int, where: str) -> dict[str, Any]:
    triples, scores = [0.0] * (3 * len(POSETRACK_15)), [math.nan] * len(POSETRACK_15)
    for points in rect.get("annopoints") or []:
        for point in points.get("point") or []:
            joint = _one(point.get("id"), None)
            if not isinstance(joint, int) or not 0 <= joint < len(JOINTS):
                raise UserError(f"{where} has a joint of id {joint!r}; PoseTrack knows 0 to {len(JOINTS) - 1}. Cure: correct that joint")
            place = POSETRACK_15.keypoints.index(JOINTS[joint])
            triples[3 * place : 3 * place + 3] = [_one(point["x"], 0.0), _one(point["y"], 0.0), 1]
            scores[place] = _one(point.get("score"), math.nan)
    row: dict[str, Any] = {"id": person_id, "image_id": image_id, "track_id": _one(rect.get("track_id"), None)}
    row |= {"keypoints": triples, "scores": scores}
    corners = [_one(rect.get(corner), None) for corner in ("x1", "y1", "x2", "y2")]
    if None not in corners:
        x1, y1, x2, y2 = corners
        row["bbox_head"] = [x1, y1, x2 - x1, y2 - y1]
    return row


def _one(value: Any, default: Any) -> Any:
    """poseval wraps numbers in lists of one."""
    if isinstance(value, list):
        value = value[0] if value else None
    return default if value is None else value
