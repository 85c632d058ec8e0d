"""From a person's box to the network's crop and back: the place that knows where pixel centres are.

Pixel centres stand at whole numbers. Two unit conventions exist, chosen by `udp`:

* references (`udp=False`): a crop is W x H *pixels* wide; its centre is (W/2, H/2); heatmap x =
  input x * W_hm / W_in (both reference codes).
* unbiased (`udp=True`, Huang et al., CVPR 2020): a crop is (W-1) x (H-1) *intervals* wide; centre
  ((W-1)/2, (H-1)/2); heatmap x = input x * (W_hm-1) / (W_in-1). Used in crop, heatmap and
  back-projection alike.

Affines are named by direction: `to_crop` maps picture -> crop, `to_image` crop -> picture, both
(..., 2, 3) float64.
"""

from __future__ import annotations

import cv2
import numpy as np

BOX_PADDING = 1.25
"""How much larger than the aspect-fixed box the crop is, in both references."""


def fit_boxes(
    boxes_xyxy: np.ndarray, input_size_wh: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The region each crop shows: the box grown to the aspect of the network's input, then padded.

    Args:
        boxes_xyxy: (N, 4) boxes in pixels of the full picture.
        input_size_wh: width and height of the network's input.

    Returns:
        centers (N, 2) = left + width / 2 (no -0.5, as both references) and sizes_wh (N, 2), never
        smaller than one pixel wide.
    """
    boxes = np.asarray(boxes_xyxy, np.float64)
    centers = (boxes[..., :2] + boxes[..., 2:]) / 2
    sides = boxes[..., 2:] - boxes[..., :2]
    aspect = input_size_wh[0] / input_size_wh[1]
    width = np.maximum(np.maximum(sides[..., 0], sides[..., 1] * aspect), 1.0)
    return centers, np.stack([width, width / aspect], -1) * BOX_PADDING


def crop_affines(
    centers: np.ndarray,
    sizes_wh: np.ndarray,
    input_size_wh: tuple[int, int],
    rotations: np.ndarray | float = 0.0,
    *,
    udp: bool = False,
) -> np.ndarray:
    """The affine picture -> crop of each region.

    Args:
        centers: (N, 2) centre of the region in picture pixels.
        sizes_wh: (N, 2) size of the region; the references' scale is isotropic and comes from the
            width.
        input_size_wh: size of the crop.
        rotations: (N,) degrees the region is turned about its centre (clockwise on the screen, as
            in both references), or one number for all.
        udp: unit convention of the module's docstring.

    Returns:
        to_crop (N, 2, 3) float64.
    """
    centers, sizes = np.asarray(centers, np.float64), np.asarray(sizes_wh, np.float64)
    target = np.asarray(input_size_wh, np.float64) - udp
    scale = target / sizes if udp else np.broadcast_to(target[0] / sizes[..., :1], centers.shape)
    angle = np.deg2rad(np.broadcast_to(np.asarray(rotations, np.float64), centers.shape[:-1]))
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.stack([cos, sin, -sin, cos], -1).reshape(*cos.shape, 2, 2)
    linear = turned * scale[..., None]  # (N, 2, 2), picture -> crop
    offset = target / 2 - np.einsum("...ij,...j->...i", linear, centers)
    return np.concatenate([linear, offset[..., None]], axis=-1)


def mirror_pictures(to_crop: np.ndarray, image_widths: np.ndarray) -> np.ndarray:
    """The affine from the *unmirrored* picture.

    `to_crop` was made for the mirrored one (x -> w-1-x). Folding the mirror into the matrix gives
    the same crop as warping a mirrored copy, without the copy.
    """
    mirrored = np.array(to_crop, np.float64)
    last = np.asarray(image_widths, np.float64)[..., None] - 1
    mirrored[..., :, 2] += mirrored[..., :, 0] * last
    mirrored[..., :, 0] *= -1
    return mirrored


def invert_affines(affines: np.ndarray) -> np.ndarray:
    """(..., 2, 3) -> (..., 2, 3): `to_crop` -> `to_image` and back."""
    affines = np.asarray(affines, np.float64)
    inverse = np.linalg.inv(affines[..., :2])
    return np.concatenate([inverse, -inverse @ affines[..., 2:]], -1)


def transform_points(affines: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Applies (N, 2, 3) affines to (N, P, 2) points -> (N, P, 2) float64."""
    affines, points = np.asarray(affines, np.float64), np.asarray(points, np.float64)
    turned = points @ np.swapaxes(affines[..., :2], -1, -2)
    return np.asarray(turned + affines[..., None, :, 2])


def heatmap_scale(
    input_size_wh: tuple[int, int], heatmap_size_wh: tuple[int, int], *, udp: bool = False
) -> tuple[float, float]:
    """Factors (x, y) input pixels -> heatmap pixels."""
    x, y = (
        (m - int(udp)) / (i - int(udp)) for m, i in zip(heatmap_size_wh, input_size_wh, strict=True)
    )
    return x, y


def warp_crop(
    image: np.ndarray, to_crop: np.ndarray, size_wh: tuple[int, int], out: np.ndarray | None = None
) -> np.ndarray:
    """Cuts one crop out of a picture.

    Bilinear; outside pixels are 0 *before* normalisation, as both references.

    Args:
        image: (H, W, 3) uint8.
        to_crop: (2, 3).
        size_wh: size of the crop.
        out: where to put it, contiguous; a new array by default.

    Returns:
        (size_wh[1], size_wh[0], 3) uint8.
    """
    crop: np.ndarray = cv2.warpAffine(image, to_crop, size_wh, dst=out, flags=cv2.INTER_LINEAR)
    return crop
