"""The routes of `simplepose serve`: a page, poses of a picture, health, numbers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from simplepose import __version__
from simplepose.config import ServeConfig
from simplepose.core.errors import UserError
from simplepose.core.files import encode_json
from simplepose.core.lines import Header, line_of
from simplepose.report.html import page_text
from simplepose.serve.batches import Batches, Estimate

MANY = 10_000
"""Addresses whose rates are remembered at most."""
LOG = logging.getLogger(__name__)


class Refusal(UserError):
    """A request that is not answered, with the status that says why."""

    def __init__(self, status: int, sentence: str, retry_after: int = 0) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = {"Retry-After": str(retry_after)} if retry_after else {}


class Rates:
    """Pictures a second of each address: a bucket of so many, which fills again."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._spent: dict[str, tuple[float, float]] = {}

    def check(self, address: str, now: float) -> None:
        """Counts one picture of an address.

        Raises:
            Refusal: it had its share.
        """
        if not self.rate:
            return
        size = max(self.rate, 1)
        spent, before = self._spent.pop(address, (0.0, now))
        spent = max(spent - self.rate * (now - before), 0)
        if spent + 1 > size:
            self._spent[address] = spent, now
            wait = int((spent + 1 - size) / self.rate) + 1
            sentence = f"more than {self.rate:g} pictures a second. Cure: wait {wait} s"
            raise Refusal(429, sentence, wait)
        self._spent[address] = spent + 1, now
        if len(self._spent) > MANY:
            del self._spent[next(iter(self._spent))]


class Numbers:
    """What /metrics tells."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "simplepose_requests", "Answers of POST /poses", ["status"], registry=registry
        )
        self.seconds = Histogram(
            "simplepose_request_seconds", "From a request to its poses", registry=registry
        )
        self.batch = Histogram(
            "simplepose_batch_pictures",
            "Pictures that went through the networks together",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=registry,
        )
        self.people = Counter("simplepose_people", "People found", registry=registry)
        self.open = Gauge("simplepose_open_requests", "Not answered yet", registry=registry)


class Desk:
    """Takes the requests for poses: what may come in, what is said where it may not."""

    def __init__(self, batches: Batches, numbers: Numbers, config: ServeConfig) -> None:
        self.batches, self.numbers, self.config = batches, numbers, config
        self.rates, self.inside = Rates(config.rate), 0

    async def answer(self, request: Request, name: str) -> Response:
        """The line of a picture, or why there is none."""
        began, requests = time.perf_counter(), self.numbers.requests
        try:
            line = await self._line(request, name)
        except UserError as error:
            status = getattr(error, "status", 422)
            requests.labels(status).inc()
            sentence = {"error": error.problem, "cure": error.cure}
            return JSONResponse(sentence, status, getattr(error, "headers", {}))
        except ClientDisconnect:
            requests.labels(499).inc()
            return Response(status_code=499)
        except Exception:
            LOG.exception("a picture of %s failed", request.client)
            requests.labels(500).inc()
            sentence = {"error": "the network failed on this picture.", "cure": "try another one"}
            return JSONResponse(sentence, 500)
        requests.labels(200).inc()
        self.numbers.seconds.observe(time.perf_counter() - began)
        return Response(line, media_type="application/json")

    async def _line(self, request: Request, name: str) -> bytes:
        self.rates.check(request.client.host if request.client else "", time.monotonic())
        if self.inside >= self.config.max_open:
            sentence = f"{self.inside} pictures are waiting. Cure: try again in a second"
            raise Refusal(503, sentence, 1)
        self._count(1)
        try:
            content = await read_body(request, self.config)
            answer = self.batches.put(content, name or "the upload")
            frame, poses = await asyncio.wrap_future(answer)
        finally:
            self._count(-1)
        self.numbers.people.inc(len(poses))
        return line_of(frame, poses, 0).encoded()

    def _count(self, more: int) -> None:
        self.inside += more
        self.numbers.open.set(self.inside)


def create_app(
    estimate: Estimate,
    header: Header,
    config: ServeConfig,
    *,
    hosts: list[str] | None = None,
    threshold: float = 0.2,
) -> FastAPI:
    """The application, for uvicorn.

    Args:
        estimate: the poses of several pictures.
        header: what the keypoints are.
        config: limits.
        hosts: names that a request may address, where others are refused: a page of elsewhere
            whose name leads to this machine cannot read poses.
        threshold: keypoints with a lower score are not drawn at first.
    """
    numbers = Numbers()
    batches = Batches(
        estimate,
        largest=config.batch_pictures,
        seconds=config.wait_ms / 1000,
        max_pixels=round(config.max_megapixels * 1e6),
        done=numbers.batch.observe,
    )
    desk = Desk(batches, numbers, config)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(batches.close)

    # Its own pages of documentation load scripts from elsewhere.
    app = FastAPI(
        title="simplepose", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    if hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)

    @app.post("/poses", openapi_extra=_BODY)
    async def poses(request: Request, name: str = "") -> Response:
        """The poses of the picture that is the body: a line of poses.jsonl, whose `source` is
        `name`."""
        return await desk.answer(request, name[:200])

    @app.get("/header")
    async def names() -> Response:
        """What the keypoints are: the first line of poses.jsonl."""
        return Response(encode_json(header), media_type="application/json")

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "ok", "version": __version__}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Numbers in the text form of Prometheus."""
        return Response(generate_latest(numbers.registry), media_type=CONTENT_TYPE_LATEST)

    content = {
        "keypoints": header.keypoints,
        "skeleton": header.skeleton,
        "network": header.weights,
        "boxes": header.boxes,
        "threshold": threshold,
        "megabytes": f"{config.max_megabytes:g}",
    }
    page = page_text("serve", content)

    @app.get("/", response_class=HTMLResponse)
    async def show() -> HTMLResponse:
        """A page to try the network."""
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})

    return app


async def read_body(request: Request, config: ServeConfig) -> bytes:
    """The picture file that is sent.

    What is too large is taken in and thrown away, as a client that still sends hears no answer.

    Raises:
        Refusal: it is a form, too large, or too slow.
    """
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise Refusal(
            415,
            "a form was sent, not a picture. "
            "Cure: the file itself is the body, as by curl --data-binary @photo.jpg",
        )
    limit, parts, size = round(config.max_megabytes * 1e6), list[bytes](), 0
    sentence = f"more than {config.max_megabytes:g} MB. Cure: make the picture smaller"
    declared = request.headers.get("content-length", "")
    if "expect" in request.headers and declared.isdecimal() and int(declared) > limit:
        raise Refusal(413, sentence)
    try:
        async with asyncio.timeout(config.seconds):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    parts.clear()
                else:
                    parts.append(part)
    except TimeoutError as error:
        raise Refusal(
            408, f"the picture took more than {config.seconds:g} s to come. Cure: a smaller one"
        ) from error
    if size > limit:
        raise Refusal(413, sentence)
    return b"".join(parts)


_BODY = {
    "requestBody": {
        "required": True,
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'"
)
