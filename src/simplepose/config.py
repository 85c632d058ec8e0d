"""The settings of a run: one tree of frozen dataclasses that check themselves, and its presets.

Every field and its limits stand here and nowhere else. This module imports only `core`, so that a
command can parse its options before torch is there; the rooms take the section that they need from
it. A preset is YAML; it may name a `base` preset and then lists only what differs. Fields marked
`Recipe` make a recipe: they come with a preset, and only `--help-all` lists their options.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field

from simplepose.core.errors import UserError, nearest, shown
from simplepose.core.files import decode_yaml, read_bytes
from simplepose.core.settings import (
    AtLeast0,
    AtLeast1,
    Flag,
    Fraction,
    Integer,
    IntegerOf,
    NotNegative,
    Number,
    PathText,
    Positive,
    Recipe,
    Seed,
    build,
    settings,
    to_plain,
)

StrideStyle = Literal["3x3", "1x1"]
BackboneName = Literal[
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "efficientnet_lite0"
]
Head = Literal["heatmap", "heatmap_light", "heatmap_depthwise", "simcc", "boxes"]
Initialisation = Literal["ms", "tf", "torch"]
RecipeName = Literal["ms", "tf", "modern"]
Task = Literal["coco", "crowdpose", "ochuman", "mpii", "posetrack"]
"""A data set whose benchmark has a measure; `coco` also stands for everybody's own keypoints."""
GroundTruthBoxes = Literal["clipped", "annotated", "everybody"]
"""Which boxes of the ground truth a test is given, see `data.annotations.ground_truth_boxes`."""
Colour = tuple[Number, Number, Number]
PRESETS = resources.files("simplepose") / "presets"

IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


@settings("data")
class DataConfig:
    """Where the data is."""

    root: PathText = ""
    """Folder in the seed's layout: annotations/, dets/, images/{train2017,val2017}/,
    imagenet_weights/."""
    train_annotations: PathText = ""
    """COCO-keypoints JSON to train on, in place of the layout's."""
    train_images: PathText = ""
    """Its pictures."""
    more_annotations: Recipe[tuple[PathText, ...]] = ()
    """More COCO-keypoints files to train on; their keypoints are mapped by name."""
    more_images: Recipe[tuple[PathText, ...]] = ()
    """The folder of pictures of each of them."""
    val_annotations: PathText = ""
    """COCO-keypoints JSON to evaluate on, in place of the layout's."""
    val_images: PathText = ""
    """Its pictures."""
    category: str = ""
    """Id or name of one category, where a file has several with different keypoints."""
    flip_pairs: PathText = ""
    """JSON or YAML file of left/right pairs, [[left, right], ...], names or indices from 0, or a
    schema file; by default the names tell them. Without pairs nothing is mirrored."""
    boxes: PathText = "gt"
    """Boxes of the evaluation during training: gt, detections (the layout's file) or a detection
    file."""
    skip_broken: Flag = False
    """Leave unreadable pictures out and count them, instead of stopping at the first; also in
    `simplepose pack`."""
    upright: Flag = False
    """Turn pictures as their EXIF orientation says: for one's own phone pictures that were
    annotated upright. COCO's belong to the raster as stored."""
    accept_findings: Flag = False
    """Go on where `simplepose doctor` finds the annotations broken."""
    workers: AtLeast0 = 0
    """Threads that read and cut pictures; 0: one for each core, shared among the processes of this
    machine."""
    cache: Literal["auto", "files", "pack", "ram", "device"] = "auto"
    """Where pixels are while training: decoded again from the files each time, in a pack, or
    decoded once into the memory of the host or of the device. auto takes the fastest that fits and
    says why."""
    pack: PathText = ""
    """The folder that `simplepose pack` wrote, or where it was copied to (https://HOST/FOLDER,
    s3://BUCKET/FOLDER), for cache pack."""
    warp: Recipe[Literal["auto", "host", "device"]] = "auto"
    """Who cuts crops out of pictures: the host with OpenCV, or the device, all crops of a batch at
    once. auto: an accelerator does."""
    shard: Recipe[Flag] = False
    """Several processes: each caches only its own part of the people and shuffles inside it."""

    @property
    def threads(self) -> int:
        """How many `workers` are."""
        from simplepose.core.device import own_cores

        return self.workers or own_cores()


@settings("ray")
class RayConfig:
    """How Ray works."""

    workers: AtLeast0 = 0
    """Processes with a network each; 0: as many as the cluster's processors or GPUs allow."""
    num_gpus: NotNegative = 0.0
    """GPUs of each worker; a fraction lets several share one."""
    num_cpus: AtLeast1 = 1
    """Processors of each worker."""
    shard: AtLeast1 = 256
    """Pictures a shard: what is done again when a worker dies, and held in its memory."""
    overlays: Flag = False
    """Also draw each picture, into overlays/ of a local --output."""


@settings("pixels")
class PixelConfig:
    """Channel order and normalisation: (pixel - mean) / std, in that order of channels."""

    channel_order: Literal["rgb", "bgr"] = "rgb"
    """Order in which the network sees the channels; both references were trained on OpenCV's
    BGR."""
    mean: Colour = IMAGENET_MEAN
    """Subtracted, in units of 0..255, one for each channel in `channel_order`."""
    std: tuple[Positive, Positive, Positive] = IMAGENET_STD
    """Divided by, in units of 0..255."""


@settings("model")
class ModelConfig:
    """What the network looks like and how its weights begin. The keypoint count comes from the
    schema."""

    backbone: BackboneName = "resnet50"
    """What turns pictures into features: a ResNet, or EfficientNet-Lite0 (3.4 M parameters, for
    small machines)."""
    width: Recipe[AtLeast1] = 64
    """Channels of a ResNet's first stage: 64 in every published one; fewer make a small network for
    small machines."""
    stride_style: Recipe[StrideStyle] = "3x3"
    """Convolution of a bottleneck that halves the map: 3x3 (torchvision, Microsoft's default, the
    seed) or 1x1 (caffe)."""
    head: Recipe[Head] = "heatmap"
    """What follows the backbone: deconvolutions and one map a keypoint (the paper); its features
    added coarse to fine, which takes fewer multiplications (light) and fewer still with depthwise
    convolutions; two 1-D distributions a keypoint (SimCC, with `codec.kind` simcc); or the maps of
    a detector, one of centres a class and four of boxes (boxes)."""
    deconv_layers: Recipe[IntegerOf[Literal[0, 2, 3]]] = 3
    """Steps that double the map: 3 gives heatmaps of a quarter of the input's size, 2 of an eighth;
    only the SimCC head takes 0."""
    deconv_kernel: Recipe[IntegerOf[Literal[2, 3, 4]]] = 4
    """Kernel of the deconvolutions: 2, 3 or 4."""
    deconv_filters: Recipe[AtLeast1] = 256
    """Channels of each deconvolution, or of a light head."""
    output_kernel: Recipe[IntegerOf[Literal[1, 3]]] = 1
    """Kernel of the output convolution: 1 or 3."""
    batch_norm_momentum: Recipe[Annotated[Number, Field(gt=0, le=1)]] = 0.1
    """Weight of the newest batch in the running statistics: .1 in PyTorch and Microsoft's code, .01
    in the seed."""
    batch_norm_eps: Recipe[Annotated[Number, Field(gt=0, lt=1)]] = 1e-5
    """Added to the variance: 1e-5 in PyTorch; the seed writes 1e-9, which TensorFlow's fused kernel
    raises to 1.001e-5."""
    initialisation: Recipe[Initialisation] = "ms"
    """Whose initialisation: ms (Kaiming backbone, normal .001 head), tf (the seed: truncated
    normals, .01 in the head), torch (its defaults)."""
    init: PathText = ""
    """ImageNet backbone file that training starts from (torchvision, timm, TensorFlow, ...); auto
    takes it from the layout's imagenet_weights folder or from an installed package that brings it;
    empty starts from the initialisation."""
    visibility: Recipe[Flag] = False
    """A small head beside it that says whether each keypoint is absent, hidden or visible (v of
    COCO's files); the pose is trained as without it."""
    zero_init_last_bn_gamma: Recipe[Flag] = False
    """Start every residual block as its shortcut, by a zero in its last batch norm; only matters
    without an ImageNet backbone."""

    def __post_init__(self) -> None:
        usual = (self.width, self.stride_style) == (64, "3x3")
        if not usual and not self.backbone.startswith("resnet"):
            raise UserError(
                f"model.width is {self.width} and model.stride_style {self.stride_style}, "
                f"which only ResNets have; model.backbone is {self.backbone}. "
                "Cure: leave both out, or choose a ResNet"
            )
        if self.deconv_layers == 0 and self.head != "simcc":
            raise UserError(
                f"model.deconv_layers is 0 and model.head {self.head}. "
                "Cure: --model.deconv-layers 2 or 3, or --model.head simcc"
            )
        if self.visibility and self.head == "boxes":
            raise UserError(
                "model.visibility is on and model.head boxes, which finds no keypoints. "
                "Cure: leave model.visibility out"
            )

    @property
    def heatmap_stride(self) -> int:
        """Input pixels a heatmap pixel: 4 with three doublings, 8 with two."""
        return 32 >> self.deconv_layers


@settings("codec")
class CodecConfig:
    """How keypoints become heatmaps and heatmaps keypoints."""

    sigma: Positive = 2.0
    """Width of the target Gaussian in heatmap pixels: 2 at 64x48, 3 at 96x72, 1 at 32x24."""
    adaptive_sigma: Flag = False
    """`sigma` counts at 64x48 and grows with the square root of the map's height elsewhere: 2 means
    1.41 at 32x24 and 2.45 at 96x72."""
    kind: Literal["heatmap", "softmax", "simcc", "rtmpose"] = "heatmap"
    """What the network puts out: the map itself, trained by squared error (both references); logits
    whose softmax over the map is a distribution, trained by cross-entropy; logits of two
    distributions, over x and over y (SimCC, head `simcc`; `sigma` is in input pixels there); the
    rows of RTMPose's published networks, which are read, not trained."""
    peak: Positive = 1.0
    """Height of the target: 255 in tf, 1 in ms. Scores are divided by it."""
    center: Literal["floor", "truncate", "exact"] = "truncate"
    """Where the Gaussian stands: floor(x + .5) in tf, int(x + .5) in ms (truncates toward 0), or
    the true sub-pixel position."""
    truncate: Flag = True
    """Cut the Gaussian to a (6 sigma + 1) square (ms), or keep it whole (tf)."""
    trained_when: Literal["inside", "patch"] = "patch"
    """A visible keypoint is trained when it lies inside the crop (tf), or when any part of its
    3-sigma patch meets the map (ms)."""
    decoder: Literal["argmax", "quarter", "dark"] = "quarter"
    """Sub-pixel step after the peak: none; a quarter pixel toward the higher neighbour (both
    references); a Newton step on the logarithm of the smoothed map (DARK)."""
    flip_shift: Literal["none", "one_pixel", "exact"] = "one_pixel"
    """Alignment of the flipped map: none; one heatmap column to the right (both references); exact
    (the mirrored input moves by stride - 1 pixels). Maps in UDP units are aligned as they are, so
    that nothing is moved there."""
    udp: Flag = False
    """Unit convention of crop, heatmap and back-projection: see the module `geometry`."""
    zero_without_peak: Flag = True
    """Put keypoints whose peak is not positive at heatmap position 0 (ms); tf leaves them where the
    argmax fell."""

    @property
    def has_rows(self) -> bool:
        """Whether the network puts out a row over x and one over y, not maps."""
        return self.kind in ("simcc", "rtmpose")

    @property
    def moves_column(self) -> bool:
        """Whether the map of the mirrored input is moved by a column after it was mirrored back."""
        return self.flip_shift == "one_pixel" and not self.udp

    def sigma_at(self, heatmap_size_wh: tuple[int, int]) -> float:
        """Width of the target on a map of this size, in its pixels."""
        return self.sigma * (heatmap_size_wh[1] / 64) ** 0.5 if self.adaptive_sigma else self.sigma


@settings("augment")
class AugmentConfig:
    """Random changes of a training sample."""

    scale_factor: Annotated[Number, Field(ge=0, le=0.95)] = 0.3
    """Region size x clip(N * f + 1, 1 - f, 1 + f), N standard normal (both references: .3 for COCO,
    .25 for MPII)."""
    rotation_degrees: Annotated[Number, Field(ge=0, le=180)] = 40.0
    """Rotation clip(N * r, -2r, 2r) degrees (40 for COCO, 30 for MPII)."""
    rotation_probability: Fraction = 0.6
    """How often a sample is rotated at all."""
    flip_probability: Fraction = 0.5
    """How often the picture is mirrored."""
    half_body_probability: Fraction = 0.0
    """How often only the upper or the lower body is shown, where enough keypoints are annotated."""
    half_body_min_keypoints: AtLeast0 = 8
    """Half body needs more annotated keypoints than this."""
    shift_factor: Fraction = 0.0
    """The region moves by up to this fraction of its width and height, evenly drawn: boxes of
    detectors are not centred either."""
    colour: Fraction = 0.0
    """Brightness, contrast and saturation are each multiplied by an even draw from 1 - c .. 1 +
    c."""
    cutout_probability: Fraction = 0.0
    """How often one rectangle of the crop is filled with its mean colour, so that what is hidden
    must be inferred."""
    grid_probability: Fraction = 0.0
    """How often a grid of squares is filled in the same way (GridMask, Chen et al. 2020)."""
    weak_epochs: AtLeast0 = 0
    """The last so many epochs keep the mirror and half the scale, rotation and shift, and change
    nothing else."""


@settings("train")
class TrainConfig:
    """The training loop."""

    epochs: AtLeast1 = 140
    """Times that every person of the training data is seen."""
    batch_size: AtLeast1 = 32
    """People a step on each device."""
    last_batch: Recipe[Literal["smaller", "fill"]] = "smaller"
    """Last batch of an epoch: as small as it comes (ms), or completed with people of the next epoch
    (tf, whose batches are always full)."""
    optimizer: Recipe[Literal["adam", "adamw"]] = "adam"
    """Adam with coupled L2 (the references), or AdamW with decoupled decay."""
    learning_rate: NotNegative = 1e-3
    """Learning rate before the first drop: 5e-4 in tf, 1e-3 in ms."""
    weight_decay: Recipe[NotNegative] = 0.0
    """Decay of the convolution and deconvolution kernels only; never of norms and biases. 1e-5 in
    tf; 0 in ms, whose 1e-4 never reaches Adam."""
    divide_decay: Recipe[Flag] = False
    """Divide the decay by the number of devices, as the seed, whose penalty stands in one device's
    loss only."""
    adam_epsilon: Recipe[Literal["torch", "tf"]] = "torch"
    """Where Adam adds its 1e-8: to the corrected root of the second moment (torch) or to the
    uncorrected one (tf, the seed)."""
    schedule: Recipe[Literal["steps", "flat_cosine"]] = "steps"
    """How the learning rate falls: by `drop_factor` at `drop_epochs` (both references); or it stays
    for `flat_fraction` of the run, then follows half a cosine down to zero."""
    flat_fraction: Recipe[Fraction] = 0.5
    """Fraction of the run, warm-up included, before the cosine begins."""
    warmup_epochs: Recipe[NotNegative] = 0.0
    """Epochs over which the learning rate rises linearly from zero, under either schedule."""
    drop_epochs: Recipe[tuple[AtLeast0, ...]] = (90, 120)
    """Epochs (from 0) at whose start the learning rate falls, under `steps`."""
    drop_factor: Recipe[NotNegative] = 0.1
    """What the learning rate is multiplied by at a drop."""
    count_from_one: Recipe[Flag] = False
    """Number iterations from 1 as the seed: the last step of an epoch already has the next epoch's
    learning rate."""
    loss_factor: Recipe[NotNegative] = 0.5
    """In front of the mean squared heatmap error: 1 in tf, .5 in ms."""
    hard_keypoints: Recipe[AtLeast0] = 0
    """Only the loss of this many worst keypoints of each person counts (online hard keypoint
    mining, Chen et al. 2018); 0: all count."""
    clip_gradient: Recipe[NotNegative] = 0.0
    """Longest gradient of an update: a longer one is shortened to this norm; 0: never."""
    backbone_learning_rate_factor: Recipe[NotNegative] = 1.0
    """The backbone's learning rate as a multiple of the head's, e.g. .1 where an ImageNet backbone
    should keep what it knows."""
    frozen_stages: Recipe[Annotated[Integer, Field(ge=0, le=4)]] = 0
    """Stages of the backbone, finest first, that keep the weights and batch-norm statistics they
    begin with: the first is a third of a small network's work, and ImageNet has taught it edges and
    colours already."""
    teacher: PathText = ""
    """Weights (run folder, .safetensors or .onnx) of a strong network whose heatmaps are learned
    beside the annotations."""
    teacher_fraction: Recipe[Fraction] = 0.5
    """The teacher's part of the target, 0 to 1."""
    weights: PathText = ""
    """Run folder or weight file to fine-tune from; an output layer for other keypoints is left out
    and named."""
    quantize: Recipe[Flag] = False
    """Round weights and activations to 8 bits in training, so that an export to int8 loses less:
    for the last epochs of fine-tuning, from `weights`."""
    continue_from: PathText = ""
    """TensorFlow snapshot (snapshot_100.ckpt) whose run goes on here: its weights, Adam's moments
    and count of updates, from the epoch after the snapshot's to the last one of `epochs`."""
    continue_epoch: Recipe[AtLeast0 | None] = None
    """Epochs behind that snapshot; None: the number in its name, or else Adam's count of updates
    where it is still in the file and is a whole number of this run's epochs."""
    seed: Seed = 0
    """Decides initialisation, order and augmentation."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, npu, mps, xpu."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic of the forward and backward pass; auto is bf16 where the hardware multiplies it
    natively."""
    channels_last: Recipe[Flag] = True
    """Keep activations channels-last, faster on most hardware."""
    evaluate_every: AtLeast0 = 10
    """Epochs between evaluations; the last epoch is always evaluated. 0: never."""
    keep_every: AtLeast0 = 0
    """Epochs between weights that are kept for good, `checkpoints/epoch_010.safetensors`, for
    `simplepose evaluate RUN --epochs`. 0: only `best` and `last` are kept."""
    accumulate: AtLeast1 = 1
    """Parts a batch is cut into, one forward and backward each before the update: for batches that
    do not fit into memory."""
    ema: Recipe[Annotated[Number, Field(ge=0, lt=1)]] = 0.0
    """Decay of the moving average of the weights that is evaluated and saved, e.g. .9998; 0:
    none."""
    compile: Literal["off", "on", "graphs"] = "off"
    """Let torch.compile fuse the step, or also record it as a device graph."""
    sync_batch_norm: Recipe[Flag] = False
    """Several processes: batch norm over the samples of all of them."""
    scale_learning_rate: Recipe[Literal["none", "linear"]] = "none"
    """Several processes: keep the learning rate, or multiply it by their number (Goyal et al.
    2017)."""
    save_every_minutes: NotNegative = 10.0
    """The last checkpoint is written this often within an epoch, and after each epoch."""
    timeout_minutes: Recipe[Positive] = 10.0
    """Several processes: how long a silent one is waited for."""
    tensorboard: Flag = False
    """Also write TensorBoard files (extra `tensorboard`)."""

    def __post_init__(self) -> None:
        if self.continue_epoch is not None and not self.continue_from:
            raise UserError(
                f"train.continue_epoch is {self.continue_epoch}, but train.continue_from names "
                "no snapshot. Cure: --train.continue-from FILE, or leave it away"
            )
        if self.compile == "graphs" and self.accumulate > 1:
            raise UserError(
                "train.compile graphs records a step whose gradients lie in its own memory, so "
                f"train.accumulate {self.accumulate} would overwrite them. "
                "Cure: --train.compile on, or --train.accumulate 1"
            )


@settings("evaluate")
class EvaluateConfig:
    """How a network is tested."""

    task: Task = "coco"
    """Whose test: COCO's, also for everybody's own keypoints, CrowdPose's, OCHuman's, MPII's (PCKh)
    or PoseTrack's (AP of poseval)."""
    ground_truth_boxes: GroundTruthBoxes = "annotated"
    """Boxes that gt means: clipped to the picture (ms); annotated, as they are; or of everybody,
    crowds and people without keypoints too (tf)."""
    flip_test: Flag = True
    """Average with the mirrored crop."""
    batch_size: AtLeast1 = 64
    """Crops that go through the network together; crops of many pictures share a batch."""
    person_score: Recipe[Literal["rescored", "keypoint_mean"]] = "rescored"
    """A pose's score: box score x mean of its keypoints above the threshold (COCO), or the mean of
    all keypoints (PoseTrack)."""
    keypoint_threshold: Recipe[Annotated[Number, Field(ge=-1, le=1)]] = 0.2
    """Keypoints above it count in the person's score."""
    oks_nms_threshold: Recipe[Fraction] = 0.9
    """Of two poses more alike than this the weaker one goes; 1 switches the suppression off."""
    best_per_picture: Recipe[AtLeast0] = 20
    """Poses a picture that are written, as many as COCO counts; 0 writes all."""
    visibility_column: Recipe[Literal["score", "one"]] = "score"
    """Third number of each keypoint in the results: its score (ms) or 1 (tf)."""
    score_decimals: Recipe[AtLeast0 | None] = None
    """Decimals of the scores in the results: 4 in tf, unrounded in ms."""
    coordinate_decimals: Recipe[AtLeast0 | None] = None
    """Decimals of x and y in the results: 3 in tf, unrounded in ms."""
    workers: Recipe[AtLeast0] = 0
    """Threads that read and cut pictures; 0: one for each core."""


Side = Annotated[Integer, Field(ge=32, multiple_of=32)]


@settings("serve")
class ServeConfig:
    """Limits of `simplepose serve`."""

    batch_pictures: AtLeast1 = 16
    """Pictures that go through the networks together, at most."""
    wait_ms: NotNegative = 10.0
    """Milliseconds that a picture waits for others while the networks are idle."""
    max_megabytes: Positive = 20.0
    """Size of a picture file, at most."""
    max_megapixels: Positive = 50.0
    """Millions of pixels of a picture, at most."""
    max_open: AtLeast1 = 128
    """Pictures that are sent or wait at the same time; more are refused (503)."""
    rate: NotNegative = 0.0
    """Pictures a second of one address; more are refused (429). 0 does not count."""
    seconds: Positive = 30.0
    """How long a picture may take to come."""


@settings()
class Config:
    """Everything that decides a training run."""

    preset: Recipe[str] = ""
    """Name of the preset it began from."""
    output: PathText = ""
    """Run folder; runs/PRESET by default. A folder with another run is never overwritten."""
    resume: Flag = False
    """Go on with the run in the output folder."""
    profile: Flag = False
    """Only measure where the time of a training step goes, and say what to change; nothing is
    written."""
    input_size_wh: tuple[Side, Side] = (192, 256)
    """Width and height of the network's input in pixels, multiples of 32."""
    data: DataConfig = DataConfig()
    """Where the data is."""
    pixels: Recipe[PixelConfig] = PixelConfig()
    """What the network sees."""
    model: ModelConfig = ModelConfig()
    """The network."""
    codec: Recipe[CodecConfig] = CodecConfig()
    """Targets and decoding."""
    augment: Recipe[AugmentConfig] = AugmentConfig()
    """Random changes of a sample."""
    train: TrainConfig = TrainConfig()
    """The training loop."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """The test."""

    def __post_init__(self) -> None:
        if self.codec.kind == "rtmpose":
            raise UserError("codec.kind is rtmpose, which is only read. Cure: simcc, with its head")
        if (self.model.head == "simcc") != (self.codec.kind == "simcc"):
            raise UserError(
                f"model.head is {self.model.head} and codec.kind {self.codec.kind}: "
                "only a SimCC head makes SimCC distributions. "
                "Cure: --model.head simcc with --codec.kind simcc, or neither"
            )
        turned = self.augment.rotation_degrees * self.augment.rotation_probability
        if self.detects and (
            turned or self.train.teacher or self.data.more_annotations or self.data.pack
        ):
            raise UserError(
                "model.head is boxes: a detector learns upright boxes of one annotation file and "
                "of pictures that are not packed, from no teacher. "
                "Cure: --augment.rotation-degrees 0, and leave --train.teacher, "
                "--data.more-annotations and --data.pack out"
            )

    @property
    def detects(self) -> bool:
        """Whether it is a detector that is trained, of the categories of the annotation file."""
        return self.model.head == "boxes"

    def require_pose(self, command: str) -> None:
        """Raises where `command`, which is made for pose networks, is asked for a detector."""
        if self.detects:
            raise UserError(
                f"{self.preset} makes a detector, and simplepose {command} is made for pose "
                "networks. Cure: a preset of a pose network"
            )

    @property
    def heatmap_size_wh(self) -> tuple[int, int]:
        """Width and height of the network's output."""
        stride = self.model.heatmap_stride
        return self.input_size_wh[0] // stride, self.input_size_wh[1] // stride

    @property
    def run_folder(self) -> Path:
        """Where the run is written."""
        return Path(self.output or f"runs/{self.preset or 'unnamed'}")


def preset_names() -> list[str]:
    """Names of the built-in presets."""
    return sorted(Path(entry.name).stem for entry in PRESETS.iterdir())


def sibling(name: str, recipe: str) -> str:
    """The built-in preset of the same data, network and size by another recipe.

    `name` may stand without its recipe, e.g. coco_r50_256x192.

    Raises:
        UserError: there is none; the recipes that there are are listed.
    """
    recipes, known = get_args(RecipeName), preset_names()
    stem = name.removesuffix(next((f"_{one}" for one in recipes if name.endswith(f"_{one}")), ""))
    # A preset without a recipe in its name is Microsoft's.
    own = {"ms": stem} if stem in known else {}
    found = own | {one: f"{stem}_{one}" for one in recipes if f"{stem}_{one}" in known}
    if recipe not in found:
        raise UserError(
            f"there is no recipe {recipe!r} of {stem}. Cure: one of {', '.join(found or known)}"
        )
    return found[recipe]


def load_preset(name: str, recipe: str = "") -> Config:
    """A built-in preset by name, or any YAML file by path.

    Args:
        name: of the preset, or path of the file.
        recipe: ms, tf or modern: takes the `sibling` of that recipe in place of the built-in preset
            that is named, or that the file builds on; empty takes it as it is.

    Raises:
        UserError: no such preset (all are listed), an unknown key (the nearest is suggested), or a
            value that makes no sense.
    """
    if recipe and not name.endswith((".yaml", ".yml")):
        name, recipe = sibling(name, recipe), ""
    values = _read(name, recipe)
    return replace(build(Config, values, name), preset=values.get("preset") or Path(name).stem)


def _read(name: str, recipe: str = "", above: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a preset laid over those of its bases; `above` are the files that name it as
    theirs."""
    if name in above:
        raise UserError(
            f"{above[-1]}: `base` {name} leads back to itself. "
            "Cure: name another preset as base, or leave it out"
        )
    if name.endswith((".yaml", ".yml")):
        content = read_bytes(name)
    else:
        if recipe:
            name, recipe = sibling(name, recipe), ""
        if name not in preset_names():
            raise UserError(
                f"{above[-1] + ': ' if above else ''}there is no preset {shown(name)}. "
                f"Cure: {nearest(name, preset_names())} A .yaml file is a preset too"
            )
        content = (PRESETS / f"{name}.yaml").read_bytes()
    values = decode_yaml(content, name) or {}
    if not isinstance(values, dict):
        raise UserError(
            f"{name} holds {type(values).__name__}, expected names and values. "
            "Cure: write one `name: value` a line"
        )
    base = values.pop("base", None)
    if not isinstance(base, str | None):
        raise UserError(
            f"{name}: `base` is {shown(base)}. "
            "Cure: the name of one preset, or the path of one .yaml file"
        )
    if recipe and not base:
        raise UserError(
            f"{name} builds on no preset, so that it has no other recipe. "
            "Cure: leave --recipe out, or name a `base`"
        )
    return _merge(_read(base, recipe, (*above, name)), values) if base else values


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on `under`, mapping by mapping."""
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def dump_config(config: Config) -> str:
    """YAML that `load_preset` reads back."""
    return yaml.safe_dump(to_plain(config), sort_keys=False, width=120)
