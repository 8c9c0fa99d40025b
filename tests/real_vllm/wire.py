"""HTTP/1.1 as bytes: for clients that hang up, and for looking at what exactly was sent."""

import dataclasses
import json
import socket
import urllib.parse


@dataclasses.dataclass(frozen=True)
class Message:
    """A request or a response."""

    start_line: str
    # Names in lower case, in the order in which they came.
    headers: list
    body: bytes

    def header(self, name):
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None


def request(path, body, headers=()):
    """The bytes of a POST of JSON."""
    content = json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: router",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def connect(url):
    address = urllib.parse.urlsplit(url)
    connection = socket.create_connection((address.hostname, address.port), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive(connection):
    """Reads one response to its end; returns its bytes, one entry per read."""
    reads = []
    while not is_whole(b"".join(reads)):
        data = connection.recv(65536)
        assert data, "the connection was closed within the response"
        reads.append(data)
    return reads


def is_whole(data):
    head, separator, rest = data.partition(b"\r\n\r\n")
    if not separator:
        return False
    _, headers = parse_head(head)
    if ("transfer-encoding", "chunked") in headers:
        return rest == b"0\r\n\r\n" or rest.endswith(b"\r\n0\r\n\r\n")
    length = dict(headers).get("content-length")
    assert length is not None, "neither chunked nor of known length"
    return len(rest) >= int(length)


def parse(data):
    """One message, its body without the chunks that it travelled in."""
    head, _, rest = data.partition(b"\r\n\r\n")
    start_line, headers = parse_head(head)
    if ("transfer-encoding", "chunked") in headers:
        rest = b"".join(chunks(rest))
    return Message(start_line, headers, rest)


def parse_head(head):
    start_line, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    return start_line, [(name.lower(), value.strip()) for name, value in pairs]


def chunks(data):
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        yield data[:length]
        data = data[length + 2 :]
