"""How exact each codec can be: perfect heatmaps are decoded, and what is left is the codec's own error in input pixels.

    python benchmarks/codec_ceilings.py [--output FILE.json]

For every heatmap size, target (quantised as Microsoft's, as the seed's, exact, exact in UDP units) and decoder; then for every alignment of
the flipped map, which a perfect network draws for exactly the input that `flip_inputs` makes. x is reported, the axis that is mirrored.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from simplepose.pose.heatmaps_flip import flip_average

from simplepose.config import CodecConfig
from simplepose.core.files import write_json
from simplepose.pose.codec import activate, decode, encode

SIZES = {(48, 64): 2.0, (24, 32): 1.0, (72, 96): 3.0}
"""Heatmap width and height -> sigma of the references."""
TARGETS = {
    "ms": CodecConfig(),
    "tf": CodecConfig(center="floor", truncate=False, trained_when="inside"),
    "exact": CodecConfig(center="exact", truncate=False, trained_when="inside"),
    "exact, udp": CodecConfig(center="exact", truncate=False, trained_when="inside", udp=True),
    "exact, softmax": CodecConfig(
        center="exact", truncate=False, trained_when="inside", kind="softmax"
    ),
    "simcc": CodecConfig(kind="simcc"),
}


def perfect(
    keypoints: torch.Tensor, codec: CodecConfig, input_size: tuple[int, int], size: tuple[int, int]
) -> Any:
    """What a network without any error puts out, made ready for decoding."""
    target, _ = encode(
        keypoints, torch.ones(keypoints.shape[:2], dtype=torch.bool), codec, input_size, size
    )
    return (
        target
        if codec.kind == "heatmap"
        else activate(target.clamp(min=1e-30).log(), codec, input_size)
    )


def error(
    maps: Any, keypoints: torch.Tensor, codec: CodecConfig, input_size: tuple[int, int]
) -> dict[str, float]:
    """Of x, in input pixels."""
    difference = decode(maps, codec, input_size)[0][..., 0] - keypoints.numpy()[..., 0].astype(
        np.float64
    )
    return {
        "mean": float(np.abs(difference).mean()),
        "max": float(np.abs(difference).max()),
        "bias": float(difference.mean()),
    }


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--keypoints", type=int, default=4000)
    output, count = (lambda given: (given.output, given.keypoints))(parser.parse_args())
    generator, rows = torch.Generator().manual_seed(0), []
    print(
        f"{'heatmap':8} {'target':15} {'decoder':8} {'flip':10} {'mean |dx|':>10} {'max |dx|':>10} {'bias':>9}   (input pixels)"
    )
    for size, sigma in SIZES.items():
        width, height = 4 * size[0], 4 * size[1]
        places = torch.rand(count // 4, 4, 2, generator=generator) * torch.tensor(
            [width * 0.5, height * 0.5]
        )
        keypoints = places + torch.tensor([width * 0.25, height * 0.25])
        for name, target in TARGETS.items():
            for decoder in ("argmax", "quarter", "dark"):
                for flip in ("", "none", "one_pixel", "exact"):
                    if target.kind == "simcc" and (
                        decoder == "quarter" or flip in ("one_pixel", "exact")
                    ):
                        continue  # these do not exist for SimCC
                    codec = replace(
                        target,
                        decoder=decoder,
                        sigma=sigma * 2 if target.kind == "simcc" else sigma,
                        flip_shift=flip or "none",
                    )
                    maps = perfect(keypoints, codec, (width, height), size)
                    if flip:
                        moved = 3 if flip == "exact" and not codec.udp else 0
                        mirrored = keypoints * torch.tensor([-1.0, 1.0]) + torch.tensor(
                            [width - 1.0 - moved, 0.0]
                        )
                        back = perfect(mirrored, codec, (width, height), size)
                        maps = flip_average(maps, back, np.arange(4), codec, (width, height))
                    found = error(maps, keypoints, codec, (width, height))
                    rows.append(
                        {
                            "heatmap_wh": size,
                            "target": name,
                            "decoder": decoder,
                            "flip": flip or "no flip",
                            "sigma": codec.sigma,
                            **found,
                        }
                    )
                    print(
                        f"{size[1]}x{size[0]:<5} {name:15} {decoder:8} {flip or 'no flip':10} {found['mean']:10.4f} {found['max']:10.4f} "
                        f"{found['bias']:+9.4f}"
                    )
    if output:
        write_json(output, {"unit": "input pixels", "keypoints": count, "rows": rows}, indent=True)


if __name__ == "__main__":
    main()
