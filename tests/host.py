"""What the tests need of the host: features found by trying them, and an unprivileged person to be.

`require("userns")` skips with the feature's name where the host lacks it, and fails where CI=true.
"""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import PATIENCE

PROJECT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent  # of the virtual environment: layerfs, layerfs-mount, ruff, mypy, ...
PERSON = os.environ.get("LAYERFS_USER", "layerfs-test")  # `make test` creates it; has subuid and subgid ranges
SHELL_TIMEOUT = PATIENCE  # s


@dataclass(frozen=True)
class Person:
    """Somebody to run programs as; `home` is theirs and goes with the test."""

    name: str
    uid: int
    gid: int
    home: Path

    def environment(self) -> dict[str, str]:
        """A login's environment, with an empty XDG_RUNTIME_DIR of its own (0700, as logind makes it)."""
        runtime = self.home / "runtime"
        path = f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"HOME": str(self.home), "USER": self.name, "LOGNAME": self.name, "PATH": path, "LANG": "C.UTF-8"} | {
            "XDG_RUNTIME_DIR": str(runtime)
        }

    def owns(self, *paths: Path) -> None:
        """Make directories, theirs; existing ones change owner."""
        for path in paths:
            path.mkdir(parents=True, exist_ok=True)
            os.chown(path, self.uid, self.gid)

    def command(self, command: Sequence[str | Path]) -> list[str]:
        """`command` with what makes it theirs before it; nothing when they run the tests themselves."""
        words = [str(word) for word in command]
        if os.geteuid() == self.uid:
            return words
        ids = [f"--reuid={self.uid}", f"--regid={self.gid}", "--init-groups", "--inh-caps=-all"]
        return ["setpriv", *ids, "--", *words]

    def run(
        self, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Run to the end as this person; output is captured as text, failure raises unless check=False."""
        defaults: dict[str, Any] = {"check": True, "capture_output": True, "text": True, "timeout": SHELL_TIMEOUT}
        defaults |= {"cwd": self.home, "stdin": subprocess.DEVNULL}
        return subprocess.run(self.command(command), env=self.environment() | dict(env or {}), **defaults | options)


def find_person(home: Path) -> Person:
    """The unprivileged person tests run as: PERSON when we are root, else whoever runs the tests."""
    entry = pwd.getpwnam(PERSON) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    person = Person(entry.pw_name, entry.pw_uid, entry.pw_gid, home)
    person.owns(home, home / "runtime")
    (home / "runtime").chmod(0o700)
    return person


def require(*features: str) -> None:
    """Go on only where the host has every feature; a name that is not in FEATURES is a program."""
    for feature in features:
        reason = _missing(feature)
        if reason and os.environ.get("CI") == "true":
            pytest.fail(f"in CI nothing may be skipped, but this host lacks {feature}: {reason}", pytrace=False)
        if reason:
            pytest.skip(f"host lacks {feature}: {reason}")


@cache
def _missing(feature: str) -> str:
    """Why the host lacks the feature; empty when it has it. Tried once a session."""
    if feature in FEATURES:
        return FEATURES[feature]()
    return "" if shutil.which(feature) else f"no program {feature} on PATH (`make test` installs it)"


def _try(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SHELL_TIMEOUT)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"{command[0]} exits {done.returncode}")


def _as_person(*command: str) -> str:
    if os.geteuid() != 0:
        return _try(*command)
    try:
        entry = pwd.getpwnam(PERSON)
    except KeyError:
        return f"no user {PERSON} (`make test` creates it)"
    return _try("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups", "--", *command)


def _overlay(prepare: str, options: str) -> str:
    """A shell line that mounts kernel overlayfs below $D and takes it away again."""
    stack = "lowerdir=$D/l,upperdir=$D/u,workdir=$D/w"
    make = 'D=$(mktemp -d) && mkdir "$D/l" "$D/u" "$D/w" "$D/m"'
    return f'{make} && {prepare} mount -t overlay overlay -o "{stack}{options}" "$D/m"; R=$?; rm -r "$D"; exit $R'


def _root() -> str:
    return "" if os.geteuid() == 0 else "the tests do not run as root"


def _person() -> str:
    return _as_person("true")


def _fuse() -> str:
    return _as_person("sh", "-c", "test -r /dev/fuse -a -w /dev/fuse") and "/dev/fuse is not open to everybody"


def _userns() -> str:
    return _as_person("unshare", "--user", "--map-root-user", "--mount", "true")


def _subids() -> str:
    return _as_person("unshare", "--user", "--map-auto", "--map-root-user", "--mount", "true")


def _kernel_overlay() -> str:
    return _root() or _try("unshare", "--mount", "sh", "-c", _overlay("", ""))


def _userns_overlay() -> str:
    line = _overlay("", ",userxattr")
    return _as_person("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", line)


def _user_xattrs() -> str:
    with tempfile.NamedTemporaryFile() as file:
        try:
            os.setxattr(file.name, "user.layerfs", b"1")
        except OSError as error:
            return f"{file.name}: {error.strerror}"
    return ""


FEATURES: dict[str, Callable[[], str]] = {
    "root": _root,
    "person": _person,  # an unprivileged user
    "fuse": _fuse,  # mounts by an unprivileged user
    "userns": _userns,  # as an unprivileged user
    "subids": _subids,  # newuidmap and newgidmap ranges of that user
    "kernel overlay": _kernel_overlay,
    "userns overlay": _userns_overlay,
    "user xattrs": _user_xattrs,
}
