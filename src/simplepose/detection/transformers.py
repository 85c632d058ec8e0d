"""A person detector of Hugging Face transformers: RT-DETR, DETR and their like."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simplepose.core.errors import UserError, need
from simplepose.core.images import require_rgb
from simplepose.core.structures import People
from simplepose.detection.layouts import find_class
from simplepose.detection.onnx import people_within


class TransformersDetector:
    """Finds people: picture -> People.

    Args:
        name: a local folder, or a hub id; the hub is asked only for an id that is not a folder.
        score_threshold: boxes below it are dropped.
        device: torch device, `auto` takes the best there is.
        person_class: number or name of the class of people; by default the one named person.

    Raises:
        UserError: transformers is not installed, the model cannot be found or fetched, or knows no
            such class.
    """

    def __init__(
        self,
        name: str,
        *,
        score_threshold: float = 0.3,
        device: str = "auto",
        person_class: str | int = "",
    ) -> None:
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
        names = {int(index): str(label) for index, label in model.config.id2label.items()}
        self.person_class = find_class(
            person_class, names, len(names), f"the detector {name!r}", "--person-class"
        )
        self.score_threshold = score_threshold
        self.device = choose_device(device)
        self.model = model.to(self.device).eval()

    def __call__(self, image: np.ndarray) -> People:
        """(H, W, 3) uint8 RGB -> People, best score first."""
        import torch

        require_rgb(image)
        inputs = self.processor(images=[image], return_tensors="pt").to(self.device)
        with torch.inference_mode():
            outputs = self.model(**inputs)
        (found,) = self.processor.post_process_object_detection(
            outputs, threshold=self.score_threshold, target_sizes=[image.shape[:2]]
        )
        person = found["labels"] == self.person_class
        boxes, scores = (found[name][person].float().cpu().numpy() for name in ("boxes", "scores"))
        return people_within(boxes, scores, image)
