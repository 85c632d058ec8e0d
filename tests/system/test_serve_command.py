"""`simplepose serve` through the command line: what it refuses, and how it ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from serving import get, post

from simplepose.cli import main

pytest.importorskip("fastapi", reason="simplepose serve needs fastapi (pip install '.[serve]')")

WHOLE = ["serve", "--boxes", "whole", "--device", "cpu"]


def test_a_port_in_use_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = str(other.getsockname()[1])
        assert main([*WHOLE, "--port", port]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and port in error and "--port" in error


@pytest.mark.parametrize("boxes", ["gt", "motion", "boxes.json"])
def test_boxes_that_know_no_uploads(boxes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "0", "--boxes", boxes]) == 2
    assert f"--boxes {boxes}" in capsys.readouterr().err


def test_no_such_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WHOLE, "--port", "0", "--host", "192.0.2.1"]) == 2
    assert "192.0.2.1" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_after_what_is_open(number: signal.Signals) -> None:
    """A picture of which half has come is still answered."""
    file = BytesIO()
    Image.new("RGB", (64, 96), "teal").save(file, "PNG")
    content = file.getvalue()
    argv = [sys.executable, "-m", "simplepose", *WHOLE, "--port", "0"]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout
    try:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", server.stdout.readline())
        assert found
        port = int(found[1])
        assert get(port, "/healthz")[0] == 200
        answers: list[tuple[int, Any, Any]] = []
        begun, stopped = threading.Event(), threading.Event()

        def halves() -> Any:
            yield content[:50]
            begun.set()
            stopped.wait()
            yield content[50:]

        client = threading.Thread(target=lambda: answers.append(post(port, halves())))
        client.start()
        begun.wait()
        # it is being read: another answer came after it
        assert post(port, content)[0] == 200
        server.send_signal(number)
        for _ in range(600):
            if not _answers(port):
                break
            time.sleep(0.1)
        stopped.set()
        client.join()
        assert answers[0][0] == 200 and len(answers[0][1]["people"]) == 1
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.communicate()


def _answers(port: int) -> bool:
    """Whether it still takes connections."""
    try:
        return get(port, "/healthz")[0] == 200
    except OSError:
        return False
