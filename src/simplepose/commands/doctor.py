"""`simplepose doctor`: versions, devices, data layout, annotations, pictures, detections; says in advance why an AP would be 0 or -1."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from dataclasses import replace
from pathlib import Path

from simplepose import __version__
from simplepose.commands.options import DoctorOptions
from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations
from simplepose.data.coco import read_coco
from simplepose.data.source import find_layout
from simplepose.doctor.checks import Finding, check_annotations
from simplepose.doctor.checks_inputs import check_detections, check_images
from simplepose.doctor.page import check_page, write_page
from simplepose.doctor.statistics import Histogram, histograms, overview
from simplepose.evaluation.coco import evaluate_boxes, spell

PACKAGES = (
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
)


def versions() -> list[str]:
    """One line a package: its version, or that it is not installed."""
    lines = [f"simplepose {__version__}, python {platform.python_version()}, {platform.platform()}"]
    for package in PACKAGES:
        try:
            lines.append(f"  {package:<24}{importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"  {package:<24}not installed")
    return lines


def devices() -> tuple[list[str], list[Finding]]:
    """The devices that are there, the one that will be used and why; or why torch cannot even be imported."""
    npu = importlib.util.find_spec("torch_npu") is not None
    try:
        from simplepose.core.device import choose_device, describe_devices

        chosen = choose_device("auto")
        lines = [f"  {line}" for line in describe_devices()]
    except UserError as error:
        return [], [Finding(level="broken", problem=str(error), count=1)]
    except Exception as error:
        problem = f"torch cannot be imported: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return [], [Finding(level="broken", problem=problem, count=1, cure=_torch_cure(npu))]
    why = "the only device here" if chosen.type == "cpu" else "an accelerator goes before the CPU"
    lines.append(f"  used unless --device says otherwise: {chosen} ({why})")
    if npu and chosen.type != "npu":
        lines.append(
            "  torch-npu is installed but no NPU answers: load CANN first (source .../ascend-toolkit/set_env.sh)"
        )
    return lines, []


def _torch_cure(npu: bool) -> str:
    if npu:
        return (
            "torch-npu is installed, and without CANN it breaks `import torch` itself: load CANN (source "
            "/usr/local/Ascend/ascend-toolkit/set_env.sh), set TORCH_DEVICE_BACKEND_AUTOLOAD=0 to leave it out, or pip uninstall torch-npu"
        )
    return "install torch again: pip install torch"


def examine(
    annotations_path: Path,
    images: Path,
    detections: Path | None,
    category: str | None,
    all_images: bool,
) -> tuple[list[str], list[Finding], list[Histogram], Annotations | None]:
    """Facts, findings and histograms of one annotation file with its pictures and, if given, detections."""
    try:
        annotations = read_coco(annotations_path, images, category=category)
    except UserError as error:
        return (
            [],
            [Finding(level="broken", problem=error.problem, count=1, cure=error.cure)],
            [],
            None,
        )
    facts = [f"{annotations_path}: {len(annotations.schema)} keypoints ({annotations.schema.name})"]
    facts += [f"  {name:<24}{count}" for name, count in overview(annotations).items()]
    facts += [f"  note: {warning}" for warning in annotations.warnings]
    findings = check_annotations(annotations) + check_images(
        annotations, None if all_images else 200
    )
    if detections is not None:
        found, numbers, boxes = check_detections(detections, annotations)
        findings += found
        if boxes is not None:
            quality = evaluate_boxes(annotations, boxes)["AP"]
            facts.append(
                f"{detections}: {numbers['boxes']:.0f} boxes on {numbers['pictures']:.0f} pictures; {numbers['coverage']:.1%} of the "
                f"people with keypoints have a box of IoU 0.5; box AP {spell(quality, '.3f')}"
            )
    return facts, findings, histograms(annotations), annotations


def run(options: DoctorOptions) -> None:
    """The command line; exit status 1 where something is broken."""
    if (options.detections or options.images) and not (options.annotations or options.root):
        raise UserError(
            "--images and --detections are checked against annotations. Cure: add --annotations FILE"
        )
    if options.html is not None:
        check_page(options.html)
    device_lines, findings = devices()
    facts = [*versions(), "devices", *device_lines]
    print("\n".join(facts))
    charts: list[Histogram] = []
    shown: Annotations | None = None
    for annotations_path, images, detections in _jobs(options, facts, findings):
        lines, found, bars, annotations = examine(
            annotations_path, images, detections, options.category, options.all_images
        )
        for bar in bars:
            lines += [f"  {bar.title}", *(f"  {line}" for line in bar.lines())]
        print("\n".join(lines))
        facts += lines
        # pictures are drawn from one set; the findings of the others are listed without
        findings += found if shown is None else [replace(finding, rows=()) for finding in found]
        charts, shown = (charts, shown) if shown is not None else (bars, annotations)
    print(f"findings: {len(findings) or 'none'}")
    for finding in findings:
        print(f"  {finding.level}: {finding.count} {finding.problem}")
        for example in finding.examples:
            print(f"      {example}")
        if finding.cure:
            print(f"      Cure: {finding.cure}")
    if options.html is not None:
        write_page(options.html, facts, findings, charts, shown)
        print(f"wrote {options.html}")
    if any(finding.level == "broken" for finding in findings):
        raise SystemExit(1)


def _jobs(
    options: DoctorOptions, facts: list[str], findings: list[Finding]
) -> list[tuple[Path, Path, Path | None]]:
    """The annotation files to examine, with pictures and detections; missing pieces of a layout become findings."""
    jobs: list[tuple[Path, Path, Path | None]] = []
    if options.annotations is not None:
        jobs.append(
            (options.annotations, options.images or options.annotations.parent, options.detections)
        )
    if options.root is not None:
        layout = find_layout(options.root)
        lines = [f"data folder {options.root}", *(f"  {line}" for line in layout.report())]
        print("\n".join(lines))
        facts += lines
        for name in layout.missing:
            # boxes of a detector and ImageNet trunks are wished for, not needed: ground-truth boxes and random weights stand in
            optional = name in ("detections", "imagenet_weights")
            findings.append(
                Finding(
                    level="warning" if optional else "broken",
                    problem=f"{name.replace('_', ' ')} missing, expected at {getattr(layout, name)}",
                    count=1,
                    cure="put it there; until then use --boxes gt"
                    if name == "detections"
                    else "put it there",
                )
            )
        if layout.val_annotations.exists():
            found = options.detections or (
                layout.detections if layout.detections.exists() else None
            )
            jobs.append((layout.val_annotations, layout.val_images, found))
        if layout.train_annotations.exists():
            jobs.append((layout.train_annotations, layout.train_images, None))
    return jobs
