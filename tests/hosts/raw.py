"""A server that writes what it is told to, headers that lie included."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

CHOICE = '{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "I feel joy."}}'
GOOD = ('{"id": "c", "object": "chat.completion", "model": "m", "choices": [' + CHOICE + "]}").encode()


@contextmanager
def raw_server(reply: Callable[[], tuple[bytes, int]]) -> Iterator[tuple[str, Callable[[], int]]]:
    """Its address, and how many requests it had; `reply` gives the body of each and the length that it announces."""
    requests: list[int] = []
    lock = threading.Lock()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            stream = connection.makefile("rb")
            while line := stream.readline():
                length = 0
                while line.strip():
                    name, _, text = line.partition(b":")
                    length = int(text) if name.lower() == b"content-length" else length
                    line = stream.readline()
                stream.read(length)
                with lock:
                    requests.append(length)
                    body, announced = reply()
                head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {announced}\r\n\r\n"
                connection.sendall(head.encode() + body)
                if announced > len(body):
                    return

    with listening(serve) as url:
        yield url, lambda: len(requests)


def responses(head: bytes, body: bytes = GOOD) -> bytes:
    """A response as it goes over the wire, with a right Content-Length."""
    return b"HTTP/1.1 " + head + b"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@contextmanager
def writing(answer: Callable[[bytes], bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """A server that writes the bytes that `answer` makes of each request, and closes. Its address, and the requests."""
    requests: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            stream = connection.makefile("rb")
            head, length = b"", 0
            while line := stream.readline():
                head += line
                name, _, text = line.partition(b":")
                length = int(text) if name.lower() == b"content-length" else length
                if not line.strip():
                    break
            request = head + stream.read(length)
            if head:
                requests.append(request)
                connection.sendall(answer(request))
                connection.shutdown(socket.SHUT_WR)

    with listening(serve) as url:
        yield url, requests


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that hands each connection to `serve`, in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
