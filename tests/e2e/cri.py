"""The kubelet's way to pull: containerd's CRI service, which asks for remote snapshots (Debian's ctr 1.6 does not)."""

from pathlib import Path

import grpc

from tests.e2e.containerd import Containerd
from tests.waiting import PATIENCE

NAMESPACE = "k8s.io"  # of all that this service does


def pull(socket: Path, name: str) -> None:
    """Pull an image: `runtime.v1.ImageService/PullImage` of an ImageSpec that holds the name."""
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        channel.unary_unary("/runtime.v1.ImageService/PullImage")(_first(_first(name.encode())), timeout=PATIENCE)


def ctr(containerd: Containerd, *words: str | Path) -> str:
    """Run a ctr command in the service's namespace."""
    return containerd.ctr("--namespace", NAMESPACE, *words)


def _first(value: bytes) -> bytes:
    """A message of protocol buffers whose field 1 is this text or message."""
    assert len(value) < 0x80
    return bytes([1 << 3 | 2, len(value)]) + value
