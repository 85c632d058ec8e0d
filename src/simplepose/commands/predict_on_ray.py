"""`simplepose predict PICTURES... --engine ray --output FOLDER`: shards of poses by Ray Data."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from simplepose.commands.networks import open_estimator
from simplepose.commands.options import PredictOptions
from simplepose.core.errors import UserError, need


def run(options: PredictOptions) -> None:
    """Predicts what no shard holds yet."""
    if not options.pictures or not options.output:
        raise UserError(
            "--engine ray needs pictures and --output, so that a run can go on. "
            "Cure: simplepose predict FOLDER --engine ray --output poses"
        )
    if options.table != "none" or options.draw:
        raise UserError(
            "--engine ray writes Parquet shards, and draws no more than poses. "
            "Cure: leave --table and --draw out"
        )
    for package in ("ray", "pyarrow"):
        try:
            import_module(package)
        except ImportError as error:
            raise need(package, "ray", "--engine ray") from error
    from simplepose.ray.job import predict_shards

    _, options = open_estimator(options)
    predictor = {
        "weights": _absolute(options.weights),
        "boxes": _absolute(options.boxes),
        "flip_test": options.flip_test,
        "flip_pairs": _absolute(options.flip_pairs),
        "skip_broken": options.skip_broken,
        "annotations": _absolute(options.annotations) or None,
        "score_threshold": options.box_threshold,
        "person_class": options.person_class,
        "tta": options.box_tta,
    }
    print(
        predict_shards(
            options.pictures,
            options.output,
            predictor,
            options.ray,
            device=options.device,
            keypoint_threshold=options.keypoint_threshold,
            overwrite=options.overwrite,
        )
    )


def _absolute(path: str) -> str:
    """A file that is there by its whole path, which other machines need; else the word as it is."""
    return str(Path(path).absolute()) if path and Path(path).exists() else path
