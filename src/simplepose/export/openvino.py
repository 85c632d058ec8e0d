"""OpenVINO's files: an .xml with the weights in a .bin beside it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.openvino import PRECISION_KEY, import_openvino
from simplepose.export.graph import Material
from simplepose.export.int8 import AGREEMENT, TAILS, Agreement

RANKED = 32
"""Crops by which layers are ranked where they must go back to float."""
MOST_BACK = 12
"""Layers that go back to float, one after the other, before the gate has the last word."""


def write_openvino(material: Material, path: Path) -> None:
    """Weights and arithmetic in fp32."""
    _write(openvino_model(material), path, material)


def write_openvino_bf16(material: Material, path: Path) -> None:
    """Weights in fp32; the file says that bf16 may be computed in, where the processor has it."""
    model = openvino_model(material)
    model.set_rt_info("bf16", PRECISION_KEY)
    _write(model, path, material)


def openvino_model(material: Material) -> Any:
    """The graph as an `openvino.Model`."""
    return import_openvino("an export").convert_model(
        io.BytesIO(material.proto.SerializeToString())
    )


def _write(model: Any, path: Path, material: Material) -> None:
    """Writes both files, with the metadata of the graph."""
    for one in material.proto.metadata_props:
        model.set_rt_info(one.value, one.key)
    save(model, path)


def save(model: Any, path: Path) -> None:
    """Writes both files.

    Raises:
        OSError: they cannot be written.
    """
    try:
        import_openvino("an export").save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:  # "iostream error" on a full disk
        raise OSError("OpenVINO cannot write its files there") from error


def write_openvino_int8(material: Material, path: Path) -> None:
    """NNCF with accuracy control: layers go back to float until the poses agree."""
    model, agreement = openvino_model(material), Agreement(material)
    os.environ.setdefault("NNCF_CI", "1")  # reports nothing to its makers
    import nncf

    def validate(network: Any, rows: Iterable[int]) -> tuple[float, None]:
        def ask(fed: np.ndarray) -> dict[str, np.ndarray]:
            answers = network(fed)
            return {port.any_name: np.array(answers[port]) for port in network.outputs}

        return agreement(ask, list(rows)), None

    count = len(material.crops)
    crops = nncf.Dataset(range(count), lambda row: material.feed(material.crops[row : row + 1]))
    quantised = nncf.quantize_with_accuracy_control(
        model,
        crops,
        crops,
        validation_fn=validate,
        max_drop=1 - AGREEMENT,
        subset_size=count,
        ignored_scope=nncf.IgnoredScope(names=float_operations(model, TAILS[0]), validate=False),
        advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
            max_num_iterations=MOST_BACK, ranking_subset_size=RANKED
        ),
    )
    _write(quantised, path, material)


def float_operations(model: Any, tail: int) -> list[str]:
    """`float_nodes` of an OpenVINO graph."""
    operations = model.get_ordered_ops()
    convolutions = [one for one in operations if "Convolution" in one.get_type_name()]
    kept = {one.get_friendly_name() for one in convolutions[-tail:]}
    names = list[str]()
    for one in operations:
        before = {source.get_node().get_friendly_name() for source in one.input_values()}
        if one.get_friendly_name() in kept or before & set(names):
            names.append(one.get_friendly_name())
    return names
