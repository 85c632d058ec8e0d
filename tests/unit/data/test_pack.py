"""Packs: whole or refused, resumable, and readable by any zip program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fake_store import fake_store
from fsspec.implementations.local import LocalFileSystem
from training_workers import write_people

from simplepose.commands import pack as pack_command
from simplepose.commands.options import parse
from simplepose.config import AugmentConfig
from simplepose.core import storage
from simplepose.core.errors import UserError
from simplepose.core.storage import StoreError
from simplepose.data import pack as pack_module
from simplepose.data.annotations import Annotations
from simplepose.data.augment import from_view
from simplepose.data.coco import read_coco
from simplepose.data.loader import TrainLoader
from simplepose.data.mapping import concatenate
from simplepose.data.pack import PackPlan, estimate_pack, open_pack, plan_pack
from simplepose.pose.geometry import warp_crop

AUGMENT, SIZE = AugmentConfig(), (32, 32)


@pytest.fixture
def people(tmp_path: Path) -> Annotations:
    folder = write_people(tmp_path / "people", 9)
    return read_coco(folder / "people.json", folder).trainable()


def write_pack(path: Path, plan: PackPlan, **options) -> Path:
    """Writes a pack of whose pictures none is broken."""
    assert pack_module.write_pack(path, plan, **options) == {}
    return path


def opened(path: Path, people: Annotations, augment: AugmentConfig = AUGMENT):
    return open_pack(path, people, augment, SIZE)


def test_nobody_to_pack(people: Annotations) -> None:
    with pytest.raises(UserError, match=r"people\.json .*no person"):
        plan_pack(people.select(np.zeros(0, np.int64)), AUGMENT, SIZE)


def test_a_pack_is_plain_zips_beside_a_coco_file(people: Annotations, tmp_path: Path) -> None:
    path = write_pack(tmp_path / "out" / "a", plan_pack(people, AUGMENT, SIZE), shard=2)
    shards, pictures = sorted(path.glob("*.zip")), {}
    assert [shard.name for shard in shards] == [f"people-{n:05d}.zip" for n in range(3)]
    for shard in shards:
        with zipfile.ZipFile(shard) as file:
            assert file.testzip() is None
            assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}
            for name in file.namelist():
                encoded = np.frombuffer(file.read(name), np.uint8)
                pictures[name] = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert len(pictures) == 9 and [*path.parent.iterdir()] == [path]
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=path).returncode == 0
    regions = read_coco(path / "coco.json", "")
    pack = opened(path, people)
    for row in range(len(people)):
        view = pack.view(row)
        image, (left, top) = view.pixels, view.origin_xy
        assert view.ratio_xy == (1, 1)
        source = cv2.imread(people.image_paths[people.image_index[row]])[:, :, ::-1]
        height, width = image.shape[:2]
        assert (
            np.abs(source[top : top + height, left : left + width].astype(int) - image).mean() < 4
        )
        other = int(np.flatnonzero(regions.annotation_ids == people.annotation_ids[row])[0])
        np.testing.assert_allclose(
            regions.keypoints[other] + [left, top], people.keypoints[row], atol=1e-3
        )
        assert (
            pictures[os.path.normpath(regions.image_paths[regions.image_index[other]])].shape
            == image.shape
        )
    size, seconds = estimate_pack(plan_pack(people, AUGMENT, SIZE))
    written = sum(file.stat().st_size for file in path.iterdir() if file.name != "coco.json")
    assert 0.7 < size / written < 1.5 and seconds > 0


def test_people_are_stored_no_finer_than_their_closest_view(
    people: Annotations, tmp_path: Path
) -> None:
    """People of 30 pixels on crops of 8: 37.5 pixels (with the box's quarter) are seen on 8 / .7 at most."""
    path = write_pack(
        tmp_path / "a", plan_pack(people, AUGMENT, (8, 8), quality=100, full_colour=True)
    )
    pack = open_pack(path, people, AUGMENT, (8, 8))
    others = read_coco(path / "coco.json", "")
    for row in range(len(people)):
        view = pack.view(row)
        assert (
            np.allclose(view.ratio_xy, 8 / 37.5 / 0.7, rtol=0.1)
            and min(view.ratio_xy) >= 8 / 37.5 / 0.7
        )
        other = int(np.flatnonzero(others.annotation_ids == people.annotation_ids[row])[0])
        # a point of the picture lies where resizing about pixel centres puts it
        back = (others.keypoints[other] + 0.5) / view.ratio_xy - 0.5 + view.origin_xy
        np.testing.assert_allclose(back, people.keypoints[row], atol=1e-3)
        ours, theirs = others.bbox_xywh[other], people.bbox_xywh[row]
        np.testing.assert_allclose(ours[2:] / view.ratio_xy, theirs[2:], rtol=1e-5)
        assert others.area[other] / people.area[row] == pytest.approx(
            np.prod(view.ratio_xy), rel=1e-5
        )
    loaders = (
        TrainLoader(people, AUGMENT, input_size_wh=(8, 8), batch_size=9, seed=0, source=source)
        for source in (None, pack)
    )
    plain, packed = (next(loader.epoch(0)).pixels.float() for loader in loaders)
    assert (
        plain - packed
    ).abs().mean() < 6  # the pictures are noise, and the plain warp skips pixels of it
    with pytest.raises(UserError, match=r"a .*8x8, .*0\.7 .*16x16.*9 of 9"):
        open_pack(path, people, AUGMENT, (16, 16))


def test_a_smaller_view_shows_the_same_places() -> None:
    """Resizing and bilinear warping keep a linear ramp as it is, so a crop of the smaller view equals the crop of the picture."""
    y, x = np.mgrid[:64, :80]
    ramp = np.stack([3 * x, 3 * y, x + y], -1).astype(np.uint8)
    to_crop = cv2.getRotationMatrix2D((30, 28), 25, 0.6)
    to_crop[:, 2] += np.array([8, 7]) - (30, 28)
    left, top, width, height = 6, 4, 48, 48
    small = cv2.resize(
        ramp[top : top + height, left : left + width], (32, 24), interpolation=cv2.INTER_AREA
    )
    moved = from_view(to_crop, (left, top), (32 / width, 24 / height))
    ours, plain = (
        warp_crop(image, affine, (16, 14)).astype(int)
        for image, affine in ((small, moved), (ramp, to_crop))
    )
    assert np.abs(ours - plain).max() <= 2
    wrong = warp_crop(
        small, from_view(to_crop, (left + 1, top), (32 / width, 24 / height)), (16, 14)
    ).astype(int)
    assert np.abs(wrong - plain).max() > 2


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_an_interrupted_pack_goes_on_to_the_same_bytes(
    people: Annotations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, read, decode = plan_pack(people, AUGMENT, SIZE), [], pack_module.read_sized
    whole = write_pack(tmp_path / "whole", plan, shard=1)

    def counted(people: Annotations, picture: int, broken: dict | None) -> np.ndarray:
        read.append(picture)
        if len(read) == 3:
            raise UserError("No space left on device")
        return decode(people, picture, broken)

    monkeypatch.setattr(pack_module, "read_sized", counted)
    with pytest.raises(UserError, match="No space left on device"):
        write_pack(tmp_path / "cut", plan, shard=1, workers=1)
    partial = tmp_path / "cut.partial"
    assert len(list(partial.glob("people-*.zip"))) == 2 and not (tmp_path / "cut").exists()
    (partial / "people-00001.zip").write_bytes(b"half")
    with pytest.raises(UserError, match=r"cut\.partial .*--output"):
        write_pack(tmp_path / "cut", plan, shard=2)
    assert contents(write_pack(tmp_path / "cut", plan, shard=1)) == contents(whole)
    assert sorted(read[3:]) == [1, 2, 3, 4] and not partial.exists()  # it did not begin again


def test_a_file_that_is_in_the_way_is_kept(people: Annotations, tmp_path: Path) -> None:
    plan, source = plan_pack(people, AUGMENT, SIZE), Path(people.source)
    annotations = source.read_bytes()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "coco.json").symlink_to(source)
    (tmp_path / "pack.npz").write_text("mine")
    for path in (source.parent, source, tmp_path / "a", tmp_path / "pack.npz"):
        for overwrite in (False, True):
            with pytest.raises(UserError, match=r"in the way.*--output"):
                write_pack(path, plan, overwrite=overwrite)
    assert source.read_bytes() == annotations and not list(tmp_path.rglob("*.partial"))
    path = write_pack(tmp_path / "b", plan)
    (path / "people-00009.zip").write_text("of the pack before")
    with pytest.raises(UserError, match=r"b already exists.*--overwrite"):
        write_pack(path, plan)
    link = tmp_path / "link"
    link.symlink_to(path)
    write_pack(link, plan, overwrite=True)
    assert link.is_symlink() and not (path / "people-00009.zip").exists()
    (path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"b/thesis\.txt .*--output"):
        write_pack(path, plan, overwrite=True)
    (tmp_path / "c.partial").mkdir()
    (tmp_path / "c.partial" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"c\.partial .*--output"):
        write_pack(tmp_path / "c", plan)
    assert (tmp_path / "c.partial" / "notes.txt").read_text() == "mine"


@pytest.fixture
def served(people: Annotations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pack of five shards, and a store that is asked again at once."""
    monkeypatch.setattr(storage, "PAUSE", 0.01)
    return write_pack(tmp_path / "a", plan_pack(people, AUGMENT, SIZE), shard=1)


def objects(path: Path) -> dict[str, bytes]:
    return {f"a/{name}": content for name, content in contents(path).items()}


def batches(people: Annotations, path: str | Path, rank: int = 0, world_size: int = 1) -> list:
    loader = TrainLoader(
        people,
        AUGMENT,
        source=open_pack(path, people, AUGMENT, SIZE),
        input_size_wh=SIZE,
        batch_size=4,
        seed=0,
        rank=rank,
        world_size=world_size,
    )
    return list(loader.epoch(0))


@pytest.mark.parametrize("kind", ["http", "s3"])
def test_a_store_gives_what_the_folder_gives(people: Annotations, served: Path, kind: str) -> None:
    """Although every third answer is 500; a rank asks for its own people alone, by range."""
    pytest.importorskip("s3fs", reason="the extra [remote] is not installed")
    with fake_store(objects(served), every=3) as (root, answers):
        address = f"{'s3://box' if kind == 's3' else root}/a"
        found = batches(people, address)
        assert answers.count(500) > 3 and answers.count(206) == 9
        for ours, local in zip(found, batches(people, served), strict=True):
            assert torch.equal(ours.pixels, local.pixels)
            assert torch.equal(ours.keypoints, local.keypoints)
        for rank, people_shown in ((0, 5), (1, 4)):
            before = answers.count(206)
            mine = batches(people, address, rank, 2)
            assert sum(len(batch.rows) for batch in mine) == people_shown
            assert answers.count(206) - before == people_shown


def test_a_shard_that_cannot_be_read_is_named(people: Annotations, served: Path) -> None:
    """Before training where it is missing or cut; never skipped as a broken picture is."""
    pytest.importorskip("s3fs", reason="the extra [remote] is not installed")
    whole, name = objects(served), "a/people-00002.zip"
    for content, words in (
        (None, r"people-00002\.zip: No such file"),
        (whole[name][:-7], r"people-00002\.zip has .* bytes.*copy it again"),
    ):
        there = {key: whole[key] if key != name else content for key in whole}
        there = {key: value for key, value in there.items() if value is not None}
        with (
            fake_store(there, every=99) as (root, _),
            pytest.raises(UserError, match=words),
        ):
            batches(people, f"{root}/a")
    with (
        fake_store(whole, every=99, ranges=False) as (root, _),
        pytest.raises(UserError, match="a server that answers byte ranges"),
    ):
        batches(people, f"{root}/a")
    pack = opened(served, people)
    (served / "people-00002.zip").unlink()
    loader = TrainLoader(people, AUGMENT, SIZE, batch_size=4, seed=0, source=pack, skip_broken=True)
    with pytest.raises(UserError, match=r"people-00002\.zip: No such file"):
        list(loader.epoch(0))


def test_stores_that_never_answer_or_that_fsspec_does_not_know(
    people: Annotations, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    for address, words in (
        ("gopher://box/a", "gopher"),
        ("gs://box/a", "gcsfs"),
        ("ftp://127.0.0.1:1/a", "refused"),
    ):
        with pytest.raises(StoreError, match=rf"{address}/pack\.npz .*{words}.*pip install"):
            opened(address, people)
    with pytest.raises(StoreError, match=r"http://\[::1/a/pack\.npz"):
        opened("http://[::1/a", people)
    with monkeypatch.context() as patch:
        patch.setattr(LocalFileSystem, "size", lambda *_: None)
        with pytest.raises(StoreError, match=r"people-00000\.zip.*its size.*byte ranges"):
            opened(served, people)
    pytest.importorskip("s3fs", reason="the extra [remote] is not installed")
    with (
        fake_store(objects(served), every=1) as (root, answers),
        pytest.raises(UserError, match=r"/box/a/pack\.npz: 500.*the same command again"),
    ):
        opened(f"{root}/a", people)
    assert len(answers) == storage.TRIES


def test_joined_files_are_one_pack(people: Annotations, tmp_path: Path) -> None:
    folder = write_people(tmp_path / "more", 5)
    joined = concatenate([people, read_coco(folder / "people.json", folder).trainable()])
    path = write_pack(tmp_path / "a", plan_pack(joined, AUGMENT, SIZE))
    assert len(opened(path, joined).members) == 14 and opened(path, joined).view(13).pixels.any()
    with pytest.raises(UserError, match=r"was packed from .*people\.json"):
        opened(path, people)
    with (folder / "people.json").open("a") as file:
        file.write(" ")
    with pytest.raises(UserError, match=r"was packed from .*people\.json"):
        opened(path, joined)
    (folder / "people.json").unlink()
    with pytest.raises(UserError, match=r"cannot read .*more/people\.json"):
        opened(path, joined)


def test_a_partial_folder_of_another_plan_is_refused(people: Annotations, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pack(tmp_path / "b", plan_pack(people, AUGMENT, SIZE), progress=interrupt)
    for other in (
        plan_pack(people, replace(AUGMENT, scale_factor=0.1), SIZE),
        plan_pack(people, AUGMENT, SIZE, udp=True),
        plan_pack(people, AUGMENT, SIZE, quality=80),
        plan_pack(people, replace(AUGMENT, shift_factor=0.2), SIZE),
    ):
        with pytest.raises(UserError, match=r"b\.partial .*--output"):
            write_pack(tmp_path / "b", other)
    assert list((tmp_path / "b.partial").glob("people-*.zip"))


def test_what_does_not_fit_is_refused_with_the_reason(people: Annotations, tmp_path: Path) -> None:
    path = write_pack(
        tmp_path / "a",
        plan_pack(people, replace(AUGMENT, rotation_degrees=5.0, scale_factor=0.05), SIZE),
    )
    with pytest.raises(
        UserError,
        match=r"a .*scale 0\.95 to 1\.05, rotation up to 10 degrees.*0\.7 to 1\.3.*9 of 9",
    ):
        opened(path, people)
    path = write_pack(tmp_path / "b", plan_pack(people, AUGMENT, SIZE))
    assert len(opened(path, people, replace(AUGMENT, scale_factor=0.1)).members) == len(
        people
    )  # a weaker preset fits
    cut = Path(shutil.copytree(path, tmp_path / "cut"))
    (cut / "pack.npz").write_bytes((path / "pack.npz").read_bytes()[:-100])
    with pytest.raises(UserError, match=r"cut/pack\.npz .*not a zip file"):
        opened(cut, people)
    with pytest.raises(UserError, match=r"missing/pack\.npz: No such file"):
        opened(tmp_path / "missing", people)
    with pytest.raises(UserError, match=r"pack\.npz/pack\.npz: Not a directory\. .*path"):
        opened(path / "pack.npz", people)
    few = write_pack(tmp_path / "few", plan_pack(people.select(np.arange(4)), AUGMENT, SIZE))
    with pytest.raises(UserError, match=r"few .*5 of 9 .*annotation 5"):
        opened(few, people)
    content = json.loads(Path(people.source).read_text())
    content["annotations"][0]["bbox"][0] += 1
    Path(people.source).write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"was packed from .*people\.json"):
        opened(path, people)


def test_a_member_that_does_not_decode_is_named_or_skipped(
    people: Annotations, tmp_path: Path
) -> None:
    path = write_pack(tmp_path / "a", plan_pack(people, AUGMENT, SIZE))
    pack = opened(path, people)
    _, first, size, _ = pack.members[3].tolist()
    shard = path / "people-00000.zip"
    content = bytearray(shard.read_bytes())
    content[first : first + size] = bytes(size)
    shard.write_bytes(content)
    options = {"input_size_wh": SIZE, "batch_size": 4, "seed": 0, "source": opened(path, people)}
    with pytest.raises(UserError, match=f"people-00000.zip, member at byte {first}"):
        list(TrainLoader(people, AUGMENT, **options).epoch(0))
    loader = TrainLoader(people, AUGMENT, skip_broken=True, **options)
    assert sum(len(batch.rows) for batch in loader.epoch(0)) == 8 and len(loader.broken) == 1


def test_the_command_estimates_and_packs(
    people: Annotations, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = Path(people.source).parent
    argv = [
        "coco_r18_128x96_mini",
        "--output",
        str(tmp_path / "c"),
        "--data.train-annotations",
        people.source,
    ]
    argv += ["--data.train-images", str(folder)]
    pack_command.run(parse("pack", [*argv, "--estimate-only"]))
    assert "9 people: about" in capsys.readouterr().out and not (tmp_path / "c").exists()
    pack_command.run(parse("pack", argv))
    assert "--data.cache pack --data.pack" in capsys.readouterr().out and (tmp_path / "c").exists()


def test_the_command_refuses_before_it_works_and_tells_what_it_left_out(
    people: Annotations, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    where = [
        "--data.train-annotations",
        people.source,
        "--data.train-images",
        str(Path(people.source).parent),
    ]
    argv = [
        "coco_r18_128x96_mini",
        *where,
        "--output",
        str(Path(people.source).parent),
    ]
    with pytest.raises(UserError, match="in the way"):
        pack_command.run(parse("pack", [*argv, "--overwrite"]))
    with pytest.raises(UserError, match="s3://box/pack"):
        pack_command.run(parse("pack", [*argv[:-1], "s3://box/pack"]))
    assert not capsys.readouterr().out  # not even an estimate
    pack_command.run(parse("pack", [*argv, "--estimate-only"]))
    assert "9 people: about" in capsys.readouterr().out
    Path(people.image_paths[0]).unlink()
    argv = ["coco_r18_128x96_mini", *where, "--output", str(tmp_path / "d")]
    with pytest.raises(UserError, match=r"0000.png.*--data.skip-broken"):
        pack_command.run(parse("pack", argv))
    capsys.readouterr()
    pack_command.run(parse("pack", [*argv, "--data.skip-broken"]))
    assert (
        "note: 1 unreadable pictures with 2 people left out, first: cannot read"
        in capsys.readouterr().err
    )
