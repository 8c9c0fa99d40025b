"""An HTTP/2 client that does what httpx does not: resets streams, and opens several side by side
without mixing up their order."""

import collections
import json

import h2.connection
import h2.errors
import h2.events

import wire


class Http2Connection:
    """One connection, HTTP/2 from its first byte."""

    def __init__(self, url):
        self._socket = wire.connect(url)
        self._h2 = h2.connection.H2Connection()
        self._h2.initiate_connection()
        self._events = collections.defaultdict(collections.deque)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def post(self, path, body):
        """Sends a request, and returns the number of its stream."""
        stream = self._h2.get_next_available_stream_id()
        head = {":method": "POST", ":scheme": "http", ":authority": "router", ":path": path}
        self._h2.send_headers(stream, [*head.items(), ("content-type", "application/json")])
        self._h2.send_data(stream, json.dumps(body).encode(), end_stream=True)
        self._flush()
        return stream

    def next_data(self, stream):
        """The next piece of an answer's body, or None after the last."""
        while True:
            event = self._next_event(stream)
            if isinstance(event, h2.events.DataReceived):
                return event.data
            if isinstance(event, h2.events.StreamEnded):
                return None
            assert not isinstance(event, h2.events.StreamReset), event

    def body(self, stream):
        return b"".join(iter(lambda: self.next_data(stream), None))

    def reset(self, stream):
        self._h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        self._flush()

    def _next_event(self, stream):
        while not self._events[stream]:
            data = self._socket.recv(65536)
            assert data, "the connection was closed"
            for event in self._h2.receive_data(data):
                assert not isinstance(event, h2.events.ConnectionTerminated), event
                if isinstance(event, h2.events.DataReceived):
                    size = event.flow_controlled_length
                    self._h2.acknowledge_received_data(size, event.stream_id)
                self._events[getattr(event, "stream_id", None)].append(event)
            self._flush()
        return self._events[stream].popleft()

    def _flush(self):
        self._socket.sendall(self._h2.data_to_send())
