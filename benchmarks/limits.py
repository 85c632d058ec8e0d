"""What `commands.py` compares with: the same work without simplepose, written by hand.

    python limits.py predict|rtmlib PICTURES DETECTOR.onnx POSE.onnx OUTPUT
    python limits.py track VIDEO DETECTOR.onnx POSE.onnx OUTPUT

The detector is YOLOX, the network a heatmap network of 3 x 256 x 192. `predict` and `track` import
numpy, OpenCV and ONNX Runtime and nothing else. They share the threads out, do each thing once, and
check nothing; no line is written, limbs are drawn in one colour without outline. `track` follows
nobody: it is detector (every fifth frame), network and flow alone, drawn and written as MPEG-4.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

MEAN = np.array([123.675, 116.28, 103.53], np.float32)[:, None, None]
STD = np.array([58.395, 57.12, 57.375], np.float32)[:, None, None]
LIMBS = [(15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7)]
LIMBS += [(6, 8), (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)]


def session(path: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def find(detector: onnxruntime.InferenceSession, image: np.ndarray) -> np.ndarray:
    """(H, W, 3) RGB -> boxes (N, 4) by YOLOX."""
    one = detector.get_inputs()[0]
    side = one.shape[2]
    scale = min(side / image.shape[0], side / image.shape[1])
    height, width = (int(length * scale) for length in image.shape[:2])
    canvas = np.full((side, side, 3), 114, np.uint8)
    canvas[:height, :width] = cv2.resize(image, (width, height))
    pixels = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None, ::-1], np.float32)
    rows = detector.run(None, {one.name: pixels})[0][0]
    sides = [side // stride for stride in (8, 16, 32)]
    cells = np.concatenate([np.stack(np.divmod(np.arange(n * n), n)[::-1], 1) for n in sides])
    strides = np.repeat([8, 16, 32], [n * n for n in sides])[:, None]
    scores = rows[:, 4] * rows[:, 5]
    good = scores >= 0.3
    centers = (rows[good, :2] + cells[good]) * strides[good]
    sizes = np.exp(rows[good, 2:4]) * strides[good]
    boxes = np.concatenate([centers - sizes / 2, sizes], 1) / scale
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores[good].tolist(), 0.3, 0.65)
    boxes = boxes[np.array(kept, int).reshape(-1)]
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def estimate(
    network: onnxruntime.InferenceSession, image: np.ndarray, boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (N, K, 2) and scores (N, K), quarter offset."""
    if not len(boxes):
        return np.zeros((0, 17, 2)), np.zeros((0, 17))
    centers, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    widths = np.maximum(sides[:, 0], sides[:, 1] * 0.75) * 1.25
    pixels = np.empty((len(boxes), 3, 256, 192), np.float32)
    for place, center, width in zip(pixels, centers, widths, strict=True):
        s = 192 / width
        affine = np.array([[s, 0, 96 - s * center[0]], [0, s, 128 - s * center[1]]])
        crop = cv2.warpAffine(image, affine, (192, 256))
        np.subtract(crop.transpose(2, 0, 1), MEAN, out=place)
        place /= STD
    inputs = network.get_inputs()[0]
    parts = np.split(pixels, len(pixels)) if inputs.shape[0] == 1 else [pixels]
    maps = np.concatenate([network.run(None, {inputs.name: part})[0] for part in parts])
    flat = maps.reshape(len(maps), 17, -1)
    peak = flat.argmax(-1)
    scores = np.take_along_axis(flat, peak[..., None], -1)[..., 0]
    x, y = peak % 48, peak // 48
    inside = (x > 1) & (x < 47) & (y > 1) & (y < 63)

    def near(step: int) -> np.ndarray:
        return np.take_along_axis(flat, np.clip(peak + step, 0, 3071)[..., None], -1)[..., 0]

    moved = [np.sign(near(step) - near(-step)) * inside / 4 for step in (1, 48)]
    found = np.stack([x + moved[0], y + moved[1]], -1) * 4
    back = (found - [96, 128]) * (widths / 192)[:, None, None] + centers[:, None]
    return back, scores


def draw(image: np.ndarray, keypoints: np.ndarray, scores: np.ndarray) -> np.ndarray:
    for points, sure in zip(np.round(keypoints).astype(int).tolist(), scores > 0.2, strict=True):
        for a, b in LIMBS:
            if sure[a] and sure[b]:
                cv2.line(image, points[a], points[b], (0, 255, 0), 3, cv2.LINE_AA)
        for point in (p for p, shown in zip(points, sure, strict=True) if shown):
            cv2.circle(image, point, 4, (255, 255, 0), -1, cv2.LINE_AA)
    return image


def pictures(folder: str) -> Iterator[tuple[Path, np.ndarray]]:
    for path in sorted(Path(folder).iterdir()):
        yield path, cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)


def save(folder: str, path: Path, image: np.ndarray) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, 92]
    cv2.imwrite(f"{folder}/{path.stem}.jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)


def predict(source: str, detector: str, network: str, output: str) -> None:
    cores = len(os.sched_getaffinity(0))
    cv2.setNumThreads(cores)
    find_in, estimate_in, people = session(detector, cores), session(network, cores), 0
    for path, image in pictures(source):
        keypoints, scores = estimate(estimate_in, image, find(find_in, image))
        people += len(keypoints)
        save(output, path, draw(image, keypoints, scores))
    print(people, "people")


def rtmlib(source: str, detector: str, network: str, output: str) -> None:
    from rtmlib import YOLOX, ViTPose, draw_skeleton

    people, find_in = 0, YOLOX(detector, (416, 416), det_mode="multiclass", score_thr=0.3)
    estimate_in = ViTPose(network, (192, 256))
    for path, image in pictures(source):
        boxes, classes = find_in(image[..., ::-1])
        boxes = boxes[classes == 0]
        if len(boxes):  # without any it would take the whole picture
            people += len(boxes)
            image = draw_skeleton(image, *estimate_in(image, boxes), kpt_thr=0.2)
        save(output, path, image)
    print(people, "people")


def track(source: str, detector: str, network: str, output: str) -> None:
    cores = len(os.sched_getaffinity(0))
    cv2.setNumThreads(cores)
    find_in, estimate_in, people = session(detector, cores), session(network, cores), 0
    video, flow = cv2.VideoCapture(source), cv2.DISOpticalFlow.create(1)
    boxes, before, index = np.zeros((0, 4)), None, 0
    size = tuple(
        int(video.get(one)) for one in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    )
    letters, fps = cv2.VideoWriter.fourcc(*"mp4v"), video.get(cv2.CAP_PROP_FPS)
    written = cv2.VideoWriter(f"{output}/by_hand.mp4", letters, fps, size)
    while True:
        ok, image = video.read()
        if not ok:
            break
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
        boxes = find(find_in, image) if index % 5 == 0 else boxes
        scale = 192 / min(image.shape[:2])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        small = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        if before is not None and len(boxes):
            flow.calc(before, small, None)
        before, index = small, index + 1
        keypoints, scores = estimate(estimate_in, image, boxes)
        people += len(keypoints)
        written.write(cv2.cvtColor(draw(image, keypoints, scores), cv2.COLOR_RGB2BGR))
    written.release()
    print(people, "people")


if __name__ == "__main__":
    {"predict": predict, "rtmlib": rtmlib, "track": track}[sys.argv[1]](*sys.argv[2:])
