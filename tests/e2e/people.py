"""Who runs a command: root, or an unprivileged user with ranges of subordinate ids."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

USER = "layerfs-test"  # made when missing and left behind: it owns nothing and cannot log in
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PASSED_ON = ("http_proxy", "https_proxy", "no_proxy")
TIMEOUT = 120.0  # seconds; a FUSE mount that hangs must not hang the tests

Words = Sequence[str | Path]


@dataclass(frozen=True)
class Person:
    """A user id and what its commands find in their environment."""

    name: str
    uid: int
    gid: int
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def rootless(self) -> bool:
        return self.uid != 0

    def attempt(
        self,
        *words: str | Path,
        cwd: Path = Path("/"),
        stdin: str = "",
        timeout: float = TIMEOUT,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command and return how it went; its environment is small and always the same."""
        become = {"user": self.uid, "group": self.gid, "extra_groups": []} if os.geteuid() != self.uid else {}
        return subprocess.run(
            # Popen changes directory before it changes user, and root may not enter another's FUSE mount: env(1) can.
            ["env", "-C", os.fspath(cwd), *(os.fspath(word) for word in words)],
            input=stdin,
            env={**inherited(), "HOME": "/nonexistent", **self.environment, **environment},
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout,
            umask=0o022,
            check=False,
            **become,  # type: ignore[call-overload]
        )

    def run(
        self, *words: str | Path, cwd: Path = Path("/"), stdin: str = "", timeout: float = TIMEOUT, **environment: str
    ) -> str:
        """Run a command that must succeed and return what it printed."""
        done = self.attempt(*words, cwd=cwd, stdin=stdin, timeout=timeout, **environment)
        assert done.returncode == 0, f"{self.name}: exit {done.returncode}: {words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def sh(self, script: str, cwd: Path = Path("/"), timeout: float = TIMEOUT, **environment: str) -> str:
        """Run a shell script that stops at its first failure."""
        return self.run("/bin/sh", "-euc", script, cwd=cwd, timeout=timeout, **environment)


def inherited() -> dict[str, str]:
    return {"PATH": PATH, "LANG": "C.UTF-8", **{name: os.environ[name] for name in PASSED_ON if name in os.environ}}


def superuser() -> Person:
    return Person("root", 0, 0, {"HOME": "/root"})


def unprivileged() -> Person:
    """The test user, made when missing, or whoever runs the tests when that is not root."""
    if os.geteuid() != 0:
        return Person(pwd.getpwuid(os.geteuid()).pw_name, os.geteuid(), os.getegid())
    try:
        entry = pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "--create-home", "--shell", "/usr/sbin/nologin", USER], check=True)
        entry = pwd.getpwnam(USER)
    for kind in ("uid", "gid"):
        grant(kind, entry.pw_name)
    return Person(entry.pw_name, entry.pw_uid, entry.pw_gid)


def grant(kind: str, name: str) -> None:
    """Give a user 65,536 subordinate ids unless it has some (subuid(5))."""
    granted = Path(f"/etc/sub{kind}")
    lines = granted.read_text().splitlines() if granted.exists() else []
    if any(line.startswith(f"{name}:") for line in lines):
        return
    first = max([100_000, *(sum(map(int, line.split(":")[1:3])) for line in lines if line.count(":") == 2)])
    subprocess.run(["usermod", f"--add-sub{kind}s", f"{first}-{first + 65_535}", name], check=True)


def needs(*programs: str) -> list[str]:
    """Name the programs that this host lacks."""
    return [program for program in programs if shutil.which(program, path=PATH) is None]
