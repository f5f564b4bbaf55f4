"""Clients that send too much, half of it, garbage, or never read: nobody else is harmed, and the memory is bounded.

LAYERFS_KEYS says how many keys one client makes; 100,000 take some minutes.
"""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from layerfs.daemon.messages import SNAPSHOTS, message
from tests.daemon.client import Client, Served, code_of
from tests.waiting import PATIENCE

KEYS = int(os.environ.get("LAYERFS_KEYS", "2500"))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
HALF_HEADERS = b"\0\xff\xff\1\0\0\0\0\1" + b"\x82" * 100  # of 65,535 bytes that it promises


def resident(daemon: Served) -> int:
    """The memory that a daemon holds now, in MiB."""
    pages = int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def test_many_keys_of_one_client_take_little_memory(served: Served, client: Client) -> None:
    client.commit("base")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: client.Prepare(key=f"key {number}", parent="base"), range(KEYS)))
    assert len(client.names()) == KEYS + 1
    assert resident(served) < 160 + KEYS // 500


def test_large_labels_come_back_whole_and_larger_ones_are_refused(client: Client) -> None:
    largest = {f"l{number:02}": "v" * (4096 - 3) for number in range(64)}
    client.Prepare(key="k", labels=largest)
    assert dict(client.Stat(key="k").info.labels) == largest
    assert code_of(client.Prepare, key="n", labels={"l00": "v" * 4094}) == "INVALID_ARGUMENT"
    assert code_of(client.Prepare, key="n", labels={f"l{n}": "" for n in range(1025)}) == "INVALID_ARGUMENT"
    assert code_of(client.Prepare, key="k" * 4097) == "INVALID_ARGUMENT"
    assert code_of(client.Prepare, key="k" * (17 << 20)) == "RESOURCE_EXHAUSTED"
    assert client.names() == ["k"]


@contextmanager
def sending(address: Path, data: bytes, count: int) -> Iterator[list[socket.socket]]:
    """Connections that have sent something, and stay open."""
    with ExitStack() as held:
        made = [held.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(count)]
        for each in made:
            each.settimeout(PATIENCE)
            each.connect(os.fspath(address))
            each.sendall(data)
        yield made


@pytest.mark.parametrize(
    "data",
    [b"", b"PRI * HT", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096, PREFACE + SETTINGS + HALF_HEADERS],
    ids=["nothing", "half a preface", "another protocol", "garbage", "half a request"],
)
def test_what_is_no_request_harms_nobody_else(served: Served, client: Client, data: bytes) -> None:
    with sending(served.address, data, 100):
        assert code_of(client.Prepare, key="k") == "OK"
        with Client(served.address) as other:
            assert code_of(other.Stat, key="k") == "OK"
    assert served.process.poll() is None


@pytest.mark.parametrize("method", ["Prepare", "Commit", "List", "Update"])
def test_a_message_that_is_none_is_answered_by_an_error(served: Served, client: Client, method: str) -> None:
    call = client.channel.unary_unary(f"/{SNAPSHOTS}.Snapshots/{method}")
    assert code_of(lambda: call(b"\xff\xfe" * 100, timeout=PATIENCE)) == "INVALID_ARGUMENT"
    assert code_of(client.Prepare, key="k") == "OK"
    assert "traceback" not in served.log().lower()


@pytest.mark.parametrize(
    "method",
    ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"],
    ids=["health", "reflection"],
)
def test_garbage_for_a_standard_service_leaves_no_traceback(served: Served, client: Client, method: str) -> None:
    call = client.channel.stream_stream(method)
    assert code_of(lambda: list(call(iter([b"\xff\xfe" * 100]), timeout=PATIENCE))) == "UNKNOWN"
    assert code_of(client.Prepare, key="k") == "OK"
    assert "traceback" not in served.log().lower()


def test_clients_that_never_read_their_answer_harm_nobody_else(served: Served, client: Client) -> None:
    """Each asks for a list that is larger than what HTTP/2 sends to somebody who does not read."""
    for number in range(100):
        client.Prepare(key=f"k{number:03}", labels={f"l{n}": "v" * 4000 for n in range(8)})
    request = message(SNAPSHOTS, "ListSnapshotsRequest")(snapshotter="layerfs-overlay").SerializeToString()
    with ExitStack() as held:
        for _ in range(24):
            channel = held.enter_context(Client(served.address)).channel
            held.callback(channel.unary_stream(f"/{SNAPSHOTS}.Snapshots/List")(request).cancel)
        for number in range(50):
            assert code_of(client.Prepare, key=f"n{number}") == "OK"
        assert code_of(client.Remove, key="k000") == "OK"
        assert len(client.names()) == 149
        assert resident(served) < 300
