"""Poses over HTTP, asked for by real clients of a real server."""

from __future__ import annotations

import json
import socket
import threading
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import msgspec
import numpy as np
import pytest
from PIL import Image
from serving import get, post, serving

from simplepose.config import ServeConfig
from simplepose.core.images import decode_image
from simplepose.core.lines import Line, header_of, line_of
from simplepose.core.schema import COCO_17
from simplepose.core.structures import Frame, Poses
from simplepose.detection.people import whole
from simplepose.pose.estimator import PoseEstimator

pytest.importorskip("fastapi", reason="simplepose serve needs fastapi (pip install '.[serve]')")
pytest.importorskip("prometheus_client")
from prometheus_client.parser import text_string_to_metric_families

from simplepose.serve.app import Rates, Refusal, create_app
from simplepose.serve.batches import Batches

HEADER = header_of(COCO_17, weights="w", boxes="whole")


def picture(seed: int, kind: str = "PNG", size_wh: tuple[int, int] = (48, 64)) -> bytes:
    """A file of one colour, which its seed decides."""
    colour = tuple(np.random.default_rng(seed).integers(0, 255, 3).tolist())
    file = BytesIO()
    Image.new("RGB", size_wh, colour).save(file, kind)
    return file.getvalue()


def poses_of(frame: Frame) -> Poses:
    """Keypoints that tell the picture: its colour and size."""
    numbers = [*frame.image[0, 0].tolist(), *frame.image.shape[:2]]
    keypoints = np.resize(np.array(numbers, np.float32), (1, 17, 2))
    return Poses(keypoints, np.full((1, 17), 0.5), np.ones((1, 4)), np.ones(1))


def estimate(frames: Sequence[Frame]) -> list[Poses]:
    return [poses_of(frame) for frame in frames]


def expected(content: bytes, name: str) -> dict[str, object]:
    frame = Frame(decode_image(content, name, upright=True), name)
    answer: dict[str, object] = json.loads(line_of(frame, poses_of(frame), 0).encoded())
    return answer


def metrics(port: int) -> dict[str, float]:
    """Samples by name and the value of their only label."""
    status, text = get(port, "/metrics")
    assert status == 200
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return {"".join([one.name, *one.labels.values()]): one.value for one in samples}


def test_an_answer_is_a_line_of_poses_jsonl() -> None:
    with serving(create_app(estimate, HEADER, ServeConfig())) as port:
        content = picture(3, "JPEG")
        status, answer, headers = post(port, content, "/poses?name=a%20b.jpg")
        assert status == 200 and headers["content-type"] == "application/json"
        assert answer == expected(content, "a b.jpg")
        line = msgspec.convert(answer, Line, strict=False)
        assert (line.width, line.height, line.source) == (48, 64, "a b.jpg")
        assert json.loads(get(port, "/header")[1])["keypoints"] == list(COCO_17.keypoints)
        assert json.loads(get(port, "/healthz")[1])["status"] == "ok"
        numbers = metrics(port)
        assert numbers["simplepose_requests_total200"] == 1
        assert numbers["simplepose_people_total"] == 1
        assert numbers["simplepose_open_requests"] == 0


def test_64_clients_get_their_own_answers_in_batches() -> None:
    """Pictures of people through the network that comes with the package, against its own answers
    one by one."""
    estimator = PoseEstimator.from_pretrained("starter", device="cpu", flip_test=False)
    generator = np.random.default_rng(0)
    files, truths = [], []
    for index in range(16):
        noise = generator.integers(0, 255, (6, 4, 3), np.uint8)
        file = BytesIO()
        Image.fromarray(noise).resize((96, 128 + index), Image.Resampling.BICUBIC).save(file, "PNG")
        files.append(file.getvalue())
        truths.append(estimator(decode_image(files[-1], "x"), "whole"))

    def by_network(frames: Sequence[Frame]) -> list[Poses]:
        images = [frame.image for frame in frames]
        return estimator.estimate_batch(images, [whole(image) for image in images])

    with serving(create_app(by_network, HEADER, ServeConfig())) as port:
        start = threading.Barrier(64)

        def client(number: int) -> Counter[int]:
            start.wait()
            statuses = Counter[int]()
            for index in (number % 16, (number + 5) % 16):
                status, answer, _ = post(port, files[index], f"/poses?name={number}-{index}")
                statuses[status] += 1
                assert answer["source"] == f"{number}-{index}"
                assert answer["height"] == 128 + index
                (person,) = answer["people"]
                found = np.array(person["keypoints"])
                assert np.abs(found[:, :2] - truths[index].keypoints[0]).max() < 0.05
                assert np.abs(found[:, 2] - truths[index].keypoint_scores[0]).max() < 0.002
            return statuses

        with ThreadPoolExecutor(64) as pool:
            total = sum(pool.map(client, range(64)), Counter[int]())
        numbers = metrics(port)
    assert total == {200: 128}
    assert numbers["simplepose_batch_pictures_sum"] == 128
    assert numbers["simplepose_batch_pictures_count"] <= 64
    assert (
        numbers["simplepose_batch_pictures_bucket16.0"]
        == numbers["simplepose_batch_pictures_count"]
    )


def huge_png() -> bytes:
    """A bomb: 60,000 x 60,000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        )

    side = (60_000).to_bytes(4, "big")
    head = chunk(b"IHDR", side + side + b"\x08\x02\0\0\0")
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(b"\0" * 999))
        + chunk(b"IEND", b"")
    )


BROKEN = {
    "text": (b"hello", 422),
    "empty": (b"", 422),
    "cut": (picture(1, "JPEG", (200, 200))[:-40], 422),
    "bomb": (huge_png(), 422),
    "large": (picture(1, "BMP", (400, 400)), 413),
    "pixels": (picture(1, "PNG", (1200, 1000)), 422),
    "sun raster": (b"\x59\xa6\x6a\x95" + b"\0\xff\xff\xff" * 7, 422),
}


def test_what_is_no_picture_is_refused_in_json_and_the_server_lives() -> None:
    config = ServeConfig(max_megabytes=0.2, max_megapixels=1)
    with serving(create_app(estimate, HEADER, config)) as port:
        for name, (content, wanted) in BROKEN.items():
            status, answer, _ = post(port, content, "/poses?name=x")
            assert (status, set(answer)) == (wanted, {"error", "cure"}), name
            assert all(answer.values()), name
        form = {"Content-Type": "multipart/form-data; boundary=b"}
        assert post(port, b"--b--", **form)[0] == 415
        # sent in chunks, so that nobody knows how large it gets
        assert post(port, iter([b"x" * 100_000] * 5))[0] == 413
        assert get(port, "/poses")[0] == 405 and get(port, "/nothing")[0] == 404
        assert post(port, picture(5))[0] == 200
        numbers = metrics(port)
    assert numbers["simplepose_requests_total422"] == 6
    assert numbers["simplepose_requests_total413"] == 2


def test_a_picture_of_a_gigabyte_is_refused_before_it_comes() -> None:
    with (
        serving(create_app(estimate, HEADER, ServeConfig())) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as client,
    ):
        client.sendall(
            b"POST /poses HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert b" 413 " in client.recv(4096)


def test_slow_and_vanishing_clients_hold_nobody_up() -> None:
    config = ServeConfig(seconds=0.5)
    with serving(create_app(estimate, HEADER, config)) as port:
        head = b"POST /poses HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc"
        slow, gone = (socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(2))
        slow.sendall(head)
        gone.sendall(head)
        gone.close()
        assert post(port, picture(1))[0] == 200
        assert b" 408 " in slow.recv(4096)
        slow.close()
        assert post(port, picture(2))[0] == 200
        assert metrics(port)["simplepose_open_requests"] == 0


def test_more_than_may_wait_are_told_so() -> None:
    entered, go = threading.Event(), threading.Event()

    def blocked(frames: Sequence[Frame]) -> list[Poses]:
        entered.set()
        go.wait()
        return estimate(frames)

    app = create_app(blocked, HEADER, ServeConfig(max_open=1))
    with serving(app) as port, ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, port, picture(1))
        entered.wait()
        status, _, headers = post(port, picture(2))
        go.set()
        assert first.result()[0] == 200
    assert status == 503 and int(headers["Retry-After"]) > 0


def test_rates() -> None:
    rates = Rates(2)
    for now in (0.0, 0.0):
        rates.check("a", now)
    with pytest.raises(Refusal) as refused:
        rates.check("a", 0.1)
    assert refused.value.status == 429 and refused.value.headers == {"Retry-After": "1"}
    rates.check("b", 0.1)
    rates.check("a", 0.6)
    with pytest.raises(Refusal):
        rates.check("a", 0.6)
    slow = Rates(0.1)
    slow.check("a", 0)
    with pytest.raises(Refusal) as refused:
        slow.check("a", 5)
    assert refused.value.headers == {"Retry-After": "6"}
    slow.check("a", 11)
    for _ in range(100):
        Rates(0).check("a", 0)
    with serving(create_app(estimate, HEADER, ServeConfig(rate=0.001))) as port:
        assert [post(port, picture(1))[0] for _ in range(2)] == [200, 429]


def test_one_picture_that_the_network_fails_on_harms_no_other() -> None:
    sizes: list[int] = []

    def picky(frames: Sequence[Frame]) -> list[Poses]:
        if any(frame.source == "bad" for frame in frames):
            raise RuntimeError("no kernel")
        return estimate(frames)

    batches = Batches(picky, largest=4, seconds=60, max_pixels=10**6, done=sizes.append)
    names = ("a", "bad", "broken", "c")
    files = [b"nothing" if name == "broken" else picture(i) for i, name in enumerate(names)]
    found = [batches.put(*pair) for pair in zip(files, names, strict=True)]
    assert [type(one.exception(30)).__name__ for one in found] == [
        "NoneType",
        "RuntimeError",
        "UserError",
        "NoneType",
    ]
    frame, poses = found[3].result()
    assert frame.source == "c" and np.array_equal(poses.keypoints, poses_of(frame).keypoints)
    batches.close()
    assert sizes == [1, 1]


def test_closing_answers_what_waits() -> None:
    batches = Batches(estimate, largest=100, seconds=60, max_pixels=10**6, done=lambda _: None)
    found = [batches.put(picture(i), str(i)) for i in range(5)]
    batches.close()
    assert [one.result(0)[0].source for one in found] == list("01234")


def test_a_failure_of_the_network_is_json_too(caplog: pytest.LogCaptureFixture) -> None:
    def fails(frames: Sequence[Frame]) -> list[Poses]:
        raise RuntimeError("no kernel")

    with serving(create_app(fails, HEADER, ServeConfig())) as port:
        status, answer, _ = post(port, picture(1))
        assert status == 500 and set(answer) == {"error", "cure"}
        assert "kernel" not in str(answer)
    assert "no kernel" in caplog.text


def test_other_names_of_this_machine_are_refused() -> None:
    with serving(
        create_app(estimate, HEADER, ServeConfig(), hosts=["localhost", "127.0.0.1"])
    ) as port:
        assert get(port, "/", Host="evil.example")[0] == 400
        assert get(port, "/", Host=f"localhost:{port}")[0] == 200
        assert get(port, "/")[0] == 200
