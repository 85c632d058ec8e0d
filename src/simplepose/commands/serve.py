"""`simplepose serve`: poses over HTTP, and a page to try a network."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from ipaddress import ip_address

from simplepose.commands.networks import open_estimator, open_people
from simplepose.commands.options import ServeOptions
from simplepose.core.errors import UserError, need
from simplepose.core.lines import header_of
from simplepose.core.progress import note
from simplepose.core.stopping import heed_signals
from simplepose.core.structures import Frame, Poses
from simplepose.detection.people import people_of

try:
    import uvicorn

    from simplepose.serve.app import create_app
except ImportError as error:
    package = str(error.name).partition(".")[0]
    raise need(package, "serve", "simplepose serve") from error


class Server(uvicorn.Server):
    """Ends on whatever stops the other commands, and ends well: what is open is answered first."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A second signal does not wait for what is open."""

        def ask(number: int) -> None:
            self.force_exit, self.should_exit = self.should_exit, True

        with heed_signals(ask):
            yield


def run(options: ServeOptions) -> None:
    """Listens until a signal stops it.

    Raises:
        UserError: the port is in use, or a network cannot be opened.
    """
    if options.boxes in ("gt", "motion") or options.boxes.endswith(".json"):
        raise UserError(
            f"--boxes {options.boxes} does not know the pictures that clients send. "
            "Cure: a detector, or whole where one person fills the picture"
        )
    with closing(_listen(options.host, options.port)) as door:
        estimator, options = open_estimator(options)
        people = open_people(options, estimator)

        def estimate(frames: Sequence[Frame]) -> list[Poses]:
            images = [frame.image for frame in frames]
            return estimator.estimate_batch(images, people_of(people, frames))

        header = header_of(
            estimator.schema,
            preset=estimator.spec.preset,
            weights=options.weights,
            boxes=options.boxes,
        )
        alone = _is_loopback(door)
        hosts = ["localhost", "127.0.0.1", "[::1]", "::1", options.host] if alone else None
        app = create_app(
            estimate, header, options.serve, hosts=hosts, threshold=estimator.drawn_threshold
        )
        config = uvicorn.Config(
            app,
            log_level="warning",
            proxy_headers=False,
            timeout_graceful_shutdown=10,
            timeout_keep_alive=30,
            lifespan="on",
        )
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(f"listening on http://{host}:{door.getsockname()[1]} (Ctrl-C ends it)", flush=True)
        if not alone:
            note(
                "whoever reaches this machine can send pictures, without a password or "
                "encryption; --rate limits them"
            )
        Server(config).run(sockets=[door])


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens, before any network is opened."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}. "
            "Cure: another --port (0 takes a free one), or --host with an address of this machine"
        ) from error


def _is_loopback(door: socket.socket) -> bool:
    return ip_address(door.getsockname()[0]).is_loopback
