"""A client that leaves takes its request with it: vLLM stops working on it."""

import time

import pytest

import wire
from asks import CHAT, ENDLESS, chat
from http2 import Http2Connection
from servers import SEATS, occupied
from waiting import until

# Issue 2: from the client's leaving to the server's having nothing of it.
LIMIT = 2

STREAMED = pytest.mark.parametrize("stream", [False, True])


def leave(hang_up, gone, note):
    """Hangs up, and waits for the servers to notice. (Of the time in which they are too busy to say
    whether they have, the limit counts a part.)"""
    hang_up()
    left = time.monotonic()
    until(gone, "the servers have nothing left of it", within=LIMIT)
    note(f"gone from the server {time.monotonic() - left:.2f} s after the client had left")


def all_idle(servers):
    return all(server.is_idle for server in servers)


@STREAMED
def test_a_client_that_leaves_in_the_middle_frees_its_server(router, servers, stream, note):
    with wire.connect(router.url) as client:
        client.sendall(wire.request(CHAT, chat(max_tokens=ENDLESS, stream=stream)))
        if stream:
            assert client.recv(65536)
        until(lambda: sum(server.running for server in servers) == 1, "a server works on it")
        leave(client.close, lambda: all_idle(servers), note)


@STREAMED
def test_a_client_that_leaves_before_the_first_token_frees_its_server(
    servers, start_router, stream, note
):
    server = servers[0]
    router = start_router([server])
    with occupied(server, SEATS), wire.connect(router.url) as client:
        client.sendall(wire.request(CHAT, chat(stream=stream)))
        until(lambda: server.waiting == 1, "the request waits for its turn")
        leave(client.close, lambda: server.waiting == 0, note)
        assert server.running == SEATS
    router.wait_until_idle()


def test_many_clients_that_leave_at_once_free_both_servers(router, servers, note):
    clients = [wire.connect(router.url) for _ in range(12)]
    for number, client in enumerate(clients):
        client.sendall(wire.request(CHAT, chat(max_tokens=ENDLESS, stream=number % 2 == 0)))
    until(lambda: sum(server.running for server in servers) == len(clients), "all are worked on")
    leave(lambda: [client.close() for client in clients], lambda: all_idle(servers), note)


def test_an_http_2_stream_that_is_reset_frees_its_server(router, servers, note):
    with Http2Connection(router.url) as client:
        stream = client.post(CHAT, chat(max_tokens=ENDLESS, stream=True))
        assert client.next_data(stream)
        until(lambda: sum(server.running for server in servers) == 1, "a server works on it")
        leave(lambda: client.reset(stream), lambda: all_idle(servers), note)
        # The connection goes on.
        assert client.body(client.post(CHAT, chat()))
