"""The numbers, for Prometheus and for people."""

import socket
import urllib.request
from contextlib import ExitStack

import pytest

from layerfs.daemon.metrics import MOST, Metrics, MetricsServer
from layerfs.daemon.served_store import ServedStore
from layerfs.errors import NotReady


def test_numbers_are_served(served_store: ServedStore) -> None:
    served_store.snapshotter("layerfs-overlay").prepare("a")
    metrics = Metrics()
    metrics.watch(served_store)
    metrics.answered("Prepare", "OK", 0.003)
    page = MetricsServer("127.0.0.1:0", metrics)
    try:
        base = f"http://127.0.0.1:{page.port}"
        numbers = urllib.request.urlopen(f"{base}/metrics").read().decode()
        shown = urllib.request.urlopen(f"{base}/").read().decode()
    finally:
        page.close()
    assert 'layerfs_snapshots{driver="overlay",kind="active"} 1.0' in numbers
    assert 'layerfs_rpcs_total{method="Prepare",status="OK"} 1.0' in numbers
    assert 'layerfs_rpc_seconds_bucket{le="0.005",method="Prepare"} 1.0' in numbers
    assert "layerfs_snapshots driver overlay, kind active<td>1" in shown


def test_numbers_are_served_by_ipv6() -> None:
    page = MetricsServer("[::1]:0", Metrics())
    try:
        assert b"layerfs_up" in urllib.request.urlopen(f"http://[::1]:{page.port}/metrics").read()
    finally:
        page.close()


def test_clients_that_say_nothing_keep_nobody_out() -> None:
    page = MetricsServer("127.0.0.1:0", Metrics())
    try:
        with ExitStack() as held:
            silent = [held.enter_context(socket.create_connection(("127.0.0.1", page.port))) for _ in range(4 * MOST)]
            assert b"layerfs_up" in urllib.request.urlopen(f"http://127.0.0.1:{page.port}/metrics").read()
            assert silent[0].recv(1) == b""  # it had to make room
    finally:
        page.close()


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(NotReady, match=f"no numbers can be served at {address}"):
            MetricsServer(address, Metrics())
