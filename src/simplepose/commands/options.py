"""The options of every command: parsed, and refused, before anything heavy is imported.

The command line calls `parse` and hands the result to `run` of the command's own file, which is
imported only then.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field

from simplepose.commands.parse import parse_words
from simplepose.config import (
    Colour,
    Config,
    DataConfig,
    EvaluateConfig,
    RayConfig,
    RecipeName,
    ServeConfig,
    Task,
    load_preset,
    preset_names,
)
from simplepose.core.errors import UserError
from simplepose.core.settings import (
    AtLeast0,
    AtLeast1,
    Flag,
    Fraction,
    Integer,
    Limit,
    NotNegative,
    PathText,
    Positive,
    Seed,
    settings,
)

FormatName = Literal[
    "onnx",
    "onnx-int8",
    "openvino",
    "openvino-bf16",
    "openvino-int8",
    "executorch",
    "coreml",
    "tensorrt",
    "cann",
]
"""`simplepose export --format`; `export.formats.FORMATS` has a row for each."""


@settings("data")
class HeldOutData:
    """The people to test on."""

    root: PathText = ""
    """Folder in the seed's layout, in place of --annotations and --images; its validation split is
    taken."""
    category: str = ""
    """Id or name of one category, where a file has several with different keypoints."""
    flip_pairs: PathText = ""
    """JSON or YAML file of left/right pairs, [[left, right], ...], names or indices from 0, or a
    schema file, in place of the network's own."""
    skip_broken: Flag = False
    """Leave unreadable pictures out and count them, instead of stopping at the first."""
    upright: Flag = False
    """Turn pictures as their EXIF orientation says: for one's own phone pictures that were
    annotated upright."""
    accept_findings: Flag = False
    """Go on where simplepose doctor finds the annotations broken."""


@settings()
class OnDevice:
    """Commands that run a network."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, npu, mps, xpu."""


@settings()
class HeldOutPeople(OnDevice):
    """Commands that test a network on annotated people."""

    annotations: PathText = ""
    """Annotations of the people, in the data set's own form (PoseTrack: their folder) or as
    simplepose convert wrote them; by default the validation split below --data.root."""
    images: PathText = ""
    """Folder of their pictures."""
    boxes: PathText = "gt"
    """Where people are: gt (as annotated), detections (the layout's file), the path of a detection
    file, or a detector (the run folder of your own, or starter-person)."""
    data: HeldOutData = HeldOutData()
    """The data layout, in place of --annotations and --images."""
    overwrite: Flag = False
    """Replace what an earlier test wrote."""

    def __post_init__(self) -> None:
        if bool(self.annotations) != bool(self.images):
            raise UserError(
                "--annotations and --images belong together. Cure: give both, or --data.root"
            )

    @property
    def config(self) -> DataConfig:
        """Where the data is, as the readers take it."""
        own = vars(self.data)
        return DataConfig(val_annotations=self.annotations, val_images=self.images, **own)


@settings()
class Networks(OnDevice):
    """Commands that find people and estimate their poses."""

    weights: PathText = ""
    """The pose network: run folder, .safetensors, .onnx or .xml file, hf:OWNER/NAME, or a name of
    simplepose weights list. By default what simplepose weights get people fetched, else starter,
    which comes with simplepose."""
    boxes: PathText = ""
    """Where people are: a detector (a name of simplepose weights list, the run folder of your own
    or its export, FILE.onnx, or hf:NAME for RT-DETR or DETR), FILE.json (boxes), whole, for
    pictures gt (of --annotations), for videos motion. By default what was fetched, else
    starter-person. Boxes of a file belong to the picture as stored, without its EXIF orientation,
    and are turned upright with it."""
    box_threshold: Fraction = 0.3
    """Boxes with a lower score are left out."""
    box_tta: Flag = False
    """Test-time augmentation of a detector of simplepose train: look at pictures mirrored and at
    twice the size as well. Finds more people, small ones above all; about six times the work."""
    flip_pairs: PathText = ""
    """JSON or YAML file of left/right pairs for the flip test, [[left, right], ...], names or
    indices from 0, or a schema file, in place of the network's own."""
    person_class: str = ""
    """A detector's class of people: its number, or its name in the file's metadata; by default the
    class named person, or 0 where the file names none."""


@settings()
class PeopleInPictures(Networks):
    """Those that also draw and write them."""

    keypoint_threshold: Fraction | None = None
    """Keypoints with a lower score are not drawn; by default the threshold of the network's own
    test, usually .2."""
    draw: str = ""
    """Also drawn, with commas between: boxes, scores, ellipses (where a keypoint is nine times in
    ten; of calibrated weights)."""
    table: Literal["none", "csv", "parquet"] = "none"
    """Also write poses.csv or poses.parquet."""
    overwrite: Flag = False
    """Write into an output folder that already holds something, and replace what is there."""

    def __post_init__(self) -> None:
        if others := set(filter(None, self.draw.split(","))) - set(self.style):
            raise UserError(
                f"--draw is {self.draw}: {others.pop()}. Cure: {', '.join(self.style)} or some"
            )

    @property
    def style(self) -> dict[str, bool]:
        """For `draw_poses`."""
        words = "boxes", "scores", "ellipses"
        return {word: word in self.draw.split(",") for word in words}


@settings()
class TrainOptions:
    """Trains a network. The options show the preset's values; DIR in --data.root has the seed's
    folder layout.

    example: simplepose train coco_r50_256x192_ms --data.root coco --output runs/first
    """

    preset: tyro.conf.Positional[str]
    """Preset, or path of a .yaml file; it comes first."""
    recipe: RecipeName | None = None
    """Take the same data, network and size by another recipe: ms (Microsoft's), tf (the seed's) or
    modern."""
    config: Annotated[Config, tyro.conf.arg(name="")] = Config()
    """The run."""


@settings()
class EvaluateOptions(HeldOutPeople):
    """Scores a network on annotated pictures and prints the task's numbers (COCO's ten) with preset
    and source of the boxes; of a detector, the box AP.

    example: simplepose evaluate runs/first --data.root coco --boxes detections
    """

    weights: tyro.conf.Positional[PathText]
    """Run folder, weight file (.safetensors, .onnx, .xml), starter, starter-person or
    hf:OWNER/NAME; or finished results, which are scored as simplepose score does."""
    box_tta: Flag = False
    """Test-time augmentation of the detector (the one that is tested, or that of --boxes): look at
    pictures mirrored and at twice the size as well."""
    epochs: str = ""
    """Epochs of a run with train.keep_every to test, a row each: FIRST:LAST:STEP (100:140:10, both
    ends belong to it), FIRST:LAST, or one epoch."""
    submission: str = ""
    """Name of the method: also write the zip that the COCO server takes, into the output folder."""
    output: PathText = ""
    """Folder for metrics.json and the results: predictions.json, for MPII predictions.mat, for
    PoseTrack predictions/ with a file a sequence; with --epochs for one folder of each epoch."""
    evaluator: Literal["hotcoco", "pycocotools"] = "hotcoco"
    """Which implementation scores; their numbers are equal."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the network; auto is bf16 where the hardware multiplies it natively."""
    channel_order: Literal["file", "rgb", "bgr"] = "file"
    """Channels the network expects: as the weight file says, or this (for ONNX files that say
    nothing: RGB)."""
    mean: Colour | None = None
    """Mean in units of 0..255, in place of the weight file's (ONNX files that say nothing:
    ImageNet's)."""
    std: tuple[Positive, Positive, Positive] | None = None
    """Deviation in units of 0..255, in place of the weight file's."""
    kind: Literal["file", "heatmap", "softmax", "simcc", "rtmpose"] = "file"
    """What the network puts out: as the weight file says (ONNX files that say nothing: heatmap, or
    rtmpose where there are two rows), or this."""
    decoder: Literal["file", "argmax", "quarter", "dark"] = "file"
    """How keypoints are read from heatmaps: as the weight file says, or this."""
    flip_shift: Literal["file", "none", "one_pixel", "exact"] = "file"
    """How the heatmaps of the mirrored crop are aligned: as the weight file says, or this."""
    evaluate: Annotated[EvaluateConfig, tyro.conf.arg(name="")] = EvaluateConfig()
    """The test; a trained run's own settings are the defaults."""


@settings()
class ScoreOptions:
    """Scores a finished result file.

    example: simplepose score results/predictions.json --annotations person_keypoints_val2017.json
    """

    results: tyro.conf.Positional[PathText]
    """Result .json of COCO, CrowdPose or OCHuman; poses.jsonl of predict or track, or their folder;
    MPII .mat or .h5; PoseTrack folder."""
    annotations: PathText = ""
    """The ground truth, in the data set's own form (PoseTrack: the folder; MPII: also gt_valid.mat)
    or as simplepose convert wrote it."""
    task: Task = "coco"
    """Whose measure."""
    category: str = ""
    """COCO: id or name of the one to score, where several have different keypoints."""
    exact_poseval: Flag = True
    """PoseTrack: as the original tool, whose quirks drop the last frame of each sequence; off:
    every annotated frame as it is."""
    ap_threshold: Annotated[Limit, Field(ge=float("-inf"))] = float("-inf")
    """PoseTrack: keypoints with a lower score do not count in AP; -inf counts every keypoint."""
    tracking_threshold: Annotated[Limit, Field(ge=float("-inf"))] = float("-inf")
    """PoseTrack: keypoints with a lower score do not count in the tracking numbers."""
    evaluator: Literal["hotcoco", "pycocotools"] = "hotcoco"
    """Which implementation scores OKS-AP; their numbers are equal."""
    output: PathText = ""
    """File for the numbers, a .json."""
    overwrite: Flag = False
    """Replace that file."""


@settings()
class ReportOptions(OnDevice):
    """Writes one page to look at: where a network errs, how a run goes, who was followed.

    example: simplepose report results --annotations person_keypoints_val2017.json --images val2017
    """

    results: tyro.conf.Positional[tuple[PathText, ...]]
    """A run folder, a result .json or poses.jsonl, or the folder of one; two are compared."""
    annotations: PathText = ""
    """The ground truth; of a run its own validation split by default, of a video with identities
    none is needed."""
    images: PathText = ""
    """Folder of the pictures (default: the folder of the annotations)."""
    task: Task = "coco"
    """Whose form the annotations have, and whose measure is taken. A run knows its own."""
    category: str = ""
    """COCO: id or name of the one to look at, where several have different keypoints."""
    weights: PathText = ""
    """Network whose heatmaps are shown; a run's own by default."""
    heatmaps: Flag = True
    """Show heatmaps where the network of a run, or weights, can be had."""
    people: Annotated[Integer, Field(ge=1, le=500)] = 60
    """Pictures of at most so many people."""
    output: PathText = ""
    """The page (.html); report.html in the run's or results' folder by default. Only an older
    report is replaced."""
    watch: Flag = False
    """Write the page again whenever the training run has written something, until it ends."""


@settings()
class PredictOptions(PeopleInPictures):
    """Estimates poses in pictures and draws them.

    example: simplepose predict photo.jpg
    """

    pictures: tyro.conf.Positional[tuple[PathText, ...]]
    """Pictures, folders, glob patterns or http addresses of pictures. A video is handed to
    simplepose track. With --engine ray also several videos, s3://BUCKET/FOLDER and .parquet files
    with a column path."""
    annotations: PathText = ""
    """COCO JSON whose `images` tell which picture has which image_id; by default the number in the
    file name, or the position where not every name has one of its own."""
    output: PathText = ""
    """Folder for the overlay pictures, poses.jsonl and results.json; by default predictions,
    predictions-2, ..."""
    flip_test: Flag = True
    """Average with the mirrored crop."""
    skip_broken: Flag = False
    """Leave unreadable pictures out and go on, also with a try that such a picture stopped."""
    engine: Literal["local", "ray"] = "local"
    """local: this process. ray: Ray Data, on this machine or the cluster that RAY_ADDRESS names;
    --output gets Parquet shards of poses, the same command goes on where it stopped."""
    ray: RayConfig = RayConfig()
    """For --engine ray."""


@settings()
class TrackOptions(PeopleInPictures):
    """Estimates and follows people through a video.

    example: simplepose track street.mp4
    """

    video: tyro.conf.Positional[PathText]
    """Video file, camera number or network address; also a folder or pattern of pictures, whose
    people are then not followed."""
    output: PathText = ""
    """Folder for the results; tracked/NAME, tracked/NAME-2, ... by default."""
    detect_every: AtLeast1 = 5
    """The detector looks at every so many frames; the tracker carries the boxes between them."""
    mode: Literal["flow", "oks", "iou"] = "flow"
    """Compare poses propagated by optical flow, poses as they stood, or boxes as they stood."""
    matching: Literal["greedy", "hungarian"] = "greedy"
    """Best pair first, or the assignment of largest sum."""
    flow: Literal["dis", "farneback"] = "dis"
    """Optical flow of the flow mode."""
    keep_frames: AtLeast0 = 30
    """Frames after which a person not seen is given up."""
    video_codec: Literal["auto", "h264", "mp4", "vp8", "vp9", "none"] = "auto"
    """Annotated video: h264 (needs ffmpeg on the path), mp4 (MPEG-4 part 2, for players on the
    desktop), vp8 or vp9 (.webm for browsers, slow), or none. auto: h264 where it can be, else
    mp4."""
    smooth: Flag = False
    """Steady the keypoints with a One Euro filter while the video runs."""
    smooth_after: NotNegative = 0.0
    """Steady the finished tracks without delay, with a Gaussian of so many frames; the files
    change, the annotated video does not."""
    fill_gaps: AtLeast0 = 0
    """Fill gaps of a track of up to so many frames in the finished files; what was filled is
    marked."""
    posetrack: Flag = False
    """Also write a PoseTrack folder for simplepose score --task posetrack, which needs a network
    with PoseTrack's 15 keypoints."""
    show: Flag = False
    """Open a window with the poses as they come, for cameras; q closes it and ends."""
    drop_frames: Flag = False
    """For cameras: leave out old frames where the camera is faster than the network, so that what
    comes out is not late. With --batch-frames 1 for the least delay."""
    frames: AtLeast0 = 0
    """Stop after so many frames; 0 is all."""
    flip_test: Flag = False
    """Average with the mirrored crop: twice the network's work."""
    batch_frames: AtLeast0 = 0
    """Frames whose crops go through the network together; 1 for the least delay, 0 lets the engine
    choose."""


@settings()
class ServeOptions(Networks):
    """Estimates poses of pictures that are sent over HTTP, and shows a page to try it.

    example: simplepose serve
    """

    host: str = "127.0.0.1"
    """Address to listen on: this machine alone; 0.0.0.0 for whoever reaches it."""
    port: Annotated[Integer, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes a free one."""
    flip_test: Flag = False
    """Average with the mirrored crop: twice the network's work."""
    serve: Annotated[ServeConfig, tyro.conf.arg(name="")] = ServeConfig()
    """Limits."""


@settings()
class PackOptions:
    """Writes every training person's region, with the margin the preset's strongest augmentation
    needs, into a folder of shards that training reads by byte range, wherever it lies.

    example: simplepose pack coco_r50_256x192_ms --data.root coco --output coco-packed
    """

    preset: tyro.conf.Positional[str]
    """Preset (or .yaml file) that will be trained: its augmentation and aspect decide margins and
    resolution."""
    output: PathText
    """The folder; its coco.json has COCO keypoints of the regions."""
    data: DataConfig = DataConfig()
    """Where the data is."""
    quality: Annotated[Integer, Field(ge=1, le=100)] = 90
    """Quality of the JPEGs: higher is larger, slower to decode, and closer to the pictures."""
    full_colour: Flag = False
    """Keep colour at full resolution (4:4:4), not at half as most photographs do."""
    estimate_only: Flag = False
    """Only say how large it will be and how long it will take."""
    shard: AtLeast1 = 1000
    """Pictures a shard: what is done again after an interruption."""
    overwrite: Flag = False
    """Replace a pack that is there."""


@settings()
class ImportOptions:
    """Brings weights of other programs into a checkpoint that knows its preprocessing.

    example: simplepose import pose_resnet_50.pth --as coco_r50_256x192_ms
    """

    file: tyro.conf.Positional[Path]
    """Weights of torchvision, timm, Microsoft, MMPose or TensorFlow (.pth, .pth.tar, .safetensors,
    .ckpt, .ckpt.index)."""
    preset: Annotated[str, tyro.conf.arg(name="as")]
    """Preset whose network they are, e.g. coco_r50_256x192_tf."""
    output: Path | None = None
    """Run folder or .safetensors file to write (default: runs/NAME of the file)."""
    backbone_only: Flag = False
    """Take the ResNet alone and leave the head at its initialisation: for ImageNet backbones and
    files of another skeleton."""
    schema: str = ""
    """Skeleton of the network: a known one, e.g. coco_17, or a JSON or YAML file with `keypoints`
    (and flip_pairs, skeleton, sigmas) or with COCO's categories (default: the one of the preset's
    data set)."""


@settings()
class WeightsOptions:
    """Lists known public weights, and downloads and verifies them on request.

    example: simplepose weights get people
    """

    action: tyro.conf.Positional[Literal["list", "get"]]
    """list shows the table; get downloads one row, verifies it and imports it where it is a pose
    network."""
    name: tyro.conf.Positional[str] = ""
    """Row to get; people gets a person detector and a pose network, which are then the default."""
    output: PathText = ""
    """Folder for the download and the imported checkpoint; ~/.cache/simplepose by default. Names
    are found there and in ./weights."""


@settings()
class ConvertOptions:
    """Turns annotations of MPII, PoseTrack, CrowdPose, OCHuman or COCO's kind into one COCO JSON
    file, or results into files of other programs.

    Several sets can be joined (`--also`), keypoints mapped to another schema, OKS sigmas set from a
    file or estimated.

    example: simplepose convert mpii mpii.mat --images images --output mpii.json

    example: simplepose convert results tracked/match --to openpose --output match_json
    """

    kind: tyro.conf.Positional[Literal[Task, "results"]]
    """The data set's own format, or results for what predict and track wrote."""
    input: tyro.conf.Positional[Path]
    """The annotation file; for PoseTrack also a folder of sequences; of results the folder or its
    poses.jsonl."""
    output: Path
    """The COCO-keypoints JSON file to write; of results the .csv or .h5 file of DeepLabCut, for
    OpenPose and OpenSim a folder."""
    to: Literal["coco", "openpose", "deeplabcut", "trc"] | None = None
    """Results: COCO annotations to correct in CVAT, Label Studio or FiftyOne, OpenPose's JSON files
    (Pose2Sim), DeepLabCut's table, or OpenSim's marker files."""
    visibility: tuple[Fraction, Fraction] = (0.2, 0.5)
    """Results to COCO: keypoints of at least the first score are labelled, as hidden (1), of at
    least the second as visible (2); the others are not labelled (0). Poses of a network with a
    visibility head say it themselves."""
    images: Path | None = None
    """Folder of the pictures; file names are written relative to it (default: the folder of INPUT;
    of results that of the pictures)."""
    also: tyro.conf.UseAppendAction[tuple[tuple[Task, Path, Path], ...]] = ()
    """Another set to join, three words: KIND INPUT IMAGES; once for each. File names become
    relative to the folder that holds all pictures."""
    category: str | None = None
    """Id or name of the category to take of COCO files that have several with different
    keypoints."""
    schema: str | None = None
    """Map the keypoints to this schema, e.g. coco_17 (default with --also: that of the first set);
    keypoints that a set lacks become unlabelled."""
    sigmas: Path | None = None
    """JSON file with one OKS sigma a keypoint: a list, or an object from name to number."""
    estimate_sigmas: Flag = False
    """Estimate the OKS sigmas from people that are annotated more than once."""
    overwrite: Flag = False
    """Replace OUTPUT if it exists; into a folder that holds something, write all the same."""

    def __post_init__(self) -> None:
        hidden, visible = self.visibility
        if hidden > visible:
            raise UserError(
                f"--visibility is {hidden:g} {visible:g}. Cure: the score of a hidden keypoint "
                "first, then that of a visible one, which is as high or higher"
            )


@settings()
class CalibrateOptions(HeldOutPeople):
    """Makes keypoint scores probabilities and pose scores expected OKS, fitted on people that were
    not trained on.

    example: simplepose calibrate runs/first --annotations held_out.json --images pictures
    """

    weights: tyro.conf.Positional[PathText]
    """Run folder, .safetensors file or exported network."""
    output: PathText = ""
    """The calibrated weights; WEIGHTS_calibrated.safetensors beside the weights by default (in the
    working folder for those that come with the package)."""


@settings("int8")
class Int8Data:
    """Pictures that the ranges of int8 are chosen by; none of them may be scored too."""

    annotations: PathText = ""
    """COCO annotations of people that the network may have been trained on."""
    images: PathText = ""
    """Folder of their pictures."""
    people: AtLeast1 = 300
    """People to take, spread over the file."""


@settings()
class ExportOptions(HeldOutPeople):
    """Writes a network for another runtime, opens it again, scores it beside the network, and
    gives it its name only if the numbers agree.

    example: simplepose export runs/first --format onnx --annotations val.json --images pictures
    """

    weights: tyro.conf.Positional[PathText]
    """Run folder or .safetensors file, of a detector too (onnx, openvino); for int8 and OpenVINO
    also an .onnx file of heatmaps."""
    format: FormatName
    """bf16: computed so where the processor can; int8: needs --int8.annotations; coreml: not
    verified; tensorrt, cann: ONNX for these compilers, whose command lines are printed."""
    graph: Literal["auto", "keypoints", "heatmaps"] = "auto"
    """keypoints: crops of bytes in, keypoints out, everything inside; heatmaps: the network alone;
    auto: keypoints where the format can."""
    output: PathText = ""
    """The file; beside the weights by default (in the working folder for those that come with the
    package). FILE.parity.json appears beside it."""
    device: str = "cpu"
    """The comparison runs on the processor."""
    flip_test: Flag = True
    """Put the flip test into keypoints, and compare with it."""
    int8: Int8Data = Int8Data()
    """What int8 is fitted to."""
    allow_loss: Fraction | None = None
    """AP (0..1) that may be lost; by default .001, and .005 for int8."""
    answers: Flag = False
    """Also write FILE.answers.npz: 16 inputs and what must come out, for a check on the device."""


@settings()
class AblationOptions(OnDevice):
    """Trains a recipe group by group of its fields under one budget and writes a table: AP mean and
    spread, delta, seconds an epoch.

    example: simplepose ablation coco_r50_256x192_modern --data.root coco --seeds 3
    """

    preset: tyro.conf.Positional[str]
    """The recipe, e.g. coco_r50_256x192_modern."""
    base: str = ""
    """The reference; by default the preset's ms recipe (_mini of _mini_modern)."""
    seeds: AtLeast1 = 3
    """Trainings of each variant; one alone says little."""
    epochs: AtLeast0 = 0
    """Budget of each training; 0 keeps the preset's."""
    output: PathText = ""
    """Folder of the trainings and the table; runs/ablation_PRESET by default."""
    data: DataConfig = DataConfig()
    """Where the data is."""


@settings()
class DoctorOptions:
    """Checks versions and devices, and data if given: layout, annotations, pictures, detections.

    Says in advance why an AP would be 0 or -1.

    example: simplepose doctor --data.root coco
    """

    root: Annotated[Path | None, tyro.conf.arg(name="data.root")] = None
    """Data folder in the usual layout (annotations/, dets/, images/); all that is there is
    checked."""
    annotations: Path | None = None
    """A COCO-keypoints JSON file to check."""
    images: Path | None = None
    """Folder of its pictures."""
    detections: Path | None = None
    """A detection file (COCO results) to check against the annotations."""
    category: str | None = None
    """Category id or name, where several have different keypoints."""
    upright: Annotated[Flag, tyro.conf.arg(name="data.upright")] = False
    """The pictures are turned as their EXIF orientation says, see `simplepose train`."""
    flip_pairs: Annotated[PathText, tyro.conf.arg(name="data.flip-pairs")] = ""
    """JSON or YAML file of left/right pairs, [[left, right], ...], names or indices from 0, or a
    schema file; by default the names tell them."""
    all_images: Flag = False
    """Decode every picture instead of 200 spread over the set."""
    html: Path | None = None
    """Write the findings with pictures to this one self-contained page (.html); only an older page
    of the doctor is replaced."""


@settings()
class DemoOptions(OnDevice):
    """Draws people, fine-tunes the starter network on them, evaluates it on others before and
    after, and draws what it finds.

    example: simplepose demo --output demo
    """

    output: PathText = "demo"
    """Folder for everything. A demo that was stopped goes on; drawings with other settings are
    never overwritten."""
    people: AtLeast1 = 400
    """Drawn people to train on."""
    val_people: AtLeast1 = 100
    """Drawn people to evaluate on."""
    seed: Seed = 0
    """Decides the drawings and the training."""
    epochs: AtLeast0 = 0
    """Epochs of the training; 0 takes two."""
    pictures: AtLeast1 = 12
    """Held-out pictures to predict and draw."""
    only_data: Flag = False
    """Draw the data set and stop."""


@settings()
class CompletionOptions:
    """Prints the script that makes a shell complete commands and options.

    example: simplepose completion bash > ~/.local/share/bash-completion/completions/simplepose
    """

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    """Which shell."""


OPTIONS: dict[str, type] = {
    "train": TrainOptions,
    "evaluate": EvaluateOptions,
    "score": ScoreOptions,
    "report": ReportOptions,
    "predict": PredictOptions,
    "track": TrackOptions,
    "serve": ServeOptions,
    "pack": PackOptions,
    "import": ImportOptions,
    "weights": WeightsOptions,
    "convert": ConvertOptions,
    "calibrate": CalibrateOptions,
    "export": ExportOptions,
    "ablation": AblationOptions,
    "doctor": DoctorOptions,
    "demo": DemoOptions,
    "completion": CompletionOptions,
}
"""Command -> class of its options."""


def parse(name: str, words: Sequence[str]) -> Any:
    """The options of the command `name` from the words that follow it.

    Raises:
        UserError: an option that does not exist, or a value that makes no sense.
    """
    if name == "train":
        return _parse_train(words)
    if name == "evaluate":
        return _parse_evaluate(words)
    return parse_words(OPTIONS[name], words, name=name)


def _parse_train(words: Sequence[str]) -> TrainOptions:
    """The preset decides what the other options are where they are not given."""
    first = words[0] if words else "--help"
    presets = ", ".join(preset_names())
    if first in ("-h", "--help", "--help-all"):
        note = f"presets, or a .yaml file: {presets}"
        return parse_words(TrainOptions, [first], name="train PRESET", note=note)
    if first.startswith("-"):
        raise UserError(
            f"the preset comes first, got {first}. "
            f"Cure: simplepose train PRESET {' '.join(words)}; presets: {presets}"
        )
    pairs = [*pairwise(words), *(word.split("=", 1) for word in words if "=" in word)]
    recipe = [value for option, value in pairs if option == "--recipe"]
    default = TrainOptions(preset=first, config=load_preset(first, *recipe[-1:]))
    return parse_words(TrainOptions, words, name=f"train {first}", default=default)


def _parse_evaluate(words: Sequence[str]) -> EvaluateOptions | ScoreOptions:
    """Results are scored: their options are those of `score`."""
    if not (words and _is_result(Path(words[0]))):
        options = parse_words(EvaluateOptions, words, name="evaluate")
        if not _is_result(Path(options.weights)):
            return _with_stored_settings(options, words)
    try:
        return parse_words(ScoreOptions, words, name="score")
    except UserError as error:
        raise UserError(f"results are scored, not tested: {error}") from error


def _is_result(path: Path) -> bool:
    """By its ending; of a folder by what lies in it."""
    return path.suffix.lower() in (".json", ".jsonl", ".mat", ".h5", ".hdf5") or (
        not any((path / name).exists() for name in ("checkpoints", "best.safetensors"))
        and any(path.glob("*.json*"))
    )


def _with_stored_settings(options: EvaluateOptions, words: Sequence[str]) -> EvaluateOptions:
    """The settings of the test that are not given are those the trained network carries."""
    from simplepose.evaluation.top_down import stored_settings, weights_of_epochs
    from simplepose.pose.checkpoints import find_weights, read_spec

    path = Path(options.weights)
    if options.epochs:
        weights = list(weights_of_epochs(options.weights, options.epochs).values())[-1]
    elif (weights := find_weights(path)).suffix != ".safetensors":
        return options
    stored = stored_settings(read_spec(weights), weights)
    default = EvaluateOptions(weights=options.weights, evaluate=stored)
    return parse_words(EvaluateOptions, words, name="evaluate", default=default)
