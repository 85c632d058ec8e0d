"""The hub's own client against an endpoint on this machine: a network goes there and comes back, also when the endpoint is gone."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra hub)")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PUBLISH = """
import torch
from simplepose import COCO_17
from simplepose.config import ModelConfig
from simplepose.pose.checkpoints import ModelSpec
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.network import PoseNetwork
model = ModelConfig(backbone="resnet18", width=8, deconv_filters=8)
spec = ModelSpec(preset="mine", schema=COCO_17, input_size_wh=(64, 64), model=model)
network = PoseNetwork(model, 17, (64, 64)).eval()
print(PoseEstimator(network, spec).push_to_hub("me/mine", licence="MIT"))
"""
OPEN = """
from simplepose.pose.estimator import PoseEstimator
print(PoseEstimator.from_pretrained("hf:me/mine", device="cpu").spec.preset)
"""


class Endpoint(BaseHTTPRequestHandler):
    """Holds the files of one repository."""

    files: dict[str, bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/preupload/main"):
            asked = json.loads(body)["files"]
            modes = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in asked
            ]
            return self._answer({"files": modes, "commitOid": COMMIT})
        if self.path.endswith("/commit/main"):
            rows = [json.loads(line) for line in body.splitlines() if line]
            for row in rows:
                if row["key"] == "file":
                    self.files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
            url = f"http://{self.headers['Host']}/me/mine/commit/{COMMIT}"
            return self._answer({"commitUrl": url, "commitOid": COMMIT, "success": True})
        return self._answer({"url": f"http://{self.headers['Host']}/me/mine", "name": "me/mine"})

    def do_GET(self) -> None:
        self._file(self.files.get(self.path.rpartition("/")[2]))

    def do_HEAD(self) -> None:
        self._file(self.files.get(self.path.rpartition("/")[2]), body=False)

    def _file(self, content: bytes | None, *, body: bool = True) -> None:
        self.send_response(200 if content is not None else 404)
        content = content or b"{}"
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _answer(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    handler = type("Repository", (Endpoint,), {"files": {}})
    made = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def test_a_network_goes_to_the_hub_and_comes_back(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    address = f"http://127.0.0.1:{server.server_port}"
    settings = {
        "HF_ENDPOINT": address,
        "HF_HOME": str(tmp_path),
        "HF_TOKEN": "hf_of_nobody",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "no_proxy": "127.0.0.1",
    }

    def run(code: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", code]
        environment = {**os.environ, **settings}
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    published = run(PUBLISH)
    assert published.stdout.strip() == f"{address}/me/mine/commit/{COMMIT}", published.stderr
    files = server.RequestHandlerClass.files  # type: ignore[attr-defined]
    assert sorted(files) == ["README.md", "model.safetensors"]
    assert b"license: mit" in files["README.md"]
    opened = run(OPEN)
    assert opened.stdout == "mine\n", opened.stderr
    server.shutdown()
    server.server_close()
    assert run(OPEN).stdout == "mine\n"  # from the client's cache
    refused = run(OPEN.replace("me/mine", "me/other"))
    assert refused.returncode == 1
    assert "UserError: hf:me/other: model.safetensors cannot be fetched" in refused.stderr
