"""Any subject once more, as an unprivileged user in a user and mount namespace of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from benchmarks.model import BenchError, BuiltTree, Case, Site, Subject
from benchmarks.subjects.plain import need_program
from benchmarks.trees import ROOTS

UID = 65534  # nobody: owns nothing on a sane host, so nothing can be measured by accident as its own


class Rootless:
    """Wraps a subject: a process holds the namespaces open, every command enters them.

    The layers are a copy owned by that user, because an id outside the namespace cannot be copied up.
    """

    def __init__(self, inner: Subject, cache: Path) -> None:
        self.inner = inner
        self.name = f"{inner.name}-rootless"
        self.about = f"{inner.about}, by an unprivileged user in a user namespace"
        self.images = inner.images
        self.owner = UID if os.geteuid() == 0 else os.geteuid()
        self.cache = cache
        self.holder: subprocess.Popen[bytes] | None = None

    @property
    def prefix(self) -> tuple[str, ...]:
        """Enter the held namespaces as their root."""
        if self.holder is None:
            self.holder = hold()
        return ("/usr/bin/nsenter", "-t", str(self.holder.pid), "-U", "-m", "-S", "0", "-G", "0", "--")

    def missing(self) -> str | None:
        """Need user namespaces, beside what the inner subject needs (but not root)."""
        why = self.inner.missing()
        if why and why != "needs root":
            return why
        lacking = need_program("unshare", "util-linux") or need_program("setpriv", "util-linux")
        if lacking:
            return lacking
        tried = subprocess.run([*as_user(), "unshare", "-Urm", "true"], capture_output=True, text=True)
        return f"user namespaces are refused here: {tried.stderr.strip()}" if tried.returncode else None

    def version(self) -> str:
        """Return the inner subject's."""
        return self.inner.version()

    def refuses(self, case: Case) -> str | None:
        """Decline trees that exist only as root's."""
        if case.tree in ROOTS:
            return "this tree belongs to root"
        return self.inner.refuses(case)

    def prepare(self, layers: BuiltTree, site: Site, case: Case) -> None:
        """Prepare as the inner subject does."""
        self.inner.prepare(layers, site, case)

    def mount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Mount as the inner subject does, inside."""
        return self.inner.mount_command(layers, site)

    def unmount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Unmount as the inner subject does, inside."""
        return self.inner.unmount_command(layers, site)

    def finish(self) -> None:
        """Let the namespaces go, and every mount in them."""
        self.inner.finish()
        if self.holder is not None:
            self.holder.kill()
            self.holder.wait()
            self.holder = None


def as_user() -> list[str]:
    """Return the words that drop root; none when we are not root."""
    if os.geteuid():
        return []
    return ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--no-new-privs"]


def hold() -> subprocess.Popen[bytes]:
    """Start the process that keeps the namespaces; it says one word when they are ready."""
    holder = subprocess.Popen(
        [*as_user(), "unshare", "-Urm", "sh", "-c", "echo ready; exec sleep infinity"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert holder.stdout is not None
    with holder.stdout:
        if holder.stdout.readline() != b"ready\n":
            raise BenchError("the namespaces of a rootless subject could not be made")
    return holder
