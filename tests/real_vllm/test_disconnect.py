"""A client that leaves takes its request with it: vLLM stops working on it."""

import time

import pytest

import wire
from asks import CHAT, ENDLESS, chat
from http2 import Http2Connection
from servers import SEATS, occupied
from waiting import until

# Issue 2: from the client's leaving to the server's having nothing of it, two seconds. Counted in steps
# of the server, each of 5 ms or more (in_vllm/unhurried.py): where all is slower, so are they.
STEPS_MAX = 400

STREAMED = pytest.mark.parametrize("stream", [False, True])


def leave(hang_up, servers, gone, note):
    """Hangs up, and waits for the servers to notice."""
    running, finished, written = (total(name, servers) for name in ("running", "finished", "written"))
    hang_up()
    left = time.monotonic()
    until(gone, "the servers have nothing left of it")
    # In one step, each request that runs gets a token.
    steps = (total("written", servers) - written) / running
    note(f"gone {time.monotonic() - left:.2f} s and {steps:.0f} steps after the client had left")
    assert steps <= STEPS_MAX
    assert total("finished", servers) == finished, "nothing ended by itself"


def total(name, servers):
    return sum(getattr(server, name) for server in servers)


def all_idle(servers):
    return all(server.is_idle for server in servers)


@STREAMED
def test_a_client_that_leaves_in_the_middle_frees_its_server(router, servers, stream, note):
    with wire.connect(router.url) as client:
        client.sendall(wire.request(CHAT, chat(max_tokens=ENDLESS, stream=stream)))
        if stream:
            assert client.recv(65536)
        until(lambda: sum(server.running for server in servers) == 1, "a server works on it")
        leave(client.close, servers, lambda: all_idle(servers), note)


@STREAMED
def test_a_client_that_leaves_before_the_first_token_frees_its_server(
    servers, start_router, stream, note
):
    server = servers[0]
    router = start_router([server])
    with occupied(server, SEATS), wire.connect(router.url) as client:
        client.sendall(wire.request(CHAT, chat(stream=stream)))
        until(lambda: server.waiting == 1, "the request waits for its turn")
        leave(client.close, [server], lambda: server.waiting == 0, note)
        assert server.running == SEATS
    router.wait_until_idle()


def test_many_clients_that_leave_at_once_free_both_servers(router, servers, note):
    clients = [wire.connect(router.url) for _ in range(12)]
    for number, client in enumerate(clients):
        client.sendall(wire.request(CHAT, chat(max_tokens=ENDLESS, stream=number % 2 == 0)))
    until(lambda: sum(server.running for server in servers) == len(clients), "all are worked on")
    leave(lambda: [client.close() for client in clients], servers, lambda: all_idle(servers), note)


def test_an_http_2_stream_that_is_reset_frees_its_server(router, servers, note):
    with Http2Connection(router.url) as client:
        stream = client.post(CHAT, chat(max_tokens=ENDLESS, stream=True))
        assert client.next_data(stream)
        until(lambda: sum(server.running for server in servers) == 1, "a server works on it")
        leave(lambda: client.reset(stream), servers, lambda: all_idle(servers), note)
        # The connection goes on.
        assert client.body(client.post(CHAT, chat()))
