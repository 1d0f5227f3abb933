"""A slow network in between: a relay on loopback before a server."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def relay(port: int, delay_s: float) -> Iterator[int]:
    """The port of a relay to `port`; all that clients send takes so much longer."""

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as server:
                back = threading.Thread(target=_pump, args=(server, self.request, 0.0), daemon=True)
                back.start()
                _pump(self.request, server, delay_s)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as listening:
        listening.daemon_threads, listening.block_on_close = True, False
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        try:
            yield int(listening.server_address[1])
        finally:
            listening.shutdown()


def _pump(source: socket.socket, sink: socket.socket, delay_s: float) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            time.sleep(delay_s)
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
