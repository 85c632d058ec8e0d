"""Files for telephones: the network alone, for ExecuTorch and Core ML."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch

from simplepose.export.graph import Material
from simplepose.pose.checkpoints import METADATA_KEY

MOST_CROPS = 16
"""ExecuTorch takes as many at once: it lays out memory for all of them."""


def write_executorch(material: Material, path: Path) -> None:
    """fp32 with the kernels of XNNPACK, for ARM and x86 processors."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    batch = torch.export.Dim("batch", min=1, max=MOST_CROPS)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            _network(material), (_example(material),), dynamic_shapes=({0: batch},)
        )
        lowered = to_edge_transform_and_lower(
            program,
            partitioner=[XnnpackPartitioner()],
            constant_methods={METADATA_KEY: material.spec.to_json()},
        )
        path.write_bytes(lowered.to_executorch().buffer)


def write_coreml(material: Material, path: Path) -> None:
    """Half precision, for macOS 12 and iOS 15; only there it can be run."""
    import coremltools

    example = _example(material)
    batch = coremltools.RangeDim(1, 64, default=1)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = coremltools.convert(
            torch.jit.trace(_network(material), example),
            inputs=[
                coremltools.TensorType(
                    name=material.input_name,
                    shape=coremltools.Shape((batch, *example.shape[1:])),
                )
            ],
            outputs=[coremltools.TensorType(name=material.proto.graph.output[0].name)],
            convert_to="mlprogram",
        )
    model.user_defined_metadata[METADATA_KEY] = material.spec.to_json()
    model.save(str(path))


def _network(material: Material) -> Any:
    """A copy whose weights lie in the usual order, which ExecuTorch wants."""
    assert material.model is not None
    network: Any = copy.deepcopy(material.model.network)
    return network.to(memory_format=torch.contiguous_format)


def _example(material: Material) -> torch.Tensor:
    """Two normalised crops."""
    width, height = material.spec.input_size_wh
    return torch.zeros(2, 3, height, width)
