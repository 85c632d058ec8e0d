"""`simplepose doctor`: versions, devices, data layout, annotations, pictures, detections; says in
advance why an AP would be 0 or -1."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from simplepose import __version__
from simplepose.commands.options import DoctorOptions
from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations
from simplepose.data.boxes import read_labelled_boxes
from simplepose.data.categories import tell_sides
from simplepose.data.coco import has_keypoints, load_file, read_coco
from simplepose.data.pictures import with_picture_sizes
from simplepose.data.source import DataLayout, find_layout
from simplepose.doctor.checks import (
    Finding,
    Level,
    check_annotations,
    check_detections,
    check_images,
    histograms,
    overview,
)
from simplepose.evaluation.coco import evaluate_boxes
from simplepose.evaluation.tasks import spell
from simplepose.report.findings import write_findings
from simplepose.report.html import check_page

PACKAGES = [
    "torch",
    "numpy",
    "opencv-python-headless",
    "scipy",
    "hotcoco",
    "msgspec",
    "safetensors",
    "pydantic",
    "tyro",
    "onnx",
    "onnxruntime",
    "openvino",
    "pycocotools",
    "tensorboard",
    "torch-npu",
]
BARS = 30
"""Width of the longest bar of a histogram, characters."""


def versions() -> list[str]:
    """One line a package: its version, or that it is not installed."""
    lines = [f"simplepose {__version__}, python {platform.python_version()}, {platform.platform()}"]
    for package in PACKAGES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        lines.append(f"  {package:<24}{version}")
    return lines


def devices() -> tuple[list[str], list[Finding]]:
    """The devices that are there, the one that will be used and why; or why torch cannot even be
    imported."""
    npu = importlib.util.find_spec("torch_npu") is not None
    try:
        from simplepose.core.device import choose_device, describe_devices

        chosen = choose_device("auto")
        lines = [f"  {line}" for line in describe_devices()]
    except UserError as error:
        return [], [Finding(level="broken", problem=str(error))]
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        problem = f"torch cannot be imported: {type(error).__name__}: {reason}"
        cure = "install torch again: pip install torch"
        if npu:
            cure = (
                "torch-npu is installed, and without CANN it breaks `import torch` itself: load "
                "CANN (source /usr/local/Ascend/ascend-toolkit/set_env.sh), set "
                "TORCH_DEVICE_BACKEND_AUTOLOAD=0 to leave it out, or pip uninstall torch-npu"
            )
        return [], [Finding(level="broken", problem=problem, cure=cure)]
    why = "the only device here" if chosen.type == "cpu" else "an accelerator goes before the CPU"
    lines.append(f"  used unless --device says otherwise: {chosen} ({why})")
    if npu and chosen.type != "npu":
        lines.append(
            "  torch-npu is installed but no NPU answers: load CANN first "
            "(source .../ascend-toolkit/set_env.sh)"
        )
    return lines, []


def examine(
    options: DoctorOptions, path: Path, images: Path, detections: Path | None
) -> tuple[list[str], list[Finding], Annotations | None]:
    """Facts and findings of one annotation file with its pictures and, if given, detections."""
    findings: list[Finding] = []
    try:
        try:
            annotations = read_coco(path, images, category=options.category)
            annotations = tell_sides(annotations, options.flip_pairs)
            kind, counts = "keypoints", overview(annotations)
        except UserError:
            if has_keypoints(load_file(path, str(path))):
                raise
            annotations = _read_boxes(options, path, images)
            problem = f"{path} has no keypoints, only boxes: no pose network can learn from it"
            cure = "train a detector, simplepose train person_lite0_320, or export the keypoints"
            findings = [Finding(level="warning", problem=problem, cure=cure)]
            kind = "classes"
            counts = {"pictures": len(annotations.image_ids), "boxes": len(annotations)}
        annotations = replace(annotations, upright=options.upright)
        annotations = with_picture_sizes(annotations, skip_broken=True)
    except UserError as error:
        return [], [Finding(level="broken", problem=error.problem, cure=error.cure)], None
    facts = [f"{path}: {len(annotations.schema)} {kind} ({annotations.schema.name})"]
    facts += [f"  {name:<24}{count}" for name, count in counts.items()]
    lost = annotations.left_out_note()[0]
    facts += [f"  note: {note}" for note in (*annotations.warnings, lost) if note]
    findings += check_annotations(annotations)
    limit = None if options.all_images else 200
    findings += check_images(annotations, limit)
    if detections is not None:
        found, boxes, covered = check_detections(detections, annotations)
        findings += found
        if boxes is not None:
            quality = spell(evaluate_boxes(annotations, boxes)["AP"], ".3f")
            pictures = len({*boxes.image_index.tolist()})
            who = "people with keypoints" if kind == "keypoints" else "boxes, of whatever class,"
            facts.append(
                f"{detections}: {len(boxes)} boxes on {pictures} pictures; {covered:.1%} of the "
                f"{who} have a box of IoU 0.5; box AP {quality}"
            )
    for title, counts in histograms(annotations).items():
        largest, column = max(1, *counts.values()), max(12, *map(len, counts))
        facts.append(f"  {title}")
        facts += [
            f"    {label:>{column}} {count:>8}  {'#' * round(BARS * count / largest)}"
            for label, count in counts.items()
        ]
    return facts, findings, annotations


def _read_boxes(options: DoctorOptions, path: Path, images: Path) -> Annotations:
    """A file without keypoints, as a detector reads it.

    Raises:
        UserError: it cannot be read so, or pairs of keypoints are named.
    """
    if options.flip_pairs:
        raise UserError(
            f"{path} has no keypoints that could be pairs of {options.flip_pairs}. "
            "Cure: leave --data.flip-pairs out, or export the keypoints"
        )
    return read_labelled_boxes(path, images, category=options.category)


def run(options: DoctorOptions) -> None:
    """The command line; exit status 1 where something is broken."""
    if (options.detections or options.images) and not (options.annotations or options.root):
        raise UserError(
            "--images and --detections are checked against annotations. "
            "Cure: add --annotations FILE"
        )
    if options.html is not None:
        check_page(options.html, "doctor", "--html")
    lines, findings = devices()
    facts = [*versions(), "devices", *lines]
    layout = None if options.root is None else find_layout(options.root)
    if layout is not None:
        facts += ["\n  ".join([f"data folder {layout.root}", *layout.report()])]
        findings += missing_pieces(layout)
    print("\n".join(facts))
    shown = _examine_all(options, layout, facts, findings)
    print("\n".join([f"findings: {len(findings) or 'none'}", *map(_said, findings)]))
    if options.html is not None:
        charts = {} if shown is None else histograms(shown)
        write_findings(options.html, facts, findings, charts, shown)
        print(f"wrote {options.html}")
    if any(finding.level == "broken" for finding in findings):
        raise SystemExit(1)


def _examine_all(
    options: DoctorOptions, layout: DataLayout | None, facts: list[str], findings: list[Finding]
) -> Annotations | None:
    """Adds the facts and findings of all annotation files; the first set, to draw from."""
    shown: Annotations | None = None
    for files in _jobs(options, layout):
        lines, found, annotations = examine(options, *files)
        print("\n".join(lines))
        facts += lines
        # Pictures are drawn from one set; the findings of the others are listed without.
        findings += found if shown is None else [replace(finding, rows=()) for finding in found]
        shown = shown or annotations
    return shown


def _said(finding: Finding) -> str:
    """A finding, its examples and its cure, a line each."""
    lines = [*finding.examples, *([f"Cure: {finding.cure}"] if finding.cure else [])]
    return "\n      ".join([f"  {finding.level}: {finding}", *lines])


def missing_pieces(layout: DataLayout) -> list[Finding]:
    """What a data folder lacks. Boxes of a detector and ImageNet backbones are wished for, not
    needed: ground-truth boxes and a random initialisation stand in."""
    found = []
    for name in layout.missing:
        optional = name in ("detections", "imagenet_weights")
        meanwhile = "; until then use --boxes gt" if name == "detections" else ""
        words = f"{name.replace('_', ' ')} missing, expected at {getattr(layout, name)}"
        level: Level = "warning" if optional else "broken"
        found.append(Finding(level=level, problem=words, cure=f"put it there{meanwhile}"))
    return found


def _jobs(
    options: DoctorOptions, layout: DataLayout | None
) -> Iterator[tuple[Path, Path, Path | None]]:
    """The annotation files to examine, with pictures and detections."""
    if options.annotations is not None:
        images = options.images or options.annotations.parent
        yield options.annotations, images, options.detections
    if layout is not None and layout.val_annotations.exists():
        own = layout.detections if layout.detections.exists() else None
        yield layout.val_annotations, layout.val_images, options.detections or own
    if layout is not None and layout.train_annotations.exists():
        yield layout.train_annotations, layout.train_images, None
