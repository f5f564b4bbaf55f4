"""What other programs' configurations need to use this daemon: containerd 1.x and 2.x, buildkitd, nerdctl."""

from collections.abc import Iterable
from typing import Final

from layerfs.oci.platforms import host_platform
from layerfs.snapshots.driver import Capability

Drivers = Iterable[tuple[str, frozenset[Capability]]]
PROGRAMS: Final = ("containerd-1", "containerd-2", "buildkitd", "nerdctl")

_CONTAINERD: Final = """\
# containerd {versions}: add this to its config.toml, which begins with `version = {version}`, and restart it.
# Then: ctr image pull --snapshotter layerfs REF; ctr run --snapshotter layerfs REF ID
"""
_PLUGIN: Final = """\
[proxy_plugins.{name}]
  type = "snapshot"
  address = "{address}"
"""
_CAPABLE: Final = """\
  capabilities = [{words}]
"""
_DIFF: Final = """\
# Layers go straight into a snapshot, without a FUSE round trip; what is not layerfs's goes to containerd's own differ.
[proxy_plugins.layerfs-diff]
  type = "diff"
  address = "{address}"
[plugins."io.containerd.service.v1.diff-service"]
  default = ["layerfs-diff", "walking"]
# For `ctr image pull` without --local, and for `ctr image import` likewise:
"""
_UNPACK: Final = """\
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "{platform}"
  snapshotter = "{name}"
  differ = "layerfs-diff"
"""
_BUILDKIT: Final = """\
# buildkitd with containerd, in /etc/buildkit/buildkitd.toml:
[worker.containerd]
  snapshotter = "layerfs"
# buildkitd without containerd; start a layerfs serve of its own for it, with another --root and --address:
# [worker.oci]
#   snapshotter = "layerfs"
#   proxySnapshotterPath = "{address}"
"""
_NERDCTL: Final = """\
# nerdctl, in /etc/nerdctl/nerdctl.toml (or nerdctl --snapshotter layerfs run REF); containerd is configured as above:
snapshotter = "layerfs"
"""


def configuration(program: str, address: str, drivers: Drivers) -> str:
    """Return what a program (one of PROGRAMS) is told, for an address and the drivers of this host, best first."""
    if program == "buildkitd":
        return _BUILDKIT.format(address=address)
    if program == "nerdctl":
        return _NERDCTL
    second = program == "containerd-2"
    head = _CONTAINERD.format(versions="2.x" if second else "1.6 and 1.7", version=3 if second else 2)
    known = list(drivers)
    best = known[0][1] if known else frozenset()
    named = [("layerfs", best), *((f"layerfs-{word}", able) for word, able in known)]
    return head + _plugins(address, named, capable=second) + (_unpacking(address, named) if second else "")


def _plugins(address: str, named: list[tuple[str, frozenset[Capability]]], *, capable: bool) -> str:
    parts = []
    for name, capabilities in named:
        parts.append(_PLUGIN.format(name=name, address=address))
        words = ", ".join(f'"{capability.value}"' for capability in sorted(capabilities, key=lambda c: c.value))
        parts.append(_CAPABLE.format(words=words) if words and capable else "")
    return "".join(parts)


def _unpacking(address: str, named: list[tuple[str, frozenset[Capability]]]) -> str:
    here = host_platform()
    platform = "/".join(filter(None, (here.os, here.architecture, here.variant)))
    return _DIFF.format(address=address) + "".join(_UNPACK.format(platform=platform, name=name) for name, _ in named)
