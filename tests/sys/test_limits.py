"""Descriptor limits."""

import resource
import subprocess
import sys

from layerfs.sys.limits import raise_open_files
from tests.host import require


def test_soft_limit_becomes_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        assert raise_open_files() == (hard if hard != resource.RLIM_INFINITY else 1 << 20)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_who_obeys_quotas_keeps_all_other_capabilities() -> None:
    """In a user namespace, whose root has all of them whatever the host's has."""
    require("userns")
    script = (
        "from layerfs.sys.limits import obey_quotas\n"
        "def held(): return [int(line.split()[1], 16) for line in open('/proc/self/status') if line[:6] in "
        "('CapPrm', 'CapEff')]\n"
        "before = held(); obey_quotas(); print([old ^ new for old, new in zip(before, held())]); obey_quotas()\n"
    )
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{[1 << 24] * 2}\n"
