"""The table of public weights, and downloads from a server on this machine that behaves badly in every way."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from simplepose.cli import main
from simplepose.commands import weights
from simplepose.core.errors import UserError
from simplepose.weights import public
from simplepose.weights.download import download
from simplepose.weights.public import PUBLIC_WEIGHTS, PublicWeights, find_public

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves CONTENT at /weights.pth; `faults` are taken one a request, None means none."""

    def __init__(self) -> None:
        self.faults: list[str | None] = []
        self.requests: list[str | None] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fault = owner.faults.pop(0) if owner.faults else None
                wanted = self.headers.get("Range")
                owner.requests.append(wanted)
                if fault == "missing":
                    self.send_error(404)
                    return
                start = (
                    int(wanted.removeprefix("bytes=").removesuffix("-"))
                    if wanted and fault != "no ranges"
                    else 0
                )
                if start >= len(CONTENT):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header(
                        "Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
                    )
                if fault != "no length":
                    self.send_header("Content-Length", str(len(CONTENT) - start))
                self.end_headers()
                rest = CONTENT[start:]
                self.wfile.write(rest[: len(rest) // 2] if fault == "drop" else rest)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/weights.pth"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def row(self, sha256: str = SHA256[:8]) -> PublicWeights:
        return PublicWeights(name="test", url=self.url, licence="none", sha256=sha256)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_whole_download_with_progress(server: Server, tmp_path: Path) -> None:
    seen = []
    path = download(
        server.row(), tmp_path / "new" / "folder", lambda have, total: seen.append((have, total))
    )
    assert path.read_bytes() == CONTENT and names(path.parent) == ["weights.pth"]
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and [have for have, _ in seen] == sorted(
        have for have, _ in seen
    )
    download(server.row(SHA256), tmp_path / "new" / "folder")
    assert server.requests == [None]  # what is there and fits is not fetched again


def test_three_at_once_fetch_one_file(server: Server, tmp_path: Path) -> None:
    code = (
        "import sys; from simplepose.weights.download import PublicWeights, download; "
        "download(PublicWeights(name='t', url=sys.argv[1], licence='', sha256=sys.argv[2]), "
        "sys.argv[3])"
    )
    argv = [sys.executable, "-c", code, server.url, SHA256, str(tmp_path)]
    running = [subprocess.Popen(argv) for _ in range(3)]
    assert [one.wait(60) for one in running] == [0, 0, 0]
    assert server.requests == [None]
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


def test_links_are_not_written_through_and_others_may_read(server: Server, tmp_path: Path) -> None:
    precious, folder = tmp_path / "precious", tmp_path / "weights"
    precious.write_bytes(b"mine")
    folder.mkdir()
    (folder / "weights.pth.partial").symlink_to(precious)
    with pytest.raises(UserError, match=r"weights\.pth\.partial"):
        download(server.row(), folder)
    assert precious.read_bytes() == b"mine"
    (folder / "weights.pth.partial").unlink()
    before = os.umask(0o022)
    try:
        assert download(server.row(), folder).stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


def test_dropped_connections_then_resume(server: Server, tmp_path: Path) -> None:
    server.faults = ["drop", "drop"]
    for kept in (len(CONTENT) // 2, len(CONTENT) * 3 // 4):
        with pytest.raises(
            UserError, match=rf"/weights\.pth .*{kept} bytes .*weights\.pth\.partial"
        ):
            download(server.row(), tmp_path)
        assert names(tmp_path) == ["weights.pth.partial"]
    assert download(server.row(), tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=150000-", "bytes=225000-"] and names(tmp_path) == [
        "weights.pth"
    ]


def test_a_server_that_ignores_ranges(server: Server, tmp_path: Path) -> None:
    server.faults = ["drop", "no ranges"]
    with pytest.raises(UserError):
        download(server.row(), tmp_path)
    assert download(server.row(), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("stale", [b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 5)])
def test_a_stale_partial_is_never_taken_for_whole(
    server: Server, tmp_path: Path, stale: bytes
) -> None:
    (tmp_path / "weights.pth.partial").write_bytes(stale)
    with pytest.raises(UserError, match=r"weights\.pth\.partial .*removed.*sha256"):
        download(server.row(), tmp_path)
    assert names(tmp_path) == []
    assert download(server.row(), tmp_path).read_bytes() == CONTENT


def test_a_whole_partial_is_finished_without_a_download(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.pth.partial").write_bytes(CONTENT)
    assert download(server.row(), tmp_path).read_bytes() == CONTENT


def test_wrong_hash(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights\.pth.*sha256.* 00000000\.\.\."):
        download(server.row("00000000"), tmp_path)
    assert names(tmp_path) == []
    (tmp_path / "weights.pth").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"weights\.pth .*sha256"):
        download(server.row(), tmp_path)
    assert (tmp_path / "weights.pth").read_bytes() == b"mine"


def test_a_length_that_is_not_told(server: Server, tmp_path: Path) -> None:
    server.faults = ["no length"]
    assert download(server.row(), tmp_path).read_bytes() == CONTENT


def test_no_such_file_and_no_server(server: Server, tmp_path: Path) -> None:
    server.faults = ["missing"]
    with pytest.raises(UserError, match=r"/weights\.pth .*404"):
        download(server.row(), tmp_path)
    server.server.shutdown()
    server.server.server_close()
    with pytest.raises(UserError, match=r"/weights\.pth .*refused"):
        download(server.row(), tmp_path)


def test_a_folder_that_is_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(UserError, match=r"taken/weights\.pth\.partial"):
        download(server.row(), tmp_path / "taken")


def test_by_hand(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"microsoft-r50-256x192 .*pose_resnet_50_256x192\.pth\.tar"
    ):
        download(find_public("microsoft-r50-256x192"), tmp_path)


def test_the_table() -> None:
    assert len({row.name for row in PUBLIC_WEIGHTS}) == len(PUBLIC_WEIGHTS)
    for row in PUBLIC_WEIGHTS:
        assert row.url.startswith("https://") and row.licence and row.score
        assert row.by_hand or (len(row.sha256) in (8, 64) and int(row.sha256, 16))
        if len(row.sha256) == 8:  # the published beginning stands in the file's name
            assert row.sha256 in row.file_name
        if "AP" in row.score and "box" not in row.score:
            assert "detections" in row.score and row.preset
    with pytest.raises(UserError, match=r"'resnet'.*torchvision-resnet18-v1"):
        find_public("resnet")


def test_people_are_told_fetched_and_then_the_default(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    row = PublicWeights(
        name="finder",
        url=server.url.replace("weights.pth", "finder.onnx"),
        licence="Apache-2.0",
        score="box AP 41",
        size_mb=0.3,
        people=True,
    )
    for module in (public, weights):
        monkeypatch.setattr(module, "PUBLIC_WEIGHTS", (row,))
    server.faults = ["missing"]
    assert main(["weights", "get", "people"]) == 2
    told = capsys.readouterr().out
    for fact in ("finder: person detector", "0.3 MiB", "box AP 41", "licence Apache-2.0", row.url):
        assert fact in told
    assert not public.fetched("person detector")
    assert main(["weights", "get", "people", "--output", "elsewhere"]) == 0
    assert "--boxes elsewhere/finder.onnx" in capsys.readouterr().out
    assert not public.fetched("person detector")
    assert main(["weights", "get", "people"]) == 0
    said = capsys.readouterr().out
    assert "--boxes finder" in said and "from now on" in said
    assert public.fetched("person detector") == "finder"
    assert (tmp_path / "cache" / "simplepose" / "finder.onnx").read_bytes() == CONTENT
    assert main(["weights", "list"]) == 0 and "here: " in capsys.readouterr().out
