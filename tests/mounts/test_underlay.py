"""Images under the kernel driver in a user namespace: one FUSE server below the overlay, which ends with it."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from layerfs.model import Driver
from tests.host import BIN
from tests.mounts.stacks import CHANGES, KILLED, Place, clean, facts, spoil
from tests.mounts.stacks import theirs as theirs
from tests.waiting import wait_until

LOOK = f"{sys.executable} -m tests.e2e.manifest"


def test_person_sees_in_images_what_is_in_directories(theirs: Place) -> None:
    text = f'layerfs mount "$@" --driver=kernel; {LOOK} mnt; layerfs umount mnt'
    expected = json.loads(theirs.script(text, *theirs.directories, "mnt"))
    assert facts(json.loads(theirs.script(text, *theirs.stack, "mnt"))) == facts(expected)


def test_what_a_person_writes_over_images_goes_to_the_upper(theirs: Place) -> None:
    seen = []
    for number, stack in enumerate((theirs.directories, theirs.stack)):
        (upper,) = theirs.new(f"upper{number}")
        text = f"""layerfs mount --upper {upper} "$@" mnt; sh -ec '{CHANGES}' sh mnt; layerfs diff mnt; {LOOK} mnt
            layerfs umount mnt"""
        said = theirs.script(text, *stack)
        changes, _, tree = said.partition("{")
        seen.append((facts(json.loads("{" + tree), "mtime"), changes))
    assert seen[0] == seen[1]
    assert (theirs.base / "upper1/file").read_text() == "middlemore\n"


def statuses(theirs: Place, text: str, *words: str | Path) -> list[dict[str, Any]]:
    """Run lines of which each `report` prints what `status` says of the mount."""
    report = 'report() { layerfs status --json mnt | tr -d "\\n"; echo; }; '
    lines = theirs.script(report + text, *words).splitlines()
    return [json.loads(line)[0] for line in lines if line.startswith("[")]


def ours(theirs: Place, said: str) -> list[Path]:
    """Return the mountpoints that `status` shows, without those of others on this host."""
    points = [Path(mount["mountpoint"]) for mount in json.loads(said)]
    return [point for point in points if theirs.base in point.parents]


def test_auto_serves_images_below_the_kernel_only_where_something_is_written(theirs: Place) -> None:
    (upper,) = theirs.new("upper")
    text = f'layerfs mount "$@" mnt; report; layerfs umount mnt; layerfs mount --upper {upper} "$@" mnt; report'
    alone, below = statuses(theirs, text, *theirs.stack)
    assert (alone["driver"], alone["why"]) == ("fuse", "this user may not mount images through loop devices")
    assert (below["driver"], below["health"]) == ("kernel", "serving")
    assert below["why"].endswith("images by FUSE: this user may not mount images through loop devices")


@pytest.mark.parametrize("end", ["umount mnt", "layerfs umount mnt", "umount -l mnt", "true"])
def test_server_ends_with_the_overlay_and_with_the_namespace(theirs: Place, end: str) -> None:
    text = f'layerfs mount --driver=kernel "$@" mnt; cat mnt/dir/bottom; {end}'
    assert theirs.script(text, *theirs.stack) == "bottom"
    wait_until(lambda: clean(theirs.base), "the server to end")


def test_overlay_whose_server_was_killed_is_dead_and_can_be_unmounted(theirs: Place) -> None:
    kill = """pid=$(layerfs status --json mnt | sed -n 's/.*"pid": \\([0-9]*\\).*/\\1/p'); kill -9 $pid
        while grep -qs '^State:.[^ZX]' /proc/$pid/status; do :; done  # a zombie serves nothing
        layerfs status --json mnt > after || true; layerfs umount mnt; layerfs status --json"""
    said = theirs.script(f'layerfs mount --driver=kernel "$@" mnt; {kill}', *theirs.stack)
    assert ours(theirs, said) == []
    assert json.loads((theirs.base / "after").read_text())[0]["health"] == "dead"


def test_mount_that_is_killed_half_way_leaves_no_server(theirs: Place) -> None:
    (theirs.base / "killed.py").write_text(KILLED)
    text = f'{sys.executable} killed.py mount --driver=kernel "$@" mnt 2> /dev/null || echo $?'
    assert theirs.script(text, *theirs.stack).endswith("137\n")
    wait_until(lambda: clean(theirs.base), "the server to end")


def test_server_of_images_keeps_no_other_mount(theirs: Place) -> None:
    """It lives in a copy of the mount namespace: the copy of a mount would keep that alive after its unmount."""
    theirs.new("other")
    text = """layerfs mount --driver=fuse low other; layerfs mount --driver=kernel "$@" mnt
        timeout 100 layerfs umount other; cat mnt/file; layerfs status --json"""
    said = theirs.script(text, *theirs.stack)
    assert said.startswith("middle")
    assert ours(theirs, said.removeprefix("middle")) == [theirs.mnt]


@pytest.mark.parametrize("driver", list(Driver))
def test_command_runs_on_images_without_root(theirs: Place, driver: Driver) -> None:
    assert theirs.person
    text = "cat file dir/bottom; echo new > new; cat new; ls gone-below 2> /dev/null || stat -f -c %T ."
    words = ["run", f"--driver={driver.value}", *map(str, theirs.stack), "--", "sh", "-ec", text]
    done = theirs.start(*theirs.person.command([str(BIN / "layerfs"), *words]))
    kind = "fuseblk" if driver is Driver.FUSE else "overlayfs"
    assert (done.stdout, done.stderr) == (f"middlebottomnew\n{kind}\n", "")


def test_corrupt_image_is_refused_without_root(theirs: Place) -> None:
    assert theirs.person
    words = ["mount", "--driver=kernel", str(spoil(theirs, "superblock")), "mnt"]
    done = theirs.start(*theirs.person.command(["unshare", "-Urm", str(BIN / "layerfs"), *words]))
    assert done.returncode == 1
    assert "squashfs" in done.stderr
    assert done.stderr.count("\n") == 1
