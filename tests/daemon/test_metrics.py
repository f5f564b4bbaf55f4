"""The numbers, for Prometheus and for people."""

import urllib.request

from layerfs.daemon.metrics import Metrics, Page
from layerfs.daemon.node import Node


def test_numbers_are_served(node: Node) -> None:
    node.snapshotter("layerfs-overlay").prepare("a")
    metrics = Metrics()
    metrics.watch(node)
    metrics.answered("Prepare", "OK", 0.003)
    page = Page("127.0.0.1:0", metrics)
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
