"""A window that shows frames as they come."""

from __future__ import annotations

import os
import sys
from typing import Self

import cv2
import numpy as np

from simplepose.core.errors import UserError

CLOSING_KEYS = (ord("q"), 27)
"""q and Escape."""


class Window:
    """Opens with the first frame.

    Args:
        title: of the window.

    Raises:
        UserError: this OpenCV has no windows, or there is no screen.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        # headless builds have the function, which raises
        built = [line for line in cv2.getBuildInformation().splitlines() if "GUI:" in line]
        if any(line.split(":")[1].strip() == "NONE" for line in built):
            raise UserError(
                "--show needs an OpenCV with windows, and this one was built without "
                "(opencv-python-headless). Cure: pip uninstall opencv-python-headless, then "
                "pip install opencv-python"
            )
        screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        # OpenCV's Qt ends the whole program where it finds no screen
        if sys.platform == "linux" and not screen:
            raise UserError(
                "--show needs a screen, and DISPLAY names none. "
                "Cure: leave it out; the annotated video and poses.jsonl are written anyway"
            )

    def __enter__(self) -> Self:
        return self

    def show(self, image: np.ndarray) -> bool:
        """Shows (H, W, 3) uint8 RGB; False once the user has closed the window."""
        cv2.imshow(self.title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        pressed = cv2.waitKey(1) & 0xFF
        visible = cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1
        return visible and pressed not in CLOSING_KEYS

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        cv2.destroyAllWindows()
