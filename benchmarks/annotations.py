"""Reading a COCO train2017-sized annotation file: seconds and peak memory, beside pycocotools and a plain Python loop.

The file is synthetic but of the official one's proportions: 118,287 pictures, 262,465 people with outlines, 149,813 of them with
keypoints. Each reader runs in a process of its own (its peak memory is the process's), in interleaved rounds; the results must be equal.

    python benchmarks/annotations.py [--people 149813] [--rounds 3] [--output FILE.json]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

PICTURES_A_PERSON, ROWS_A_PERSON = 118_287 / 149_813, 262_465 / 149_813


def write_file(path: Path, people: int) -> None:
    """A COCO-keypoints file with `people` people with keypoints, and pictures, bystanders and outlines in proportion."""
    from simplepose.core.schema import COCO_17

    rng = np.random.default_rng(0)
    pictures, rows = max(round(people * PICTURES_A_PERSON), 1), round(people * ROWS_A_PERSON)
    corner, side = rng.uniform(0, 300, (rows, 2)), rng.uniform(8, 300, (rows, 2))
    boxes = np.concatenate([corner, side], 1).round(2)
    keypoints = np.zeros((rows, 17, 3), int)
    keypoints[:people, :, :2] = (
        corner[:people, None] + rng.uniform(0, 1, (people, 17, 2)) * side[:people, None]
    )
    keypoints[:people, :, 2] = rng.choice([0, 1, 2], (people, 17), p=[0.4, 0.08, 0.52])
    keypoints[:people, 0, 2] = 2
    keypoints[keypoints[..., 2] == 0] = 0
    outline = (
        (corner[:, None] + rng.uniform(0, 1, (rows, 22, 2)) * side[:, None])
        .round(2)
        .reshape(rows, 44)
    )
    image_ids = rng.permutation(600_000)[:pictures]
    owner = image_ids[rng.integers(0, pictures, rows)]
    annotations = [
        {
            "segmentation": [outline[row].tolist()],
            "num_keypoints": int((keypoints[row, :, 2] > 0).sum()),
            "area": float(round(0.53 * side[row].prod(), 3)),
            "iscrowd": 0,
            "keypoints": keypoints[row].ravel().tolist(),
            "image_id": int(owner[row]),
            "bbox": boxes[row].tolist(),
            "category_id": 1,
            "id": row + 1,
        }
        for row in range(rows)
    ]
    images = [
        {
            "license": 1,
            "file_name": f"{image_id:012d}.jpg",
            "coco_url": f"http://images.example/train2017/{image_id:012d}.jpg",
            "height": 640,
            "width": 640,
            "date_captured": "2013-11-14 16:28:13",
            "id": int(image_id),
        }
        for image_id in image_ids
    ]
    names = {
        "id": 1,
        "name": "person",
        "keypoints": list(COCO_17.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in COCO_17.skeleton],
    }
    path.write_bytes(
        msgspec.json.encode({"images": images, "annotations": annotations, "categories": [names]})
    )


def ours(path: str) -> tuple[int, float]:
    """`read_coco`: people to train on, and a checksum of their keypoints."""
    from simplepose.data.coco import read_coco

    people = read_coco(path, "images").trainable()
    return len(people), float(people.keypoints.astype(np.float64).sum())


def pycocotools(path: str) -> tuple[int, float]:
    """The COCO API and the references' filter, one person at a time."""
    from pycocotools.coco import COCO

    api = COCO(path)
    return _loop(api.loadAnns(api.getAnnIds(iscrowd=False)), api.imgs)


def plain(path: str) -> tuple[int, float]:
    """json.load and the references' filter, one person at a time."""
    content = json.loads(Path(path).read_bytes())
    return _loop(
        [row for row in content["annotations"] if not row["iscrowd"]],
        {image["id"]: image for image in content["images"]},
    )


def _loop(rows: list[dict], images: dict) -> tuple[int, float]:
    records, total = [], 0.0
    for row in rows:
        x, y, w, h = row["bbox"]
        image = images[row["image_id"]]
        x1, y1 = max(0, x), max(0, y)
        x2, y2 = (
            min(image["width"] - 1, x1 + max(0, w - 1)),
            min(image["height"] - 1, y1 + max(0, h - 1)),
        )
        if row["area"] > 0 and x2 > x1 and y2 > y1 and max(row["keypoints"][2::3]) > 0:
            joints = np.array(row["keypoints"], np.float32).reshape(-1, 3)
            records.append(
                {"image": image["file_name"], "box": [x1, y1, x2 - x1, y2 - y1], "joints": joints}
            )
            total += float(joints[:, :2].astype(np.float64).sum())
    return len(records), total


READERS = {"simplepose": ours, "pycocotools": pycocotools, "plain Python": plain}


def child(reader: str, path: str) -> None:
    """Runs one reader and prints its result; started in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    people, checksum = READERS[reader](path)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "seconds": seconds,
                "peak_mib": peak / 1024,
                "start_mib": before / 1024,
                "people": people,
                "checksum": checksum,
            }
        )
    )


def main() -> None:
    """Builds the file, times the readers, prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, default=149_813)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        write_file(arguments.build, arguments.people)
        return
    if arguments.child:
        child(*arguments.child)
        return
    runs: dict[str, list[dict]] = {reader: [] for reader in READERS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "person_keypoints_train2017.json"
        # in a process of its own, because a child inherits its parent's peak memory
        subprocess.run(
            [sys.executable, __file__, "--people", str(arguments.people), "--build", str(path)],
            check=True,
        )
        size = path.stat().st_size / 2**20
        for _ in range(arguments.rounds):
            for reader in READERS:
                output = subprocess.run(
                    [sys.executable, __file__, "--child", reader, str(path)],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                runs[reader].append(json.loads(output.stdout.splitlines()[-1]))
    table = {
        reader: {
            name: statistics.median(run[name] for run in rounds)
            for name in ("seconds", "peak_mib", "start_mib", "people", "checksum")
        }
        for reader, rounds in runs.items()
    }
    first = table["simplepose"]
    for reader, row in table.items():
        assert row["people"] == first["people"] and np.isclose(
            row["checksum"], first["checksum"], rtol=1e-9
        ), (reader, row, first)
    print(
        f"{size:.0f} MiB, {first['people']:.0f} people to train on, median of {arguments.rounds} rounds"
    )
    for reader, row in table.items():
        ratio = row["seconds"] / first["seconds"]
        print(
            f"{reader:<14}{row['seconds']:7.2f} s  peak {row['peak_mib']:7.0f} MiB  {ratio:5.1f} x the time of simplepose"
        )
    if arguments.output:
        arguments.output.write_text(
            json.dumps({"file_mib": size, "rounds": arguments.rounds, "readers": table}, indent=2)
        )


if __name__ == "__main__":
    main()
