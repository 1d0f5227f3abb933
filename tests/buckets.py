"""An object store as a user knows it: a bucket on a server that speaks S3, on loopback."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer

from emoray.store import RunFolder


@contextmanager
def bucket(secret: str) -> Iterator[str]:
    """The URI of a run in it, with %s for the run's name; the key stands in it, as some people write it."""
    server = ThreadedMotoServer(port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    try:
        host, port = server.get_host_and_port()
        query = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
        uri = f"s3://key:{secret}@bucket/%s?{query}"
        RunFolder(uri % "x").fs.create_dir("bucket")
        yield uri
    finally:
        server.stop()
