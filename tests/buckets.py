"""An object store as a user knows it: a bucket on a server that speaks S3, on loopback, and has its bad moments."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.moto_api._internal import moto_api_backend
from moto.server import ThreadedMotoServer

from emoray.run_folder.folder import RunFolder

_ERROR = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>Please try again.</Message></Error>"


class Moods:
    """What the server makes of requests, from whichever thread."""

    def __init__(self) -> None:
        self.fails_each = 0  # of so many requests one fails; 0: none
        self.away = threading.Event()  # while set, all do
        self.refused = 0
        self._count = itertools.count(1)

    def refuses(self) -> bool:
        bad = self.away.is_set() or (self.fails_each and next(self._count) % self.fails_each == 0)
        self.refused += bool(bad)
        return bool(bad)

    def before(self, app: Callable[..., Any]) -> Callable[..., Iterable[bytes]]:
        """An application that asks here first."""

        def moody(environ: Any, start_response: Any) -> Iterable[bytes]:
            if not self.refuses():
                answer: Iterable[bytes] = app(environ, start_response)
                return answer
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))  # or the client sees a reset
            start_response("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [_ERROR]

        return moody


@contextmanager
def bucket(secret: str, moods: Moods | None = None) -> Iterator[str]:
    """The URI of a run in it, with %s for the run's name; the key stands in it, as some people write it."""
    server = ThreadedMotoServer(port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    try:
        host, port = server.get_host_and_port()
        query = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
        uri = f"s3://key:{secret}@bucket/%s?{query}"
        RunFolder(uri % "x").fs.create_dir("bucket")
        if moods is not None:
            assert server._server is not None
            server._server.app = moods.before(server._server.app)
        yield uri
    finally:
        server.stop()
        moto_api_backend.reset()  # what all servers of a process share
