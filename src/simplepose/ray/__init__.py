"""Inference on Ray Data: `PosePredictor` for `Dataset.map_batches`, and `simplepose predict
--engine ray`. Ray distributes, repeats what a dead worker had, and counts."""

from __future__ import annotations

from simplepose.ray.predictor import PosePredictor

__all__ = ["PosePredictor"]
