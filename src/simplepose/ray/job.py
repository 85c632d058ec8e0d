"""`simplepose predict --engine ray`: a list, shards of it, and Ray Data over those that are
missing."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import warnings
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

from simplepose import __version__
from simplepose.config import RayConfig
from simplepose.core.draw import draw_poses
from simplepose.core.errors import UserError, brief, is_out_of_memory
from simplepose.core.images import number_in, write_image
from simplepose.core.lines import header_of
from simplepose.core.progress import Progress, note
from simplepose.core.shards import (
    RUN,
    Run,
    decode_run,
    encode_run,
    row_schema,
    shard_name,
    table_of,
)
from simplepose.core.storage import is_remote
from simplepose.pose.checkpoints import find_weights
from simplepose.ray.predictor import PosePredictor
from simplepose.ray.storage import OutputFolder, addresses, is_video
from simplepose.weights.public import named

LISTING = "listing.parquet"
"""Name of the list in the output folder: a row group a shard."""
TRIES = 5
"""How often a shard is begun again after its worker died."""
OBJECT_STORE = 100 * 2**20
"""Bytes of shared memory of a Ray that is started here: pixels and poses never travel."""


def predict_shards(
    pictures: tuple[str, ...],
    output: str,
    predictor: dict[str, Any],
    rules: RayConfig,
    *,
    device: str = "auto",
    keypoint_threshold: float | None = None,
    overwrite: bool = False,
) -> str:
    """Estimates all pictures and videos; shards that are there already are not made again.

    Args:
        pictures: what `storage.addresses` takes.
        output: folder or address for the shards.
        predictor: arguments of `PosePredictor`.
        rules: how Ray works.
        device: of the workers' networks.
        keypoint_threshold: of the overlays; None: the network's.
        overwrite: replace another run's shards.

    Returns:
        What was done, for the screen.

    Raises:
        UserError: a mistake in what is given, another run's folder, or what a worker says.
    """
    if rules.overlays and is_remote(output):
        raise UserError(
            f"overlays are drawn into a folder, and --output is {output}. "
            "Cure: leave --ray.overlays out, or choose a folder"
        )
    # here too, so that a mistake is told before Ray starts
    here = PosePredictor(**predictor, device="cpu" if device != "auto" else device)
    folder = OutputFolder(output)
    with TemporaryDirectory(prefix="simplepose-") as temporary:
        listing = Path(temporary) / LISTING
        count, shards, digest, numbered = write_listing(listing, pictures, rules.shard)
        made_by = {name: predictor[name] for name in ("weights", "boxes")}
        header = header_of(here.estimator.schema, preset=here.estimator.spec.preset, **made_by)
        run = Run(
            header=msgspec.to_builtins(header),
            simplepose=__version__,
            pictures=count,
            shards=shards,
            listing=digest,
            files=_digests(predictor),
            numbered=numbered and here.listing is None,
            options={k: v for k, v in predictor.items() if k not in ("weights", "boxes")},
        )
        done = _finished(folder, run, overwrite=overwrite)
        if RUN not in folder.names():
            folder.write(LISTING, listing.read_bytes())
            folder.write(RUN, encode_run(run))
    del here
    todo = [number for number in range(shards) if number not in done]
    if done:
        note(f"going on in {output}: {len(done):,} shards are done")
    worker = dict(
        folder=folder,
        version=__version__,
        predictor={**predictor, "device": device, "numbered": run.numbered},
        overlays=rules.overlays,
        keypoint_threshold=keypoint_threshold,
    )
    told = _work(todo, worker, rules) if todo else [0, 0, 0]
    broken = f", {told[2]:,} did not decode" if told[2] else ""
    return (
        f"{told[1]:,} people in {told[0]:,} pictures and frames{broken} -> {output} "
        f"({shards:,} shards, {len(done):,} of them from before)"
    )


def write_listing(path: Path, pictures: tuple[str, ...], shard: int) -> tuple[int, int, str, bool]:
    """Writes the list, a row group a shard: `shard` pictures, or one video.

    Returns:
        Addresses, shards, the digest of all, and whether each picture has a number of its own in
        its name.
    """
    digest, numbers, count, shards = hashlib.sha256(str(shard).encode()), array("q"), 0, 0
    numbered = True
    schema = pa.schema({"frame": pa.int64(), "path": pa.string()})
    with pq.ParquetWriter(path, schema) as writer:
        for part in _parts(addresses(pictures), shard):
            for address in part:
                digest.update(os.fsencode(address) + b"\0")
                number = number_in(address.split("?")[0])
                numbered = numbered and number is not None
                # of long numbers the last digits, which must fit the array
                numbers.append((number or 0) % 10**18)
            frames = range(count, count + len(part))
            writer.write_table(pa.table({"frame": frames, "path": part}, schema=schema))
            count, shards = count + len(part), shards + 1
    numbered = numbered and len(np.unique(np.frombuffer(numbers, np.int64))) == count
    return count, shards, digest.hexdigest(), numbered


def _parts(every: Iterator[str], shard: int) -> Iterator[list[str]]:
    """Videos alone, the pictures between them in lists of at most `shard`."""
    for first in every:
        if is_video(first):
            yield [first]
            continue
        part, video = [first], None
        for address in islice(every, shard - 1):
            if is_video(address):
                video = address
                break
            part.append(address)
        yield from chain([part], [[video]] if video else [])


def _digests(predictor: Mapping[str, Any]) -> dict[str, str]:
    """Of the weights and of a file of boxes."""
    paths = {
        "weights": find_weights(named(predictor["weights"])),
        "boxes": Path(predictor["boxes"]),
    }
    digests = {}
    for name, path in paths.items():
        if path.is_file():
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _finished(folder: OutputFolder, run: Run, *, overwrite: bool) -> set[int]:
    """The shards that are whole, of this very run.

    Raises:
        UserError: the folder is another run's, or holds something else.
    """
    names = folder.names()
    ours = {name for name in names if re.fullmatch(r"poses-\d+\.parquet", name)}
    if RUN in names:
        before = decode_run(folder.open(RUN).read(), f"{folder.address}/{RUN}")
        run = decode_run(encode_run(run), RUN)  # tuples become lists
        other = [
            name for name in Run.__struct_fields__ if getattr(before, name) != getattr(run, name)
        ]
        if not other and not overwrite:
            return {shard for shard in range(run.shards) if _whole(folder, shard, ours)}
        if not overwrite:
            raise UserError(
                f"{folder.address} is of another run: its {', '.join(other)} differ. "
                "Cure: the same pictures, weights and options, another --output, or --overwrite"
            )
    elif names and not overwrite:
        raise UserError(
            f"{folder.address} is not empty, and is of no run. "
            "Cure: choose another --output, or add --overwrite"
        )
    # the name of the run last: without it nothing here counts
    for name in (*ours, *({RUN} & names)):
        folder.remove(name)
    return set()


def _whole(folder: OutputFolder, shard: int, names: set[str]) -> bool:
    """Whether a shard is there and its footer can be read."""
    if (name := shard_name(shard)) not in names:
        return False
    try:
        with folder.open(name) as file:
            return bool(pq.read_schema(file).remove_metadata().equals(row_schema()))
    except (pa.ArrowException, OSError):
        note(f"{name} cannot be read and is made again")
        return False


class ShardPredictor:
    """What a worker does with the number of a shard: reads its part of the list, estimates, writes
    the shard in one go. Beginning again after a death writes the same file."""

    def __init__(
        self,
        folder: OutputFolder,
        version: str,
        predictor: dict[str, Any],
        overlays: bool,
        keypoint_threshold: float | None,
    ) -> None:
        self.folder, self.version, self.arguments = folder, version, predictor
        self.overlays, self.keypoint_threshold = overlays, keypoint_threshold

    @cached_property
    def predictor(self) -> PosePredictor:
        """Made at the first shard, where a mistake of the user's still becomes a sentence."""
        if self.version != __version__:
            raise UserError(
                f"a worker has simplepose {__version__}, the run {self.version}. "
                "Cure: install the same version on all machines"
            )
        return PosePredictor(**self.arguments)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """One shard; a mistake of the user's comes back as `error`."""
        shard, counts, problem = int(batch["shard"][0]), [0, 0, 0], ""
        try:
            counts = self._write(shard)
        except UserError as error:
            problem = str(error)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            problem = (
                f"a worker ran out of memory at shard {shard}: {brief(error)}. "
                "Cure: fewer --ray.workers on a machine, or a smaller --ray.shard"
            )
        names = ("frames", "people", "broken")
        return {name: [n] for name, n in zip(names, counts, strict=True)} | {"error": [problem]}

    def _write(self, shard: int) -> list[int]:
        with self.folder.open(LISTING) as file:
            rows = pq.ParquetFile(file).read_row_group(shard)
        estimator, found = self.predictor.estimator, []
        threshold = self.keypoint_threshold
        threshold = estimator.drawn_threshold if threshold is None else threshold
        batch = {"frame": rows["frame"].to_numpy(), "path": rows["path"].to_numpy()}
        for line, error, picture in self.predictor.lines(batch):
            found.append((line, error))
            if self.overlays and picture:
                frame, poses = picture
                schema = estimator.schema
                drawn = draw_poses(frame.image, poses, schema, keypoint_threshold=threshold)
                name = f"{frame.index:09d}_{Path(frame.source).stem}.jpg"
                write_image(Path(self.folder.path) / "overlays" / name, drawn)
        sink = pa.BufferOutputStream()
        pq.write_table(table_of(found), sink, compression="zstd")
        self.folder.write(shard_name(shard), sink.getvalue().to_pybytes())
        people = sum(len(line.people) for line, _ in found)
        return [len(found), people, sum(bool(error) for _, error in found)]


def _work(todo: list[int], worker: dict[str, Any], rules: RayConfig) -> list[int]:
    """Ray Data over the shards; returns frames, people and pictures that did not decode."""
    counts = [0, 0, 0]
    with _cluster() as own:
        workers = _workers(rules, own, len(todo))
        shards = ray.data.from_items(
            [{"shard": shard} for shard in todo], override_num_blocks=len(todo)
        )
        with warnings.catch_warnings():
            # nothing else bounds how often a shard that kills its workers is begun again
            warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)
            done = shards.map_batches(
                ShardPredictor,
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=workers),
                num_cpus=rules.num_cpus,
                num_gpus=rules.num_gpus or None,
                fn_constructor_kwargs=worker,
                ray_remote_args_fn=_retries,
            )
        with Progress("predicting", "shards") as progress:
            try:
                for number, row in enumerate(done.iter_rows(), 1):
                    if row["error"]:
                        raise UserError(row["error"])
                    told = (row["frames"], row["people"], row["broken"])
                    counts = [a + b for a, b in zip(counts, told, strict=True)]
                    progress(number, len(todo))
            except ray.exceptions.RayError as error:
                raise UserError(
                    f"Ray gave up: {_last_words(error)}. Cure: see its logs; where workers die of "
                    "memory, fewer --ray.workers or a smaller --ray.shard; then the same command "
                    "again, which goes on"
                ) from error
    return counts


def _retries() -> dict[str, Any]:
    return {"max_task_retries": TRIES}


def _last_words(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return brief(f"{type(error).__name__}: {lines[-1] if lines else ''}").rstrip(".")


@contextmanager
def _cluster() -> Iterator[bool]:
    """Joins the cluster that is there, or starts one on this machine; yields whether it did."""
    # Ray tells its makers how it is used, unless it is told not to
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    own = not ray.is_initialized()
    started = own and not os.environ.get("RAY_ADDRESS")
    if own:
        local = {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **(local if started else {}))
        except Exception as error:  # Ray's are of many kinds, and of none
            raise UserError(
                f"Ray does not start: {brief(error).rstrip('.')}. "
                "Cure: see that RAY_ADDRESS names a cluster that runs, with the same Ray and "
                "Python, or that this machine is not too busy"
            ) from error
    try:
        yield started
    finally:
        if own:
            ray.shutdown()


def _workers(rules: RayConfig, own: bool, shards: int) -> int:
    """How many workers there are.

    Raises:
        UserError: this machine cannot hold as many as were asked for.
    """
    there = ray.cluster_resources()
    needs = {"CPU": rules.num_cpus, "GPU": rules.num_gpus}
    room = min(int(there.get(kind, 0) / need) for kind, need in needs.items() if need)
    if own and room < max(1, rules.workers):
        kinds = ", ".join(f"{there.get(kind, 0):g} {kind}" for kind in needs)
        raise UserError(
            f"{max(1, rules.workers)} workers of {rules.num_cpus} processors and "
            f"{rules.num_gpus:g} GPUs do not fit into this machine ({kinds}). "
            "Cure: fewer --ray.workers, or a larger cluster by RAY_ADDRESS"
        )
    return min(rules.workers or max(1, room), shards)
