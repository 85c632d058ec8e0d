"""Pictures whose size the annotations do not tell: the files are asked, and every cache shows the same samples as with known sizes."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from jpegs import with_orientation
from training_workers import write_people

from simplepose.config import AugmentConfig, Config, DataConfig
from simplepose.core.errors import UserError
from simplepose.core.images import read_image
from simplepose.data import cache
from simplepose.data.annotations import Annotations
from simplepose.data.augment import person_views
from simplepose.data.cache import PixelSource, fill_memory, open_pixels
from simplepose.data.coco import read_coco
from simplepose.data.loader import TrainLoader
from simplepose.data.pack import open_pack, plan_pack, write_pack
from simplepose.data.pictures import WrongSizeError, picture_size, with_picture_sizes
from simplepose.data.source import boxes_to_test, read_split

AUGMENT, SIZE, CPU = AugmentConfig(), (32, 32), torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """9 people on 5 pictures: sizes.json tells the size of none, people.json of all; the first box reaches out of its picture."""
    folder = write_people(tmp_path / "people", 9)
    content = json.loads((folder / "people.json").read_text())
    content["annotations"][0]["bbox"] = [-10, -10, 60, 60]
    (folder / "people.json").write_text(json.dumps(content))
    for image in content["images"]:
        del image["width"], image["height"]
    (folder / "sizeless.json").write_text(json.dumps(content))
    return folder


def config(folder: Path, file: str = "sizeless.json", **options) -> DataConfig:
    return DataConfig(
        train_annotations=str(folder / file), train_images=str(folder), workers=1, **options
    )


def turned_tiff(path: Path) -> None:
    """A TIFF of 60 x 40 grey pixels whose orientation asks for a quarter turn."""
    tags = [
        (256, 60),
        (257, 40),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (274, 6),
        (277, 1),
        (278, 40),
        (279, 2400),
    ]
    directory = (
        struct.pack("<H", len(tags))
        + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        + bytes(4)
    )
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + 2400) + bytes(2400) + directory)


def test_the_size_is_that_of_the_decoded_raster(tmp_path: Path) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    for name in ("a.jpg", "a.png", "a.bmp", "a.webp", "a.ppm", "a.ras", "A.JPG"):
        cv2.imwrite(str(tmp_path / name), image)
        assert picture_size(tmp_path / name) == (60, 40), name
    (tmp_path / "turned.jpg").write_bytes(with_orientation((tmp_path / "a.jpg").read_bytes(), 6))
    (tmp_path / "wrong.jpg").write_bytes(
        (tmp_path / "a.ras").read_bytes()
    )  # no header that is understood
    turned_tiff(tmp_path / "turned.tif")
    for name in ("turned.jpg", "wrong.jpg", "turned.tif"):
        assert (
            picture_size(tmp_path / name) == read_image(tmp_path / name).shape[1::-1] == (60, 40)
        ), name


def test_headers_are_enough_and_only_of_pictures_to_train_on(folder: Path) -> None:
    people = read_coco(folder / "sizeless.json", folder)
    for path in people.image_paths[:4]:
        Path(path).write_bytes(Path(path).read_bytes()[:60])
    Path(people.image_paths[4]).unlink()
    crowd = replace(people, is_crowd=people.image_index == 4)
    found = with_picture_sizes(crowd)
    assert (
        found.image_sizes_wh.tolist() == [[80, 64]] * 4 + [[0, 0]]
        and "sizes of 4 pictures were unknown" in found.warnings[-1]
    )
    assert with_picture_sizes(found) is found
    half = replace(crowd, image_sizes_wh=np.array([[7, 0], [5, 6], [0, 7], [5, 6], [0, 0]]))
    assert with_picture_sizes(half).image_sizes_wh.tolist() == [
        [80, 64],
        [5, 6],
        [80, 64],
        [5, 6],
        [0, 0],
    ]
    with pytest.raises(
        UserError,
        match=r"sizeless.json does not tell the size.*cannot read .*0004.png.*Cure.*--data.skip-broken",
    ):
        with_picture_sizes(people)
    lenient = with_picture_sizes(people, skip_broken=True)
    assert (
        lenient.image_sizes_wh.tolist() == [[80, 64]] * 4 + [[0, 0]]
        and "1 of them cannot be read" in lenient.warnings[-1]
    )


def test_a_test_on_clipped_boxes_reads_them(folder: Path) -> None:
    known, unknown = (read_coco(folder / file, folder) for file in ("people.json", "sizeless.json"))
    clipped = boxes_to_test("gt", unknown, ground_truth="clipped").boxes_xyxy
    assert (
        clipped.tolist() == boxes_to_test("gt", known, ground_truth="clipped").boxes_xyxy.tolist()
    )
    assert clipped[0].tolist() == [0, 0, 59, 59]
    assert boxes_to_test("gt", unknown).boxes_xyxy[0].tolist() == [-10, -10, 50, 50]
    Path(known.image_paths[0]).unlink()
    with pytest.raises(UserError, match=r"0000\.png"):
        boxes_to_test("gt", unknown, ground_truth="clipped")
    lenient = boxes_to_test("gt", unknown, ground_truth="clipped", skip_broken=True)
    assert lenient.boxes_xyxy[2:].tolist() == clipped[2:].tolist()


def test_training_reads_them_and_evaluation_does_not(folder: Path) -> None:
    known, found = (
        read_split(config(folder, file), "train") for file in ("people.json", "sizeless.json")
    )
    assert np.array_equal(found.image_sizes_wh, known.image_sizes_wh)
    assert (
        np.array_equal(found.trainable().bbox_xywh, known.trainable().bbox_xywh)
        and known.trainable().bbox_xywh[0, 0] == 0
    )
    val = read_split(
        DataConfig(val_annotations=str(folder / "sizeless.json"), val_images=str(folder)), "val"
    )
    assert not val.image_sizes_wh.any()
    more = {"more_annotations": (str(folder / "sizeless.json"),), "more_images": (str(folder),)}
    joined = read_split(config(folder, "people.json", **more), "train")
    assert (joined.image_sizes_wh == (80, 64)).all() and joined.trainable().bbox_xywh[
        9
    ].tolist() == known.trainable().bbox_xywh[0].tolist()
    Path(known.image_paths[0]).unlink()
    with pytest.raises(UserError, match=r"sizeless\.json .*0000\.png"):
        read_split(config(folder), "train")
    assert read_split(config(folder, skip_broken=True), "train").image_sizes_wh[0].tolist() == [
        0,
        0,
    ]


WAYS = [
    "files",
    "pictures in ram",
    "regions in ram",
    "pictures on device",
    "regions on device",
    "pack",
]


def opened(
    way: str, people: Annotations, folder: Path, monkeypatch: pytest.MonkeyPatch, **options
) -> tuple[PixelSource, bool]:
    """`open_pixels` with the cache that is wanted."""
    what, kind = way.split()[0], way.split()[-1]
    monkeypatch.setattr(cache, "choose_cache", lambda *_, **__: (kind, what == "pictures", way))
    if kind == "pack":
        write_pack(
            folder / "packed",
            plan_pack(people, AUGMENT, SIZE),
            skip_broken=True,
            overwrite=True,
        )
    chosen = config(folder, cache=kind, pack=str(folder / "packed"), **options)
    source, on_device, _ = open_pixels(Config(data=chosen, input_size_wh=SIZE), people, CPU)
    return source, on_device


def epoch(
    people: Annotations, source: PixelSource, on_device: bool
) -> tuple[torch.Tensor, np.ndarray, dict[str, str]]:
    """Crops (N, 3, H, W), the people they show (N,), and the broken pictures."""
    options = {
        "input_size_wh": SIZE,
        "batch_size": 4,
        "seed": 0,
        "source": source,
        "warp_on_device": on_device,
    }
    loader = TrainLoader(people, AUGMENT, skip_broken=True, **options)
    batches = [batch.to(CPU) for batch in loader.epoch(0)]
    return (
        torch.cat([batch.pixels for batch in batches]),
        np.concatenate([batch.rows for batch in batches]),
        loader.broken,
    )


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_every_cache_shows_what_it_shows_with_known_sizes(
    way: str, on_device: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    for file in ("people.json", "sizeless.json"):
        people = read_split(config(folder, file), "train").trainable()
        source, must = opened(way, people, folder, monkeypatch)
        shown.append(epoch(people, source, on_device or must))
    assert torch.equal(shown[0][0], shown[1][0]) and len(shown[1][1]) == 9 and not shown[1][2]
    assert (shown[1][0].amax((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_of_unknown_size_that_is_broken_is_skipped_and_counted(
    way: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "0002.png").write_bytes(b"no picture")
    people = read_split(config(folder, skip_broken=True), "train").trainable()
    assert people.image_sizes_wh[2].tolist() == [0, 0]
    source, on_device = opened(way, people, folder, monkeypatch, skip_broken=True)
    pixels, rows, broken = epoch(people, source, on_device)
    assert sorted(rows) == [0, 1, 2, 3, 6, 7, 8] and list(broken) == [str(folder / "0002.png")]
    assert (pixels.amax((1, 2, 3)) > 0).all()


def test_a_picture_repaired_after_packing_is_still_left_out(folder: Path) -> None:
    path = folder / "0002.png"
    content = path.read_bytes()
    path.write_bytes(b"no picture")
    people = read_split(config(folder, skip_broken=True), "train").trainable()
    pack = folder / "packed"
    write_pack(pack, plan_pack(people, AUGMENT, SIZE), skip_broken=True)
    path.write_bytes(content)
    source = open_pack(pack, read_split(config(folder), "train").trainable(), AUGMENT, SIZE)
    assert source.view(3).pixels.any()
    with pytest.raises(UserError, match=r"packed/people-00000\.zip, .*at byte \d+"):
        source.view(4)


def test_people_read_without_read_split_are_asked_for_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = read_coco(folder / "sizeless.json", folder).trainable()
    known = read_coco(folder / "people.json", folder)
    assert (plan_pack(people, AUGMENT, SIZE).people.image_sizes_wh == (80, 64)).all()
    monkeypatch.setattr(
        cache, "memory_bytes", lambda device: (10, 10)
    )  # nothing fits, and the sentence says how much there is
    chosen = Config(data=config(folder, cache="auto"), input_size_wh=SIZE)
    _, _, reason = open_pixels(chosen, people, CPU)
    assert (
        f"decoded pictures {3 * cache.count_pixels(known, None) / 1e6:.1f} MB" in reason
        and "person regions 0.0 MB" not in reason
    )


def test_a_picture_that_comes_back_later_is_no_black_crop(folder: Path, tmp_path: Path) -> None:
    """Its size was asked for in vain, so no region of it was planned."""
    people = read_coco(folder / "people.json", folder).trainable()
    sizes = people.image_sizes_wh.copy()
    sizes[2] = 0
    people = replace(people, image_sizes_wh=sizes)
    regions, _ = person_views(people, AUGMENT, SIZE)
    for kept, on_device in ((regions, False), (regions, True), (None, False), (None, True)):
        with pytest.raises(UserError, match=r"0002\.png .*--data\.skip-broken"):
            fill_memory(people, kept)
        source = fill_memory(people, kept, skip_broken=True)
        pixels, rows, broken = epoch(people, source, on_device)
        assert (
            len(rows) == 7
            and list(broken) == [str(folder / "0002.png")]
            and (pixels.amax((1, 2, 3)) > 0).all()
        )


@pytest.mark.parametrize("skip_broken", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_picture_of_another_size_is_refused_wherever_it_is_decoded(
    way: str, skip_broken: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = read_split(config(folder, "people.json"), "train").trainable()
    cv2.imwrite(str(folder / "0003.png"), np.full((32, 40, 3), 90, np.uint8))
    with pytest.raises(WrongSizeError, match=r"0003\.png is 40x32, .* 80x64\. Cure"):
        source, on_device = opened(way, people, folder, monkeypatch, skip_broken=skip_broken)
        epoch(people, source, on_device)


def phone_pictures(folder: Path, orientation: int) -> None:
    """The pictures as a phone stores them: JPEGs of other names, to be turned to stand upright."""
    text = (folder / "people.json").read_text()
    for path in folder.glob("*.png"):
        stored = cv2.imread(str(path))
        stored = np.rot90(stored) if orientation == 6 else np.rot90(stored, 2)
        content = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
        path.with_suffix(".jpg").write_bytes(with_orientation(content, orientation))
    (folder / "phone.json").write_text(text.replace(".png", ".jpg"))
    text = (folder / "sizeless.json").read_text()
    (folder / "phone_sizeless.json").write_text(text.replace(".png", ".jpg"))


@pytest.mark.parametrize("file", ["phone.json", "phone_sizeless.json"])
@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("way", WAYS)
def test_upright_phone_pictures_give_the_same_samples(
    way: str, orientation: int, file: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone_pictures(folder, orientation)
    plain = read_split(config(folder, "people.json"), "train").trainable()
    turned = read_split(config(folder, file, upright=True), "train")
    assert (turned.image_sizes_wh == (80, 64)).all() and not [
        note for note in turned.warnings if "EXIF" in note
    ]
    shown = [
        epoch(people, *opened(way, people, folder, monkeypatch))[0].float()
        for people in (plain, turned.trainable())
    ]
    assert (shown[0] - shown[1]).abs().mean() < 4


def test_exif_is_named_where_it_explains_the_size(folder: Path) -> None:
    phone_pictures(folder, 6)
    people = read_split(config(folder, "phone.json"), "train")
    assert any("EXIF" in note and "--data.upright" in note for note in people.warnings)
    with pytest.raises(WrongSizeError, match=r"64x80.*80x64.*EXIF.* 6.*Cure: --data\.upright"):
        fill_memory(people, None)
    stored = replace(people, image_sizes_wh=people.image_sizes_wh[:, ::-1], upright=True)
    with pytest.raises(WrongSizeError, match=r"80x64.*64x80.*EXIF.* 6.*leave --data\.upright out"):
        fill_memory(stored, None)


def test_exif_that_keeps_the_size_is_noted(folder: Path) -> None:
    phone_pictures(folder, 3)
    people = read_split(config(folder, "phone.json"), "train")
    assert [note for note in people.warnings if "5 of the pictures" in note and "(3)" in note]
    assert not [
        note
        for note in read_split(config(folder, "people.json"), "train").warnings
        if "EXIF" in note
    ]


def test_a_pack_of_turned_pictures_is_not_one_of_stored_ones(folder: Path) -> None:
    phone_pictures(folder, 3)
    plain, turned = (
        read_split(config(folder, "phone.json", upright=upright), "train").trainable()
        for upright in (False, True)
    )
    write_pack(folder / "packed", plan_pack(turned, AUGMENT, SIZE))
    assert open_pack(folder / "packed", turned, AUGMENT, SIZE).view(0).pixels.any()
    with pytest.raises(UserError, match=r"packed .*as stored.*--data\.upright"):
        open_pack(folder / "packed", plain, AUGMENT, SIZE)
