"""Packs of data sets with unreadable pictures: their people are left out, said, and tried again when packing goes on."""

from __future__ import annotations

import shutil
import zipfile
from functools import partial
from pathlib import Path

import pytest
from training_workers import write_people

from simplepose.config import AugmentConfig
from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations
from simplepose.data.coco import read_coco
from simplepose.data.loader import TrainLoader
from simplepose.data.pack import open_pack, plan_pack, write_pack

AUGMENT, SIZE = AugmentConfig(), (32, 32)


@pytest.fixture
def people(tmp_path: Path) -> Annotations:
    folder = write_people(tmp_path / "people", 9)
    return read_coco(folder / "people.json", folder).trainable()


def test_people_of_unreadable_pictures_are_left_out(people: Annotations, tmp_path: Path) -> None:
    for number in (1, 4):
        (Path(people.source).parent / f"{number:04d}.png").write_bytes(b"no picture")
    plan, path = plan_pack(people, AUGMENT, SIZE), tmp_path / "a"
    with pytest.raises(UserError, match=r"0001\.png .*--data\.skip-broken"):
        write_pack(path, plan)
    assert not path.exists()
    broken = write_pack(path, plan, skip_broken=True)
    assert sorted(broken) == [1, 4] and "0001.png" in broken[1] and "0004.png" in broken[4]
    with zipfile.ZipFile(path / "people-00000.zip") as file:
        assert file.testzip() is None and len(file.namelist()) == 9
        empty = {info.filename for info in file.infolist() if not info.file_size}
    assert empty == {
        "people/000000000002_3.jpg",
        "people/000000000002_4.jpg",
        "people/000000000005_9.jpg",
    }
    others = read_coco(path / "coco.json", "")
    assert others.annotation_ids.tolist() == [1, 2, 5, 6, 7, 8] and len(others.image_paths) == 6
    pack = open_pack(path, people, AUGMENT, SIZE)
    assert pack.view(0).pixels.any()
    with pytest.raises(UserError, match=r"people-00000\.zip, .*byte \d+"):
        pack.view(2)
    options = {"input_size_wh": SIZE, "batch_size": 4, "seed": 0, "source": pack}
    with pytest.raises(UserError, match=r"people-00000\.zip, .*byte \d+.*--data\.skip-broken"):
        list(TrainLoader(people, AUGMENT, **options).epoch(0))
    loader = TrainLoader(people, AUGMENT, skip_broken=True, **options)
    assert sum(len(batch.rows) for batch in loader.epoch(0)) == 6 and len(loader.broken) == 2


def test_a_pack_without_any_picture_is_none(people: Annotations, tmp_path: Path) -> None:
    plan = plan_pack(people, AUGMENT, SIZE)
    for path in people.image_paths:
        Path(path).unlink()
    with pytest.raises(UserError, match=r"no picture can be read, first: cannot read .*0000.png"):
        write_pack(tmp_path / "a", plan, skip_broken=True)
    assert not list(tmp_path.glob("*a.*"))  # nothing to go on with


def test_people_left_out_are_tried_again_when_packing_goes_on(
    people: Annotations, tmp_path: Path
) -> None:
    plan = plan_pack(people, AUGMENT, SIZE)
    write = partial(write_pack, plan=plan, shard=1)
    good, without, begun = (tmp_path / name for name in ("good", "without", "begun"))
    write(good)
    path = Path(people.image_paths[1])
    content = path.read_bytes()
    path.write_bytes(b"no picture")
    write(without, skip_broken=True)

    def interrupt(done: int, total: int) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(begun, skip_broken=True, progress=interrupt)
    with pytest.raises(UserError, match=r"0001\.png .*--data\.skip-broken"):
        write(begun)
    for name in ("again", "repaired"):
        shutil.copytree(tmp_path / "begun.partial", tmp_path / f"{name}.partial")
    again, repaired = tmp_path / "again", tmp_path / "repaired"
    assert list(write(again, skip_broken=True)) == [1]
    assert contents(again) == contents(without)
    path.write_bytes(content)
    assert write(repaired) == {} == write(begun, skip_broken=True)
    assert contents(repaired) == contents(good) == contents(begun)


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}
