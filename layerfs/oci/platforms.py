"""Which of an index's manifests is for this machine. Attestations (platform unknown) are never chosen."""

import os
from collections.abc import Sequence
from typing import Final

from layerfs.errors import InvalidArgument, NotFound
from layerfs.oci.documents import Descriptor, Platform

ATTESTATION: Final = "vnd.docker.reference.type"
ATTESTS: Final = "vnd.docker.reference.digest"
# What `uname -m` says, in GOARCH's words.
_MACHINES: Final = {
    "x86_64": ("amd64", ""), "aarch64": ("arm64", "v8"), "armv7l": ("arm", "v7"), "armv6l": ("arm", "v6"),
    "i686": ("386", ""), "ppc64le": ("ppc64le", ""), "s390x": ("s390x", ""), "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
}  # fmt: skip


def host_platform() -> Platform:
    """Return the platform of this machine."""
    machine = os.uname().machine
    return Platform("linux", *_MACHINES.get(machine, (machine, "")))


def parse_platform(text: str) -> Platform:
    """Return a platform from `os/architecture[/variant]`."""
    words = text.split("/")
    if not 2 <= len(words) <= 3 or not all(words):
        raise InvalidArgument(f"not a platform: {text!r}", "such as linux/amd64 or linux/arm/v7")
    return Platform(*words)


def is_attestation(entry: Descriptor) -> bool:
    """Tell whether an entry of an index says something about another one."""
    unknown = entry.platform is not None and entry.platform.os == "unknown"
    return unknown or ATTESTATION in entry.annotations


def fits(offered: Platform | None, wanted: Platform) -> bool:
    """Tell whether an image that says this of itself is for a machine; one that says nothing is for all."""
    if offered is None or not (offered.os or offered.architecture):
        return True
    if (offered.os, offered.architecture) != (wanted.os, wanted.architecture):
        return False
    if not offered.variant or not wanted.variant:
        return True
    if offered.architecture == "arm":  # a v7 runs what is for v6
        return offered.variant <= wanted.variant
    return offered.variant == wanted.variant


def choose(entries: Sequence[Descriptor], wanted: Platform) -> Descriptor:
    """Return the entry of an index that is for a machine; of several the closest, then the first. Raises NotFound."""
    candidates = [entry for entry in entries if not is_attestation(entry) and fits(entry.platform, wanted)]
    if not candidates:
        offered = sorted({str(entry.platform) for entry in entries if entry.platform and not is_attestation(entry)})
        hint = f"it has {', '.join(offered)}: --platform chooses" if offered else ""
        raise NotFound(f"the image has nothing for {wanted}", hint)
    return min(candidates, key=lambda entry: _distance(entry.platform, wanted))


def _distance(offered: Platform | None, wanted: Platform) -> int:
    if offered is None:
        return 3
    if offered == wanted:
        return 0
    return 1 if offered.variant else 2
