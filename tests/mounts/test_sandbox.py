"""A command in a mount of its own: its environment, its upper, and nobody who leads it out."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from layerfs.model import Stack
from layerfs.mounts.sandbox import environment, with_upper
from tests.host import BIN, Person, require

LOOK = """
for p in /proc/[0-9]*; do
  busybox cat $p/root$SECRET && echo "by the root of $p"
  busybox tr '\\0' ' ' < $p/environ | busybox grep -q ONLY_OUTSIDE && echo "by the environment of $p"
  for f in $p/fd/*; do busybox readlink $f | busybox grep "fuse\\|layerfs-run" && echo "by $f"; done
done 2> /dev/null
echo looked
"""


@pytest.mark.parametrize("driver", ["fuse", "kernel", "auto"])
@pytest.mark.parametrize("image", [False, True])
def test_no_process_that_the_command_sees_leads_out_of_its_root(
    scratch: Path, person: Person, driver: str, image: bool
) -> None:
    """The server of the tree, and init, lived in the command's pid namespace with the host's root and the device."""
    require("busybox", "userns overlay", "mksquashfs", "fuse")
    base = scratch / "base"
    (base / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", base / "bin/busybox")
    (base / "bin/sh").symlink_to("busybox")
    (base / "look").write_text(LOOK)
    if image:
        subprocess.run(["mksquashfs", base, scratch / "base.sqfs", "-quiet", "-no-progress"], check=True)
        base = scratch / "base.sqfs"
    secret = person.home / "secret"
    secret.write_text("the host's\n")
    shell = ["busybox", "env", "-u", "ONLY_OUTSIDE", "busybox", "sh", "/look"]
    command: list[str | Path] = [BIN / "layerfs", "run", "--root", f"--driver={driver}", base, "--", *shell]
    done = person.run(command, env={"TMPDIR": str(person.home), "SECRET": str(secret), "ONLY_OUTSIDE": "1"})
    assert done.stdout == "looked\n"


@pytest.mark.parametrize("driver", ["fuse", "kernel"])
def test_not_even_root_sees_the_server_from_inside(scratch: Path, driver: str) -> None:
    require("root", "busybox", "fuse", "kernel overlay")
    base = scratch / "base"
    (base / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", base / "bin/busybox")
    (base / "look").write_text(LOOK)
    (scratch / "secret").write_text("the host's\n")
    shell = ["busybox", "env", "-u", "ONLY_OUTSIDE", "busybox", "sh", "/look"]
    command = [BIN / "layerfs", "run", "--root", f"--driver={driver}", base, "--", *shell]
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, "SECRET": str(scratch / "secret")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "looked\n"


def test_a_command_in_its_own_root_has_the_environment_of_root() -> None:
    given = {b"PATH": b"/home/me/bin:/usr/bin", b"TMPDIR": b"/scratch", b"HOME": b"/home/me", b"LANG": b"C"}
    found = environment(b"/", given)
    assert found[b"PATH"] == b"/home/me/bin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin"
    assert (found[b"HOME"], found[b"PWD"], found[b"LANG"]) == (b"/root", b"/", b"C")
    assert b"TMPDIR" not in found
    assert environment(b"/tree", given) == given | {b"LAYERFS_ROOT": b"/tree", b"LAYERFS_TREE": b"/tree"}


def test_a_stack_without_an_upper_gets_one_that_looks_as_its_top_layer(scratch: Path) -> None:
    for name in ("top", "memory"):
        (scratch / name).mkdir()
    (scratch / "top").chmod(0o2751)
    stack = with_upper(Stack((bytes(scratch / "top"),)), bytes(scratch / "memory"))
    assert stack == Stack((bytes(scratch / "top"),), bytes(scratch / "memory/upper"), bytes(scratch / "memory/work"))
    assert os.stat(bytes(scratch / "memory/upper")).st_mode & 0o7777 == 0o2751
    given = Stack((b"/a",), b"/u", b"/w")
    assert with_upper(given, b"/nowhere") == given


def test_in_a_chroot_the_sentence_says_what_to_do(scratch: Path) -> None:
    """It was `[Errno 22] Invalid argument: b'/'`."""
    require("root")
    program = """
import os, sys
os.mkdir(sys.argv[1] + "/empty")
from layerfs.errors import LayerfsError
from layerfs.mounts import sandbox
os.chroot(sys.argv[1])
os.chdir("/")
try:
    sandbox.enter_mounts(b"/empty")
except LayerfsError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program, str(scratch)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("the root of this process is no mount, as after chroot(8)")
    assert "systemd-nspawn" in done.stdout
