"""Where people come from: the choices behind `--boxes`, each a plain function or small object that gives People."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from simplepose.detect_file import BoxFile, read_boxes
from simplepose.detect_onnx import PersonDetector
from simplepose.errors import UserError, need
from simplepose.motion import MotionDetector
from simplepose.structures import Frame, People

__all__ = [
    "BoxFile",
    "Detector",
    "MotionDetector",
    "PeopleSource",
    "PersonDetector",
    "TransformersDetector",
    "people_in",
    "people_source",
    "read_boxes",
    "whole",
]

CHOICES = (
    "--boxes says where people come from: a detector (FILE.onnx, or hf:NAME_OR_FOLDER for RT-DETR and DETR), a detection or annotation "
    "file (FILE.json), 'motion' (moving regions of a still camera) or 'whole' (the whole picture is one person)"
)


class Detector(Protocol):
    """Finds people in a picture."""

    def __call__(self, image: np.ndarray) -> People:
        """(H, W, 3) uint8 RGB -> People."""
        ...


class PeopleSource(Protocol):
    """Knows the people of a frame, perhaps without looking at it."""

    def people(self, frame: Frame) -> People:
        """Frame -> People."""
        ...


def people_in(source: Detector | PeopleSource, frame: Frame) -> People:
    """Asks a source that knows frames (`source.people(frame)`), or a detector that looks at pictures (`source(image)`)."""
    return source.people(frame) if hasattr(source, "people") else source(frame.image)


def whole(image: np.ndarray) -> People:
    """One person who fills the picture: only where the user says so."""
    height, width = image.shape[:2]
    return People(np.array([[0, 0, width, height]]), np.ones(1))


class TransformersDetector:
    """RT-DETR, DETR and their like through Hugging Face transformers.

    Args:
        name: a local folder, or a hub id; the hub is asked only for an id that is not a folder.
        score_threshold: boxes below it are dropped.
        device: torch device, `auto` takes the best there is.

    Raises:
        UserError: transformers is not installed, the model cannot be found or fetched, or knows no class `person`.
    """

    def __init__(self, name: str, *, score_threshold: float = 0.3, device: str = "auto") -> None:
        try:
            import transformers
        except ImportError as error:
            raise need("transformers", "transformers", "a Hugging Face detector") from error
        from simplepose.device import choose_device

        local = Path(name).is_dir()
        try:
            self.processor = transformers.AutoImageProcessor.from_pretrained(name, local_files_only=local)
            model = transformers.AutoModelForObjectDetection.from_pretrained(name, local_files_only=local)
        except (OSError, ValueError) as error:
            cure = (
                "give a folder with config.json, preprocessor_config.json and weights"
                if local
                else "connect to the network, or download the model on another machine and give its folder"
            )
            raise UserError(f"cannot load the detector {name!r}: {str(error).splitlines()[0]}. Cure: {cure}") from error
        labels = {index: str(label).lower() for index, label in model.config.id2label.items()}
        people = [index for index, label in labels.items() if label == "person"]
        if not people:
            found = ", ".join(sorted(labels.values())[:8])
            raise UserError(f"the detector {name!r} has no class 'person' but {found}. Cure: use one that finds people")
        self.name, self.score_threshold, self.person_class = name, score_threshold, int(people[0])
        self.device = choose_device(device)
        self.model = model.to(self.device).eval()

    def __call__(self, image: np.ndarray) -> People:
        """(H, W, 3) uint8 RGB -> People, best score first."""
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[np.ndarray]) -> list[People]:
        """Several pictures in one call of the network."""
        import torch

        if not images:
            return []
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.device)
        with torch.inference_mode():
            outputs = self.model(**inputs)
        results = self.processor.post_process_object_detection(
            outputs, threshold=self.score_threshold, target_sizes=[image.shape[:2] for image in images]
        )
        return [self._people(result, image) for result, image in zip(results, images, strict=True)]

    def _people(self, result: dict[str, Any], image: np.ndarray) -> People:
        """One picture's people, cut to the picture."""
        person = (result["labels"] == self.person_class).cpu().numpy()
        scores = result["scores"].float().cpu().numpy()[person]
        boxes = np.clip(result["boxes"].float().cpu().numpy()[person], 0, [image.shape[1], image.shape[0]] * 2)
        order = [index for index in np.argsort(-scores, kind="stable") if (boxes[index, 2:] > boxes[index, :2]).all()]
        return People(boxes[order].reshape(-1, 4), scores[order])


def people_source(
    boxes: str | Path | None,
    *,
    annotations: str | Path | None = None,
    score_threshold: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    cut_border: bool = False,
) -> Detector | PeopleSource:
    """What the text of `--boxes` means. Nothing is guessed, nothing is downloaded but a hub id asked for by `hf:`.

    Args:
        boxes: FILE.onnx, FILE.json, `hf:NAME`, a folder of a transformers model, `gt`, `motion` or `whole`.
        annotations: COCO file: the boxes of `gt`, and the picture and category names of a detection file.
        score_threshold: of detectors (.3 where None) and of detection files (0 where None).
        device: of the transformers detector.
        threads: processor threads of an ONNX detector's call.
        cut_border: see `PersonDetector`.

    Raises:
        UserError: no choice, an unknown one, or the chosen source cannot be opened.
    """
    if not boxes:
        raise UserError(f"nobody said where the people are. Cure: {CHOICES}")
    text = str(boxes)
    words: dict[str, Callable[[], Detector | PeopleSource]] = {"whole": lambda: whole, "motion": MotionDetector}
    if text in words:
        return words[text]()
    if text == "gt":
        if annotations is None:
            raise UserError("--boxes gt needs the annotations. Cure: add --annotations FILE.json")
        return read_boxes(annotations)
    threshold = 0.3 if score_threshold is None else score_threshold
    if text.startswith("hf:"):
        return TransformersDetector(text[3:], score_threshold=threshold, device=device)
    path = Path(text)
    if (path / "config.json").is_file():
        return TransformersDetector(text, score_threshold=threshold, device=device)
    if not path.exists():
        raise UserError(f"--boxes {text}: no such file, and not a known word. Cure: {CHOICES}")
    if path.suffix.lower() == ".onnx":
        return PersonDetector(path, score_threshold=threshold, threads=threads, cut_border=cut_border)
    if path.suffix.lower() == ".json":
        return read_boxes(path, annotations=annotations, score_threshold=score_threshold or 0.0)
    raise UserError(f"--boxes {text}: the ending {path.suffix!r} is not known. Cure: {CHOICES}")
