"""One call from a picture to poses: a pose network and a detector, those that come with the package
or were fetched where nobody chose others.

poses = PoseEstimator()("photo.jpg")
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from simplepose.core.errors import UserError, shown
from simplepose.core.schema import COCO_17, CROWDPOSE_14, MPII_16, POSETRACK_15, KeypointSchema
from simplepose.core.structures import Frame, People
from simplepose.detection.people import Detector, PeopleSource, people_in, people_source
from simplepose.pose import estimator
from simplepose.pose.checkpoints import STARTER, STARTER_PERSON, STARTERS, ModelSpec
from simplepose.weights.public import fetched, named

if TYPE_CHECKING:
    from torch import Tensor

OF_PEOPLE = (COCO_17, MPII_16, POSETRACK_15, CROWDPOSE_14)
"""Schemas whose subjects a person detector finds."""
BETTER = "simplepose weights get people"


def default_weights() -> str:
    """The pose network where nobody chose one: what `weights get` fetched, else the starter."""
    return fetched("pose network") or STARTER


def default_boxes(schema: KeypointSchema) -> str:
    """The detector where nobody chose one: what `weights get` fetched, else the starter.

    Args:
        schema: the network's keypoints.

    Raises:
        UserError: they are not a person's, or there is no detector.
    """
    if schema.keypoints not in [one.keypoints for one in OF_PEOPLE]:
        raise UserError(
            f"nobody said where the subjects are, and the keypoints of the network ({schema.name}: "
            f"{', '.join(schema.keypoints)[:60]} ...) are not those of a person detector. "
            "Cure: --boxes (detector= in Python) with a detector of your own, a file, or whole"
        )
    if name := fetched("person detector"):
        return name
    if (STARTERS / f"{STARTER_PERSON}.safetensors").exists():
        return STARTER_PERSON
    raise UserError(
        "there is no person detector on this machine. "
        f"Cure: {BETTER}; or --boxes whole (boxes='whole') where one person fills the picture"
    )


def told(weights: str, boxes: str) -> str:
    """The sentence on the networks that nobody chose; empty names were chosen."""
    chosen = [f"pose network: {weights}"] * bool(weights) + [f"detector: {boxes}"] * bool(boxes)
    small = {STARTER, STARTER_PERSON} & {weights, boxes}
    better = f" (small; for better ones: {BETTER})" if small else ""
    return f"{', '.join(chosen)}{better}"


class PoseEstimator(estimator.PoseEstimator):
    """A pose network with a detector: `PoseEstimator()("photo.jpg")`.

    Args:
        network: as of `simplepose.pose.estimator.PoseEstimator`. Without one, what `simplepose
            weights get people` fetched is opened, else the starter network that comes with the
            package.
        spec: goes with `network`.
        detector: picture -> People, or what `--boxes` takes: a name of `simplepose weights list`, a
            file, a run of a detector. By default the network's own kind: see `default_boxes`.
        **options: those of `simplepose.pose.estimator.PoseEstimator`; without a network those of
            `from_pretrained`.
    """

    detector: Detector | PeopleSource | None  # type: ignore[assignment]

    def __init__(
        self,
        network: Callable[[Tensor], Tensor] | None = None,
        spec: ModelSpec | None = None,
        *,
        detector: Detector | PeopleSource | str | Path | None = None,
        **options: Any,
    ) -> None:
        if isinstance(detector, (str, Path)):
            detector = people_source(detector)
        if (network is None) != (spec is None):
            raise UserError(
                f"{shown(network)} is no network with its spec. "
                "Cure: PoseEstimator.from_pretrained(NAME) opens a run, a file or a name"
            )
        if network is None or spec is None:
            opened = type(self).from_pretrained(default_weights(), detector=detector, **options)
            vars(self).update(vars(opened))
            return
        super().__init__(network, spec, detector=detector, **options)  # type: ignore[arg-type]

    @classmethod
    def from_pretrained(cls, path: str | Path, **options: Any) -> Self:
        """As of the base class; `path` may also be a name of `simplepose weights list` that was
        fetched."""
        return super().from_pretrained(named(path) if isinstance(path, str) else path, **options)

    def _people(self, frame: Frame, boxes: Any) -> People:
        if boxes is not None:
            return super()._people(frame, boxes)
        if self.detector is None:
            self.detector = people_source(default_boxes(self.schema))
        return people_in(self.detector, frame)
