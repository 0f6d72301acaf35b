"""A proxy before the Hub under test that stops at a chosen request, for pushes that break off there."""

import socket
import threading
from urllib.parse import urlsplit


class BreakableProxy:
    """
    Forwards connections to the Hub, until a request holds `stop_at`: that one is held for ever, or with `cut` its
    connection is closed, or with `lose_answer` it is forwarded and its answer is not.

    Args:
        endpoint (`str`): Of the Hub.
        stop_at (`bytes`, *optional*): What the beginning of the request holds, such as `b"PUT "`.
        cut (`bool`, *optional*, defaults to `False`): Close instead of holding.
        lose_answer (`bool`, *optional*, defaults to `False`): Close when the answer has come.
    """

    def __init__(self, endpoint: str, stop_at: bytes | None = None, cut: bool = False, lose_answer: bool = False):
        self._hub = (urlsplit(endpoint).hostname, urlsplit(endpoint).port)
        self._stop_at, self._cut, self._lose_answer = stop_at, cut, lose_answer
        self.reached = threading.Event()
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "BreakableProxy":
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._hub)
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:
        try:
            while data := source.recv(65536):
                line = data.split(b"\r\n", 1)[0]
                if is_request and line.endswith(b"HTTP/1.1"):
                    self.requests.append(line)
                    if self._stop_at and self._stop_at in line:
                        self.reached.set()
                        if not (self._cut or self._lose_answer):
                            threading.Event().wait()
                        if self._cut:
                            break
                elif not is_request and self._lose_answer and self.reached.is_set():
                    break
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()
