"""What `simplepose train` says to type next."""

from __future__ import annotations

import json
from pathlib import Path

from simplepose.commands.train import evaluate_command
from simplepose.config import Config, DataConfig, load_preset
from simplepose.data.source import find_layout


def test_the_evaluation_that_fits_the_data(tmp_path: Path) -> None:
    def command(**data: str) -> str:
        return evaluate_command("run", Config(data=DataConfig(**data)))

    (tmp_path / "my data").mkdir()
    root = str(tmp_path / "my data")
    layout = find_layout(root)
    placeholders = "simplepose evaluate run --annotations FILE --images DIR --boxes gt"
    assert (
        command()
        == command(root=root)
        == command(root="absent")
        == command(train_annotations="t.json", train_images="t")
        == placeholders
    )
    assert (
        command(val_annotations="v.json", val_images="v")
        == "simplepose evaluate run --annotations v.json --images v --boxes gt"
    )
    for path, boxes in ((layout.val_annotations, "gt"), (layout.detections, "detections")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({}))
        assert command(root=root) == f"simplepose evaluate run --data.root '{root}' --boxes {boxes}"
    assert f"--annotations v.json --images '{layout.val_images}'" in command(
        root=root, val_annotations="v.json"
    )
    assert command(val_annotations="v.json", val_images="v", category="2").endswith(
        "--boxes gt --data.category 2"
    )


def test_a_detector_is_tested_without_boxes() -> None:
    command = evaluate_command("run", load_preset("person_lite0_320"))
    assert command == "simplepose evaluate run --annotations FILE --images DIR"
