"""Results in the files of other programs, read back as those programs read them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from simplepose import UserError
from simplepose.cli import main
from simplepose.core.files import encode_json
from simplepose.core.lines import Line, Person, header_of
from simplepose.core.schema import COCO_17

K = len(COCO_17)


def keypoints(seed: int) -> np.ndarray:
    """(17, 3): x, y, score with the three decimals of the file."""
    return np.random.default_rng(seed).uniform(0, 100, (K, 3)).round(3)


def person(seed: int, track_id: int | None) -> Person:
    return Person(track_id, 0.5, (0.0, 0.0, 9.0, 9.0), [tuple(row) for row in keypoints(seed)])


def write(folder: Path, frames: list[list[Person]], source: str = "clips/my match.mp4") -> Path:
    lines = [
        Line(index, index / 25, source, index, 640, 480, people)
        for index, people in enumerate(frames)
    ]
    folder.mkdir(exist_ok=True)
    path = folder / "poses.jsonl"
    path.write_bytes(encode_json(header_of(COCO_17)) + b"\n" + b"".join(x.encoded() for x in lines))
    return path


@pytest.fixture
def tracked(tmp_path: Path) -> Path:
    """Four frames: 3 and 7; 7 alone; nobody; 7 and 3."""
    return write(
        tmp_path / "tracked",
        [[person(1, 3), person(2, 7)], [person(3, 7)], [], [person(4, 7), person(5, 3)]],
    )


def convert(results: Path, form: str, output: Path, *more: str) -> int:
    words = ["convert", "results", str(results), "--to", form, "--output", str(output), *more]
    return main(words)


def test_openpose_has_the_documented_layout(tracked: Path, tmp_path: Path) -> None:
    assert convert(tracked.parent, "openpose", tmp_path / "json") == 0
    files = sorted((tmp_path / "json").iterdir())
    assert [path.name for path in files] == [f"my_match_{i:012d}_keypoints.json" for i in range(4)]
    read = [json.loads(path.read_text()) for path in files]
    assert all(one["version"] == 1.3 for one in read)
    assert [[one["person_id"] for one in frame["people"]] for frame in read] == [
        [[3], [7]],
        [[7]],
        [],
        [[7], [3]],
    ]
    first = read[0]["people"][0]
    assert np.array_equal(np.reshape(first["pose_keypoints_2d"], (-1, 3)), keypoints(1))
    parts = [
        f"{part}_keypoints_{n}d" for part in ("face", "hand_left", "hand_right") for n in (2, 3)
    ]
    assert set(first) == {"person_id", "pose_keypoints_2d", "pose_keypoints_3d", *parts}
    assert all(first[name] == [] for name in (*parts, "pose_keypoints_3d"))


def test_openpose_writes_zeros_where_there_is_no_number(tmp_path: Path) -> None:
    nowhere = person(1, None)
    nowhere.keypoints[4] = (None, None, 0.2)
    assert convert(write(tmp_path, [[nowhere]]), "openpose", tmp_path / "json") == 0
    (path,) = (tmp_path / "json").iterdir()
    (found,) = json.loads(path.read_text())["people"]
    assert found["person_id"] == [-1] and found["pose_keypoints_2d"][12:15] == [0, 0, 0]


@pytest.mark.parametrize("ending", ["csv", "h5"])
def test_deeplabcut_is_read_back_by_pandas(tracked: Path, tmp_path: Path, ending: str) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas reads the table back")
    path = tmp_path / f"match.{ending}"
    if ending == "h5":
        pytest.importorskip("tables", reason="HDF5 of DeepLabCut needs PyTables")
    assert convert(tracked, "deeplabcut", path) == 0
    if ending == "h5":
        table = pandas.read_hdf(path, key="df_with_missing")
    else:
        table = pandas.read_csv(path, header=[0, 1, 2, 3], index_col=0)
    assert list(table.columns.names) == ["scorer", "individuals", "bodyparts", "coords"]
    assert table.index.tolist() == [0, 1, 2, 3] and table.shape == (4, 2 * K * 3)
    named = table["simplepose"]
    assert list(named.columns.get_level_values(0).unique()) == ["individual3", "individual7"]
    bodyparts = named["individual7"].columns.get_level_values(0)
    assert tuple(bodyparts.unique()) == COCO_17.keypoints
    three, seven = (named[f"individual{i}"].to_numpy().reshape(4, K, 3) for i in (3, 7))
    assert np.array_equal(three[0], keypoints(1)) and np.array_equal(three[3], keypoints(5))
    assert np.isnan(three[[1, 2]]).all() and np.isnan(seven[2]).all()
    assert [np.array_equal(seven[i], keypoints(seed)) for i, seed in ((0, 2), (1, 3), (3, 4))] == [
        True,
        True,
        True,
    ]
    likelihood = named[("individual3", "left_hip", "likelihood")]
    assert likelihood[0] == keypoints(1)[11, 2]


def test_deeplabcut_of_one_individual_has_three_header_rows(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas reads the table back")
    results = write(tmp_path, [[person(1, None)], [], [person(2, None)]])
    assert convert(results, "deeplabcut", tmp_path / "one.csv") == 0
    table = pandas.read_csv(tmp_path / "one.csv", header=[0, 1, 2], index_col=0)
    assert list(table.columns.names) == ["scorer", "bodyparts", "coords"]
    found = table.to_numpy().reshape(3, K, 3)
    assert np.array_equal(found[2], keypoints(2)) and np.isnan(found[1]).all()


def test_trc_is_read_back_as_marker_files_are(tracked: Path, tmp_path: Path) -> None:
    assert convert(tracked, "trc", tmp_path / "trc") == 0
    names = sorted(path.name for path in (tmp_path / "trc").iterdir())
    assert names == ["my_match_person3.trc", "my_match_person7.trc"]
    rows = [row.split("\t") for row in (tmp_path / "trc" / names[0]).read_text().splitlines()]
    assert rows[0] == ["PathFileType", "4", "(X/Y/Z)", names[0]]
    values = dict(zip(rows[1], rows[2], strict=True))
    assert float(values["DataRate"]) == 25 and values["Units"] == "px"
    assert (int(values["NumFrames"]), int(values["NumMarkers"])) == (4, K)
    assert rows[3][:2] == ["Frame#", "Time"] and tuple(rows[3][2::3]) == COCO_17.keypoints
    assert rows[4][2:8] == ["X1", "Y1", "Z1", "X2", "Y2", "Z2"] and len(rows[4]) == 2 + 3 * K
    assert [row[0] for row in rows[5:]] == ["1", "2", "3", "4"] and float(rows[8][1]) == 0.12
    assert all(len(row) == 2 + 3 * K for row in rows[4:]) and set(rows[6][2:]) == {""}
    x, y, z = np.reshape(np.array(rows[8][2:], float), (K, 3)).T
    expected = keypoints(5)
    assert np.allclose(x, expected[:, 0], atol=1e-3) and np.allclose(
        480 - y, expected[:, 1], atol=1e-3
    )
    assert not z.any()


def test_empty_results_are_a_normal_answer(tmp_path: Path) -> None:
    results = write(tmp_path, [[], []])
    assert convert(results, "openpose", tmp_path / "json") == 0
    assert len([*(tmp_path / "json").iterdir()]) == 2
    assert convert(results, "deeplabcut", tmp_path / "table.csv") == 0
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 3 + 2
    assert convert(results, "trc", tmp_path / "trc") == 0 and not [*(tmp_path / "trc").iterdir()]


def test_bad_input_is_a_sentence(
    tracked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        assert main(["convert", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and "Cure: " in error
        return error

    output = str(tmp_path / "out")
    assert "--to" in refused("results", str(tracked), "--output", output)
    assert "--to trc" in refused("coco", "a.json", "--output", output, "--to", "trc")
    assert "out.txt" in refused(
        "results", str(tracked), "--to", "deeplabcut", "--output", f"{output}.txt"
    )
    missing = str(tmp_path / "nowhere")
    assert "nowhere" in refused("results", missing, "--to", "openpose", "--output", output)
    pictures = write(tmp_path / "pictures", [[person(1, None)]], "a.jpg")
    assert "no video" in refused("results", str(pictures), "--to", "trc", "--output", output)
    assert convert(tracked, "openpose", tmp_path / "json") == 0
    assert "json" in refused(
        "results", str(tracked), "--to", "openpose", "--output", f"{tmp_path}/json"
    )
    assert convert(tracked, "openpose", tmp_path / "json", "--overwrite") == 0


def test_hdf5_without_its_package(tracked: Path, tmp_path: Path, monkeypatch) -> None:
    import sys

    from simplepose.video.formats import write_deeplabcut

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="deeplabcut"):
        write_deeplabcut(tracked, tmp_path / "table.h5")
    assert not (tmp_path / "table.h5").exists()
