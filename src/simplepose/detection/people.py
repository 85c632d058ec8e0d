"""Where people come from: the choices behind `--boxes`, each a plain function or small object that
gives People."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from simplepose.core.errors import UserError, nearest
from simplepose.core.images import require_rgb
from simplepose.core.sessions import SESSIONS
from simplepose.core.structures import Frame, People
from simplepose.detection.files import read_boxes
from simplepose.detection.motion import MotionDetector
from simplepose.detection.onnx import PersonDetector
from simplepose.detection.transformers import TransformersDetector
from simplepose.pose.checkpoints import METADATA_KEY, STARTER, STARTER_PERSON, read_metadata
from simplepose.weights.public import named

CHOICES = (
    "--boxes says where people come from: a detector (a name of simplepose weights list, the run "
    "folder of one of your own, FILE.onnx, or hf:NAME_OR_FOLDER for RT-DETR and DETR), a detection "
    "or annotation file (FILE.json), 'motion' (moving regions of a still camera) or 'whole' (the "
    "whole picture is one person)"
)
WORDS = ("whole", "motion", "gt")

Detector = Callable[[np.ndarray], People]
"""Finds people in a picture: (H, W, 3) uint8 RGB -> People."""


class PeopleSource(Protocol):
    """Knows the people of a frame, perhaps without looking at it."""

    def people(self, frame: Frame) -> People:
        """Frame -> People."""
        ...


def people_in(source: Detector | PeopleSource, frame: Frame) -> People:
    """Asks a source that knows frames (`source.people(frame)`), or a detector that looks at
    pictures (`source(image)`)."""
    return source.people(frame) if hasattr(source, "people") else source(frame.image)


def people_of(source: Detector | PeopleSource, frames: Sequence[Frame]) -> list[People]:
    """`people_in` of several frames; a detector that can (`together`) looks at them at once."""
    if (together := getattr(source, "together", None)) is not None:
        return list(together([frame.image for frame in frames]))
    return [people_in(source, frame) for frame in frames]


def whole(image: np.ndarray) -> People:
    """One person who fills the picture: only where the user says so."""
    require_rgb(image)
    height, width = image.shape[:2]
    return People(np.array([[0, 0, width, height]]), np.ones(1))


def is_trained(boxes: str | Path) -> bool:
    """Whether a choice is a network of `simplepose train`: a run folder, a .safetensors file, or
    what `simplepose export` made of it."""
    path = Path(boxes)
    if path.suffix.lower() in SESSIONS:
        return path.is_file() and METADATA_KEY in read_metadata(path)
    ours = path.suffix.lower() == ".safetensors" or (path / "checkpoints").is_dir()
    return ours or str(boxes) in (STARTER, STARTER_PERSON)


def require_trained(boxes: str | Path) -> None:
    """Refuses test-time augmentation of what is no network of `simplepose train`."""
    if not is_trained(boxes):
        raise UserError(
            f"--box-tta is for detectors of simplepose train, and --boxes {boxes} is none. "
            f"Cure: leave it out, or --boxes {STARTER_PERSON}"
        )


def people_source(  # noqa: PLR0913
    boxes: str | Path | None,
    *,
    annotations: str | Path | None = None,
    score_threshold: float | None = None,
    keypoints: Sequence[str] = (),
    device: str = "auto",
    threads: int = 0,
    cut_border: bool = False,
    person_class: str = "",
    tta: bool = False,
) -> Detector | PeopleSource:
    """What the text of `--boxes` means. Nothing is guessed, nothing is downloaded but a hub id
    asked for by `hf:`.

    Args:
        boxes: a name of `simplepose weights list`, `starter-person`, run folder or
            FILE.safetensors of a detector, FILE.onnx, FILE.json, `hf:NAME`, a folder of a
            transformers model, `gt`, `motion` or `whole`.
        annotations: COCO file: the boxes of `gt`, and the picture and category names of a detection
            file.
        score_threshold: of detectors (.3 where None) and of detection files (0 where None).
        keypoints: names of the network's keypoints, which choose among the categories of a file.
        device: of the detector.
        threads: processor threads of an ONNX detector's call.
        cut_border: see `PersonDetector`.
        person_class: number or name of a detector's class of people; by default person.
        tta: test-time augmentation, see `TrainedDetector`.

    Raises:
        UserError: no choice, an unknown one, or the chosen source cannot be opened.
    """
    if not boxes:
        raise UserError(f"nobody said where the people are. Cure: {CHOICES}")
    text = named(str(boxes))
    path = Path(text)
    if tta:
        require_trained(text)
    if person_class and (text in WORDS or path.suffix.lower() == ".json"):
        raise UserError(
            f"--person-class {person_class} chooses among the classes of a detector, and --boxes "
            f"{text} is none. Cure: leave it out"
        )
    if text == "whole":
        return whole
    if text == "motion":
        return MotionDetector()
    if text == "gt":
        if annotations is None:
            raise UserError("--boxes gt needs the annotations. Cure: add --annotations FILE.json")
        return read_boxes(annotations, keypoints=keypoints)
    if path.suffix.lower() == ".json" and path.exists():
        return read_boxes(
            path,
            annotations=annotations,
            score_threshold=score_threshold or 0.0,
            keypoints=keypoints,
        )
    options = {
        "score_threshold": 0.3 if score_threshold is None else score_threshold,
        "person_class": person_class,
        "device": device,
    }
    return _open_detector(text, options, {"threads": threads, "cut_border": cut_border}, tta=tta)


def _open_detector(
    text: str, options: dict[str, Any], of_onnx: dict[str, Any], *, tta: bool
) -> Detector:
    """The detector of a name, folder or file; its options, and those that only ONNX files or only
    trained ones have."""
    path = Path(text)
    if text.startswith("hf:") or (path / "config.json").is_file():
        return TransformersDetector(text.removeprefix("hf:"), **options)
    if not (path.exists() or is_trained(text)):
        cure = nearest(text, WORDS, otherwise=CHOICES)
        raise UserError(f"--boxes {text}: no such file and no known word. Cure: {cure}")
    if is_trained(path):
        from simplepose.detection.trained import TrainedDetector  # brings torch

        return TrainedDetector.from_pretrained(path, **options, tta=tta, threads=of_onnx["threads"])
    if path.suffix.lower() == ".onnx":
        return PersonDetector(path, **options, **of_onnx)
    raise UserError(f"--boxes {text}: the ending {path.suffix!r} is not known. Cure: {CHOICES}")
