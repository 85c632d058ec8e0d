"""How near OpenCV's warp comes to another. No test in here."""

import cv2

WARP_LEVELS = 1 if int(cv2.__version__.split(".")[0]) >= 5 else 8
"""Grey levels of pictures of noise: OpenCV 4 rounds positions to 1/32 of a pixel."""
