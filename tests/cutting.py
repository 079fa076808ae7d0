"""A network that breaks: a proxy on 127.0.0.1 that cuts connections after so many bytes."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PIECE = 65_536


class Cutting:
    """Forwards connections to a server, and cuts each of the first few in the middle.

    Args:
        target: host and port of the server.
        after_bytes: from the client (from the server, with `answers`), per connection; then it is
            cut without a word.
        cuts: how many connections are cut; later ones stay whole.
        answers: whether the server's bytes are counted.
    """

    def __init__(
        self, target: tuple[str, int], after_bytes: int, cuts: int, answers: bool = False
    ) -> None:
        self._target = target
        self._answers = answers
        self._after_bytes = after_bytes
        self.cuts_left = cuts
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for pair, counted in (
                ((client, server), not self._answers),
                ((server, client), self._answers),
            ):
                threading.Thread(target=self._pass, args=(*pair, counted), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        passed = 0
        try:
            while data := source.recv(PIECE):
                sink.sendall(data)
                passed += len(data)
                if counted and passed >= self._after_bytes and self._cut():
                    break
        except OSError:
            pass
        _end(source, sink)

    def _cut(self) -> bool:
        with self._lock:
            if not self.cuts_left:
                return False
            self.cuts_left -= 1
            return True


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        one.close()


@contextmanager
def cutting(
    target: tuple[str, int], after_bytes: int, cuts: int, answers: bool = False
) -> Iterator[Cutting]:
    proxy = Cutting(target, after_bytes, cuts, answers)
    try:
        yield proxy
    finally:
        proxy.close()
