"""A person detector of Hugging Face transformers: RT-DETR, DETR and their like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.errors import UserError, need
from simplepose.core.structures import People


class TransformersDetector:
    """Finds people: picture -> People.

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
        from simplepose.core.device import choose_device

        local = Path(name).is_dir()
        try:
            self.processor = transformers.AutoImageProcessor.from_pretrained(
                name, local_files_only=local
            )
            model = transformers.AutoModelForObjectDetection.from_pretrained(
                name, local_files_only=local
            )
        except (OSError, ValueError) as error:
            cure = (
                "give a folder with config.json, preprocessor_config.json and weights"
                if local
                else "connect to the network, or download the model on another machine and give its folder"
            )
            raise UserError(
                f"cannot load the detector {name!r}: {str(error).splitlines()[0]}. Cure: {cure}"
            ) from error
        labels = {index: str(label).lower() for index, label in model.config.id2label.items()}
        people = [index for index, label in labels.items() if label == "person"]
        if not people:
            found = ", ".join(sorted(labels.values())[:8])
            raise UserError(
                f"the detector {name!r} has no class 'person' but {found}. Cure: use one that finds people"
            )
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
            outputs,
            threshold=self.score_threshold,
            target_sizes=[image.shape[:2] for image in images],
        )
        return [self._people(result, image) for result, image in zip(results, images, strict=True)]

    def _people(self, result: dict[str, Any], image: np.ndarray) -> People:
        """One picture's people, cut to the picture."""
        person = (result["labels"] == self.person_class).cpu().numpy()
        scores = result["scores"].float().cpu().numpy()[person]
        boxes = np.clip(
            result["boxes"].float().cpu().numpy()[person], 0, [image.shape[1], image.shape[0]] * 2
        )
        order = [
            index
            for index in np.argsort(-scores, kind="stable")
            if (boxes[index, 2:] > boxes[index, :2]).all()
        ]
        return People(boxes[order].reshape(-1, 4), scores[order])
