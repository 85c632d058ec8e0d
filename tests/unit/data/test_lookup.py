"""Pictures are found name by name."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from simplepose.data.pictures import find_pictures


def make(folder: Path, *names: str) -> Path:
    """Empty files in folder/pics."""
    for name in names:
        path = folder / "pics" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder / "pics"


def below(folder: Path, paths: tuple[str, ...]) -> list[str]:
    """The paths as seen from a folder."""
    return [os.path.relpath(path, folder) for path in paths]


NFD = unicodedata.normalize("NFD", "Äpfel.jpg")


@pytest.mark.parametrize(
    ("name", "there", "sentence"),
    [
        ("b/c.png", "b/c.png", None),
        (r"b\c.png", "b/c.png", None),
        ("../other/x.png", "x.png", "end of the path"),
        (r"D:\shots\day2\b\c.png", "b/c.png", "end of the path"),
        ("/home/bob/b/c.png", "b/c.png", "end of the path"),
        ("https://host.example/p/c.png?sig=a/b%2Fc", "b/c.png", "without regard"),
        ("/files/?d=proj%2Fb%2Fc.png&t=1", "b/c.png", "without regard"),
        ("my%20pic.png", "my pic.png", "without regard"),
        ("c.PNG", "b/c.png", "without regard"),
        ("x/B/C.Png", "b/c.png", "without regard"),
        (unicodedata.normalize("NFC", NFD), NFD, "without regard"),
        (NFD, "Äpfel.jpg", "without regard"),
        ("ÄPFEL.JPG", NFD, "without regard"),
        ("100%.png", "100%.png", None),
        ("b/c", "b/c.png", "missing ending"),
        ("shots/C", "b/c.PNG", "missing ending"),
        ("b/c.png ", "b/c.png", "without regard"),
        ("v1.2", "v1.2.jpg", "missing ending"),
    ],
)
def test_ways(tmp_path: Path, name: str, there: str, sentence: str | None) -> None:
    folder = make(tmp_path, there, "unrelated.png")
    paths, notes = find_pictures([name, "unrelated.png"], folder)
    assert below(folder, paths) == [there, "unrelated.png"]
    assert [count for count, _ in notes] == [1] * bool(sentence)
    assert all(sentence and sentence in words and there in words for _, words in notes)


def test_a_missing_picture_decides_nothing_for_the_others(tmp_path: Path) -> None:
    folder = make(tmp_path, "2.png", "3.png")
    names = ["tool/1.png", "tool/2.png", "3.png", "4.png"]
    paths, notes = find_pictures(names, folder)
    assert below(folder, paths) == ["tool/1.png", "2.png", "3.png", "4.png"]
    assert [count for count, _ in notes] == [1]


def test_the_longest_end_wins_and_videos_stay_apart(tmp_path: Path) -> None:
    folder = make(tmp_path, "v0/f.png", "v1/f.png", "f.png")
    paths, notes = find_pictures(["/old/v1/f.png", "/old/v0/f.png", "f.png"], folder)
    assert below(folder, paths) == ["v1/f.png", "v0/f.png", "f.png"] and notes[0][0] == 2


def test_the_folder_itself_or_one_beside_it_in_the_name(tmp_path: Path) -> None:
    folder = make(tmp_path, "a.png")
    make(tmp_path, "../more/a.png")
    paths, notes = find_pictures(["pics/a.png", "more/a.png"], folder)
    assert below(tmp_path, paths) == ["pics/a.png", "more/a.png"]
    assert [count for count, _ in notes] == [2]


@pytest.mark.parametrize("name", ["A.png", "x/y/A.PNG"])
def test_what_fits_two_files_is_not_guessed(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path, "1/a.png", "2/a.png")
    assert find_pictures([name], folder) == ((str(folder / name),), [])


def test_a_name_without_ending_is_of_one_picture(tmp_path: Path) -> None:
    """Labels beside it do not count, a second picture does."""
    folder = make(tmp_path, "a.png", "a.txt", "a.json", "b.png", "b.jpg")
    assert below(folder, find_pictures(["a", "b"], folder)[0]) == ["a.png", "b"]


def test_two_names_never_lead_to_one_picture(tmp_path: Path) -> None:
    folder = make(tmp_path, "a.png", "b.png")
    names = ["u/a.png", "w/a.png", "b.png", "B.png"]
    paths, notes = find_pictures(names, folder)
    assert below(folder, paths) == names
    assert [count for count, _ in notes] == [3] and "another name" in notes[0][1]
    # the same picture listed twice is no other name
    assert below(folder, find_pictures(["u/a.png", "u/a.png"], folder)[0]) == ["a.png"] * 2


def test_folders_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, seen = make(tmp_path, *(f"{index}.png" for index in range(50))), list[str]()
    scandir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: seen.append(str(path)) or scandir(path))
    find_pictures([f"{index}.png" for index in range(50)], folder)
    assert seen == [str(folder)]


@pytest.mark.parametrize("name", ["a.png", "a\0b.png", "/", "..", "?", "%", "x" * 5000, "=&#"])
def test_nothing_there(tmp_path: Path, name: str) -> None:
    paths, notes = find_pictures([name], tmp_path / "absent")
    assert paths == (os.path.join(tmp_path / "absent", name),) and not notes
