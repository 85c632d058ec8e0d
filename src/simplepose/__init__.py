"""simplepose: top-down keypoint estimation and tracking with *Simple Baselines* (ECCV 2018) networks.

Public names are imported on first use, so `import simplepose` stays instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Frame": "structures", "People": "structures", "Poses": "structures",
    "KeypointSchema": "schema", "COCO_17": "schema", "MPII_16": "schema", "POSETRACK_15": "schema", "CROWDPOSE_14": "schema",
    "PoseEstimator": "estimator", "load_model": "checkpoints", "read_image": "images", "UserError": "errors",
    "PoseTracker": "engine", "Tracker": "track",
}  # fmt: skip

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from simplepose.checkpoints import load_model
    from simplepose.engine import PoseTracker
    from simplepose.errors import UserError
    from simplepose.estimator import PoseEstimator
    from simplepose.images import read_image
    from simplepose.schema import COCO_17, CROWDPOSE_14, MPII_16, POSETRACK_15, KeypointSchema
    from simplepose.structures import Frame, People, Poses
    from simplepose.track import Tracker


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'simplepose' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"simplepose.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
