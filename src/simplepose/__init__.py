"""simplepose: top-down keypoint estimation and tracking with *Simple Baselines* (ECCV 2018)
networks.

Public names are imported on first use, so `import simplepose` stays instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Frame": "core.structures",
    "People": "core.structures",
    "Poses": "core.structures",
    "KeypointSchema": "core.schema",
    "COCO_17": "core.schema",
    "MPII_16": "core.schema",
    "POSETRACK_15": "core.schema",
    "CROWDPOSE_14": "core.schema",
    "PoseEstimator": "detection.estimator",
    "PersonDetector": "detection.onnx",
    "load_model": "pose.checkpoints",
    "read_image": "core.images",
    "UserError": "core.errors",
    "PoseTracker": "video.engine",
    "Tracker": "tracking.track",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from simplepose.core.errors import UserError
    from simplepose.core.images import read_image
    from simplepose.core.schema import COCO_17, CROWDPOSE_14, MPII_16, POSETRACK_15, KeypointSchema
    from simplepose.core.structures import Frame, People, Poses
    from simplepose.detection.estimator import PoseEstimator
    from simplepose.detection.onnx import PersonDetector
    from simplepose.pose.checkpoints import load_model
    from simplepose.tracking.track import Tracker
    from simplepose.video.engine import PoseTracker


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'simplepose' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"simplepose.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
