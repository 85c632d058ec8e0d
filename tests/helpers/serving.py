"""An application behind a real uvicorn, and clients for it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest


@contextmanager
def serving(app: Any) -> Iterator[int]:
    """Serves in a thread on a free port of this machine, which it yields."""
    uvicorn = pytest.importorskip("uvicorn")
    with closing(socket.create_server(("127.0.0.1", 0), backlog=256)) as door:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        try:
            yield door.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def post(port: int, content: Any, path: str = "/poses", **headers: str) -> tuple[int, Any, Any]:
    """Status, JSON and headers of the answer to one picture."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:
        client.request("POST", path, content, headers)
        answer = client.getresponse()
        return answer.status, json.loads(answer.read()), answer.headers


def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    """Status and text of an address."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:
        client.request("GET", path, headers=headers)
        answer = client.getresponse()
        return answer.status, answer.read().decode()
