"""How calls are answered: nobody waits for somebody else's, and clients that misbehave harm themselves alone."""

import os
import socket
from pathlib import Path

from layerfs.daemon.calls import Call, Pools
from layerfs.daemon.streams import SLOTS
from tests.daemon.client import Client, Served, code_of
from tests.waiting import PATIENCE


def test_a_call_knows_when_nobody_waits() -> None:
    call = Call("default")
    assert not call.cancelled()
    call.cancel()
    assert call.cancelled()


def test_threads_are_bounded_by_names_that_are_known() -> None:
    pools = Pools(frozenset({"a"}))
    assert pools.of("a") is not pools.of("b")
    assert pools.of("b") is pools.of("c")
    pools.close()


def test_garbage_and_half_requests_harm_nobody_else(served: Served, client: Client) -> None:
    held = []
    for text in (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096)):
        rude = socket.socket(socket.AF_UNIX)
        rude.connect(os.fspath(served.address))
        rude.sendall(text)
        held.append(rude)
    assert code_of(client.Prepare, key="k") == "OK"
    for rude in held:
        rude.close()


def test_lists_that_are_never_read_keep_nobody_waiting(served: Served, client: Client) -> None:
    for number in range(300):
        client.Prepare(key=f"k{number}", labels={"l": "v" * 3000})
    with Client(served.address) as greedy:
        method = greedy.channel.unary_stream("/containerd.services.snapshots.v1.Snapshots/List")
        calls = [method(b"\x0a\x0flayerfs-overlay") for _ in range(SLOTS + 8)]
        assert code_of(client.Stat, key="k1") == "OK"
        assert len(client.names()) == 300
        for call in calls:
            call.cancel()
    assert len(client.names()) == 300
    assert "traceback" not in served.log().lower()


def test_an_unknown_method_and_a_bad_message_are_errors(served: Served, client: Client) -> None:
    for method, data, code in (("Nosuch", b"", "UNIMPLEMENTED"), ("Stat", b"\xff\xff\xff", "INVALID_ARGUMENT")):
        call = client.channel.unary_unary(f"/containerd.services.snapshots.v1.Snapshots/{method}")
        assert code_of(lambda call=call, data=data: call(data, timeout=PATIENCE)) == code
    assert code_of(client.Prepare, key="k") == "OK"
    assert "traceback" not in served.log().lower()


def test_a_store_of_many_keys_is_listed_whole(client: Client, scratch: Path) -> None:
    client.commit("base")
    for number in range(50):
        client.View(key=f"v {number}/:,", parent="base")
    assert len(client.names("kind==view")) == 50
