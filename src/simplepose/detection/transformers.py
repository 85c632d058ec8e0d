"""A person detector of Hugging Face transformers: RT-DETR, DETR and their like."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simplepose.core.errors import UserError, need
from simplepose.core.structures import People
from simplepose.detection.onnx import people_within


class TransformersDetector:
    """Finds people: picture -> People.

    Args:
        name: a local folder, or a hub id; the hub is asked only for an id that is not a folder.
        score_threshold: boxes below it are dropped.
        device: torch device, `auto` takes the best there is.

    Raises:
        UserError: transformers is not installed, the model cannot be found or fetched, or knows no
            class `person`.
    """

    def __init__(self, name: str, *, score_threshold: float = 0.3, device: str = "auto") -> None:
        try:
            import transformers
        except ImportError as error:
            raise need("transformers", "transformers", "a Hugging Face detector") from error
        from simplepose.core.device import choose_device

        local = Path(name).is_dir()
        try:
            self.processor, model = (
                kind.from_pretrained(name, local_files_only=local)
                for kind in (
                    transformers.AutoImageProcessor,
                    transformers.AutoModelForObjectDetection,
                )
            )
        except (OSError, ValueError) as error:
            cure = (
                "give a folder with config.json, preprocessor_config.json and weights"
                if local
                else "connect to the network, or download the model on another machine and give "
                "its folder"
            )
            raise UserError(
                f"cannot load the detector {name!r}: {str(error).splitlines()[0]}. Cure: {cure}"
            ) from error
        labels = {str(label).lower(): int(index) for index, label in model.config.id2label.items()}
        if "person" not in labels:
            raise UserError(
                f"the detector {name!r} has no class 'person' but {', '.join(sorted(labels)[:8])}. "
                "Cure: use one that finds people"
            )
        self.score_threshold, self.person_class = score_threshold, labels["person"]
        self.device = choose_device(device)
        self.model = model.to(self.device).eval()

    def __call__(self, image: np.ndarray) -> People:
        """(H, W, 3) uint8 RGB -> People, best score first."""
        import torch

        inputs = self.processor(images=[image], return_tensors="pt").to(self.device)
        with torch.inference_mode():
            outputs = self.model(**inputs)
        (found,) = self.processor.post_process_object_detection(
            outputs, threshold=self.score_threshold, target_sizes=[image.shape[:2]]
        )
        person = found["labels"] == self.person_class
        boxes, scores = (found[name][person].float().cpu().numpy() for name in ("boxes", "scores"))
        return people_within(boxes, scores, image)
