"""Packs: whole or refused, resumable, and readable by any zip program."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from training_workers import write_people

from simplepose.commands import pack as pack_command
from simplepose.commands.options import parse
from simplepose.config import AugmentConfig
from simplepose.core.errors import UserError
from simplepose.data import pack_writer, picture_sizes
from simplepose.data.annotations import Annotations
from simplepose.data.coco import read_coco
from simplepose.data.loader import TrainLoader
from simplepose.data.mapping import concatenate
from simplepose.data.pack import annotations_hash, data_offset, file_hash, open_pack, scan_members
from simplepose.data.pack_writer import estimate_pack, plan_pack, write_pack
from simplepose.data.regions import from_view
from simplepose.pose.geometry import warp_crop

AUGMENT, SIZE = AugmentConfig(), (32, 32)


@pytest.fixture
def people(tmp_path: Path) -> Annotations:
    folder = write_people(tmp_path / "people", 9)
    return read_coco(folder / "people.json", folder).trainable()


def opened(path: Path, people: Annotations, augment: AugmentConfig = AUGMENT):
    return open_pack(path, people, augment, SIZE)


def test_nobody_to_pack(people: Annotations) -> None:
    with pytest.raises(UserError, match=r"people\.json .*no person"):
        plan_pack(people.select(np.zeros(0, np.int64)), AUGMENT, SIZE)


def test_a_pack_is_a_plain_zip_beside_a_coco_file(people: Annotations, tmp_path: Path) -> None:
    path = write_pack(tmp_path / "out" / "a.zip", plan_pack(people, AUGMENT, SIZE))
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None and {info.compress_type for info in file.infolist()} == {
            zipfile.ZIP_STORED
        }
        names = file.namelist()
        assert names[0] == "plan.json" and names[-1] == "pack.json" and len(names) == 11
        pictures = {
            name: cv2.imdecode(np.frombuffer(file.read(name), np.uint8), cv2.IMREAD_COLOR)
            for name in names[1:-1]
        }
    assert not path.with_suffix(".partial").exists()
    regions = read_coco(path.with_suffix(".json"), "")
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
    estimate = estimate_pack(plan_pack(people, AUGMENT, SIZE))
    assert 0.7 < estimate.bytes / path.stat().st_size < 1.5 and estimate.core_seconds > 0


def test_people_are_stored_no_finer_than_their_closest_view(
    people: Annotations, tmp_path: Path
) -> None:
    """People of 30 pixels on crops of 8: 37.5 pixels (with the box's quarter) are seen on 8 / .7 at most."""
    path = write_pack(
        tmp_path / "a.zip", plan_pack(people, AUGMENT, (8, 8), quality=100, full_colour=True)
    )
    pack = open_pack(path, people, AUGMENT, (8, 8))
    others = read_coco(path.with_suffix(".json"), "")
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
    with pytest.raises(UserError, match=r"a\.zip .*8x8, .*0\.7, .*9 of 9"):
        open_pack(path, people, AUGMENT, (16, 16))
    with pytest.raises(UserError, match="quality 0 .*1 .*100"):
        plan_pack(people, AUGMENT, SIZE, quality=0)


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


def test_an_interrupted_pack_goes_on_to_the_same_bytes(
    people: Annotations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_pack(people, AUGMENT, SIZE)
    whole = write_pack(tmp_path / "whole.zip", plan)
    real = pack_writer._add
    room = [5]

    def full_disk(file, name, content):
        room[0] -= 1
        if room[0] < 0:
            raise OSError(28, "No space left on device")
        return real(file, name, content)

    monkeypatch.setattr(pack_writer, "_add", full_disk)
    with pytest.raises(
        UserError, match=r"cut\.zip: No space left on device .*cut\.partial"
    ) as caught:
        write_pack(tmp_path / "cut.zip", plan)
    partial = tmp_path / "cut.partial"
    assert (
        str(partial) in str(caught.value)
        and partial.exists()
        and not (tmp_path / "cut.zip").exists()
    )
    assert not zipfile.is_zipfile(partial)  # never taken for whole
    entries, end = scan_members(partial)
    assert len(entries) == 5 and end == partial.stat().st_size
    partial.write_bytes(partial.read_bytes()[:-7])  # a member cut in the middle
    assert len(scan_members(partial)[0]) == 4
    room[0] = 1000
    read = []
    monkeypatch.setattr(
        picture_sizes,
        "read_image",
        lambda path: read.append(path) or cv2.imread(path)[:, :, ::-1].copy(),
    )
    assert write_pack(tmp_path / "cut.zip", plan).read_bytes() == whole.read_bytes()
    assert len(read) < len(np.unique(people.image_index))  # it did not begin again
    assert data_offset(entries[0]) > 0


def test_a_file_that_is_in_the_way_is_kept(people: Annotations, tmp_path: Path) -> None:
    plan, source = plan_pack(people, AUGMENT, SIZE), Path(people.source)
    annotations = source.read_bytes()
    (tmp_path / "link.json").symlink_to(source)
    for path in (source.with_suffix(".zip"), tmp_path / "link.zip"):
        for overwrite in (False, True):
            with pytest.raises(UserError, match=r"\.zip .*\.json\b.*--output"):
                write_pack(path, plan, overwrite=overwrite)
        assert not path.exists() and not path.with_suffix(".partial").exists()
    assert source.read_bytes() == annotations
    table = tmp_path / "a.json"
    table.write_text("mine")
    with pytest.raises(UserError, match=r"a\.json.* a\.zip.*--overwrite"):
        write_pack(tmp_path / "a.zip", plan)
    assert table.read_text() == "mine" and not (tmp_path / "a.partial").exists()
    (tmp_path / "a.partial").touch()  # an interrupted run of ours has written the table
    write_pack(tmp_path / "a.zip", plan)
    assert table.read_text() != "mine"
    table.write_text("old")
    write_pack(tmp_path / "a.zip", plan, overwrite=True)
    assert table.read_text() != "old"
    (tmp_path / "b.partial").write_text(
        "notes of somebody, longer than the header of a zip's member"
    )
    with pytest.raises(UserError, match=r"b\.partial .*--output"):
        write_pack(tmp_path / "b.zip", plan)
    assert (tmp_path / "b.partial").read_text().startswith("notes")
    with pytest.raises(UserError, match=r"\.zip"):
        write_pack(tmp_path / "b", plan)


def test_joined_files_are_one_pack(people: Annotations, tmp_path: Path) -> None:
    folder = write_people(tmp_path / "more", 5)
    joined = concatenate([people, read_coco(folder / "people.json", folder).trainable()])
    path = write_pack(tmp_path / "a.zip", plan_pack(joined, AUGMENT, SIZE))
    assert len(opened(path, joined).sizes) == 14 and opened(path, joined).view(13).pixels.any()
    assert annotations_hash(people) == file_hash(
        people.source
    )  # as in the packs that were written before there were joined ones
    with pytest.raises(UserError, match=r"\.zip was packed from .*people\.json"):
        opened(path, people)
    with (folder / "people.json").open("a") as file:
        file.write(" ")
    with pytest.raises(UserError, match=r"\.zip was packed from .*people\.json"):
        opened(path, joined)
    (folder / "people.json").unlink()
    with pytest.raises(UserError, match=r"cannot read .*more/people\.json"):
        opened(path, joined)


def test_a_partial_file_of_another_plan_is_refused(people: Annotations, tmp_path: Path) -> None:
    whole = write_pack(tmp_path / "whole.zip", plan_pack(people, AUGMENT, SIZE))
    (tmp_path / "b.partial").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UserError, match=r"b\.partial .*--output"):
        write_pack(tmp_path / "b.zip", plan_pack(people, replace(AUGMENT, scale_factor=0.1), SIZE))
    for other in (
        plan_pack(people, AUGMENT, SIZE, udp=True),
        plan_pack(people, replace(AUGMENT, shift_factor=0.2), SIZE),
    ):
        with pytest.raises(UserError, match=r"b\.partial .*--output"):
            write_pack(tmp_path / "b.zip", other)


def test_what_does_not_fit_is_refused_with_the_reason(people: Annotations, tmp_path: Path) -> None:
    path = write_pack(
        tmp_path / "a.zip",
        plan_pack(people, replace(AUGMENT, rotation_degrees=5.0, scale_factor=0.05), SIZE),
    )
    with pytest.raises(
        UserError,
        match=r"does not fit the preset: it was packed with scale up to 1.05, rotation up to 10 degrees.*too small",
    ):
        opened(path, people)
    path = write_pack(tmp_path / "b.zip", plan_pack(people, AUGMENT, SIZE))
    assert len(opened(path, people, replace(AUGMENT, scale_factor=0.1)).sizes) == len(
        people
    )  # a weaker preset fits
    cut = tmp_path / "cut.zip"
    cut.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"cut\.zip .*not a zip file"):
        opened(cut, people)
    with pytest.raises(UserError, match=r"missing\.zip: No such file"):
        opened(tmp_path / "missing.zip", people)
    few = write_pack(tmp_path / "few.zip", plan_pack(people.select(np.arange(4)), AUGMENT, SIZE))
    with pytest.raises(UserError, match=r"few\.zip .*5 of 9 .*annotation 5"):
        opened(few, people)
    with pytest.raises(UserError, match=r"b\.zip .*--overwrite"):
        write_pack(path, plan_pack(people, AUGMENT, SIZE))
    content = json.loads(Path(people.source).read_text())
    content["annotations"][0]["bbox"][0] += 1
    Path(people.source).write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"\.zip was packed from .*people\.json"):
        opened(path, people)


def test_a_member_that_does_not_decode_is_named_or_skipped(
    people: Annotations, tmp_path: Path
) -> None:
    path = write_pack(tmp_path / "a.zip", plan_pack(people, AUGMENT, SIZE))
    pack = opened(path, people)
    content = bytearray(path.read_bytes())
    content[pack.offsets[3] : pack.offsets[3] + pack.sizes[3]] = bytes(int(pack.sizes[3]))
    path.write_bytes(content)
    options = {"input_size_wh": SIZE, "batch_size": 4, "seed": 0, "source": opened(path, people)}
    with pytest.raises(UserError, match=f"a.zip, member at byte {pack.offsets[3]}"):
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
        str(tmp_path / "c.zip"),
        "--data.train-annotations",
        people.source,
    ]
    argv += ["--data.train-images", str(folder)]
    pack_command.run(parse("pack", [*argv, "--estimate-only"]))
    assert "9 people: about" in capsys.readouterr().out and not (tmp_path / "c.zip").exists()
    pack_command.run(parse("pack", argv))
    assert (
        "--data.cache pack --data.pack" in capsys.readouterr().out and (tmp_path / "c.zip").exists()
    )


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
        str(Path(people.source).with_suffix(".zip")),
    ]
    with pytest.raises(UserError, match="would replace"):
        pack_command.run(parse("pack", [*argv, "--overwrite"]))
    assert not capsys.readouterr().out  # not even an estimate
    pack_command.run(parse("pack", [*argv, "--estimate-only"]))
    assert "9 people: about" in capsys.readouterr().out
    Path(people.image_paths[0]).unlink()
    argv = ["coco_r18_128x96_mini", *where, "--output", str(tmp_path / "d.zip")]
    with pytest.raises(UserError, match=r"0000.png.*--data.skip-broken"):
        pack_command.run(parse("pack", argv))
    capsys.readouterr()
    pack_command.run(parse("pack", [*argv, "--data.skip-broken"]))
    assert (
        "note: 1 unreadable pictures with 2 people left out, first: cannot read"
        in capsys.readouterr().out
    )
