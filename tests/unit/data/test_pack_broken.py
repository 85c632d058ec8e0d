"""Packs of data sets with unreadable pictures: their people are left out, said, and tried again when packing goes on."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from training_workers import write_people

from simplepose.config import AugmentConfig
from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations
from simplepose.data.coco import read_coco
from simplepose.data.loader import TrainLoader
from simplepose.data.pack import open_pack, scan_members
from simplepose.data.pack_writer import plan_pack, write_pack

AUGMENT, SIZE = AugmentConfig(), (32, 32)


@pytest.fixture
def people(tmp_path: Path) -> Annotations:
    folder = write_people(tmp_path / "people", 9)
    return read_coco(folder / "people.json", folder).trainable()


def test_people_of_unreadable_pictures_are_left_out(people: Annotations, tmp_path: Path) -> None:
    for number in (1, 4):
        (Path(people.source).parent / f"{number:04d}.png").write_bytes(b"no picture")
    plan, said = plan_pack(people, AUGMENT, SIZE), []
    with pytest.raises(UserError, match=r"0001\.png .*--data\.skip-broken"):
        write_pack(tmp_path / "a.zip", plan)
    assert not (tmp_path / "a.zip").exists()
    path = write_pack(tmp_path / "a.zip", plan, skip_broken=True, say=said.append)
    assert (
        len(said) == 1
        and said[0].startswith("note: 2 unreadable pictures with 3 people left out, first: ")
        and "0001.png" in said[0]
    )
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None and len(file.namelist()) == 11
        empty = {info.filename for info in file.infolist() if not info.file_size}
    assert empty == {
        "people/000000000002_3.jpg",
        "people/000000000002_4.jpg",
        "people/000000000005_9.jpg",
    }
    others = read_coco(path.with_suffix(".json"), "")
    assert others.annotation_ids.tolist() == [1, 2, 5, 6, 7, 8] and len(others.image_paths) == 6
    pack = open_pack(path, people, AUGMENT, SIZE)
    assert pack.view(0).pixels.any()
    with pytest.raises(UserError, match=r"a\.zip: .*byte \d+ "):
        pack.view(2)
    options = {"input_size_wh": SIZE, "batch_size": 4, "seed": 0, "source": pack}
    with pytest.raises(UserError, match=r"a\.zip: .*byte \d+ .*--data\.skip-broken"):
        list(TrainLoader(people, AUGMENT, **options).epoch(0))
    loader = TrainLoader(people, AUGMENT, skip_broken=True, **options)
    assert sum(len(batch.rows) for batch in loader.epoch(0)) == 6 and len(loader.broken) == 2


def test_a_pack_without_any_picture_is_none(people: Annotations, tmp_path: Path) -> None:
    plan = plan_pack(people, AUGMENT, SIZE)
    for path in people.image_paths:
        Path(path).unlink()
    with pytest.raises(
        UserError, match=r"no picture can be read, first: cannot read .*0000.png"
    ):
        write_pack(tmp_path / "a.zip", plan, skip_broken=True)
    assert not list(tmp_path.glob("a.*"))  # nothing to go on with


def test_people_left_out_are_tried_again_when_packing_goes_on(
    people: Annotations, tmp_path: Path
) -> None:
    plan = plan_pack(people, AUGMENT, SIZE)
    good = write_pack(tmp_path / "good.zip", plan).read_bytes()
    path = Path(people.image_paths[1])
    content = path.read_bytes()
    path.write_bytes(b"no picture")
    without = write_pack(tmp_path / "without.zip", plan, skip_broken=True).read_bytes()

    def interrupt(done: int, total: int) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pack(tmp_path / "a.zip", plan, skip_broken=True, progress=interrupt)
    begun = (tmp_path / "a.partial").read_bytes()
    assert [entry.file_size > 0 for entry in scan_members(tmp_path / "a.partial")[0]] == [
        True
    ] * 3 + [False] * 2 + [True] * 2
    with pytest.raises(UserError, match=r"0001\.png .*--data\.skip-broken"):
        write_pack(tmp_path / "a.zip", plan)
    assert (tmp_path / "a.partial").read_bytes() == begun
    said: list[str] = []
    assert (
        write_pack(tmp_path / "a.zip", plan, skip_broken=True, say=said.append).read_bytes()
        == without
    )
    assert "1 unreadable pictures with 2 people left out" in said[0] and "0001.png" in said[0]
    path.write_bytes(content)
    for name, skip_broken in (("b", False), ("c", True)):
        (tmp_path / f"{name}.partial").write_bytes(begun)
        assert (
            write_pack(
                tmp_path / f"{name}.zip", plan, skip_broken=skip_broken, say=said.append
            ).read_bytes()
            == good
        )
    assert len(said) == 1
