"""A tap on the line between the router and a server: passes bytes on and keeps a copy."""

import contextlib
import socket
import threading


class Conversation:
    """One connection: what came from the router, and what came from the server."""

    def __init__(self):
        self.from_router = bytearray()
        self.from_server = bytearray()


class Tap:
    """Listens at `url` in place of the server at `port`."""

    def __init__(self, port):
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.conversations = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # `shutdown` wakes whoever waits for the socket; `close` alone does not.
        for end in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def about(self, mark):
        """The one conversation in which the router said `mark`."""
        [found] = [talk for talk in self.conversations if mark in talk.from_router]
        return found

    def _accept(self):
        while True:
            try:
                router, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            talk = Conversation()
            self._open += [router, server]
            self.conversations.append(talk)
            for source, target, copy in [
                (router, server, talk.from_router),
                (server, router, talk.from_server),
            ]:
                threading.Thread(target=pass_on, args=(source, target, copy), daemon=True).start()


def pass_on(source, target, copy):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            copy += data
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
