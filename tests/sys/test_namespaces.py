"""User namespaces entered for real, and the files that say whose ids are in them."""

import os
from pathlib import Path

import pytest

from layerfs.sys import namespaces
from layerfs.sys.namespaces import Subordinate, map_words, parse_subordinates, trusted_xattrs
from tests.host import BIN, Person, require

ENTER = """
import os
from layerfs.sys.namespaces import enter_user_namespace, in_user_namespace, trusted_xattrs
before = in_user_namespace(), trusted_xattrs()
enter_user_namespace()
print(before, in_user_namespace(), trusted_xattrs(), os.getuid(), os.getgid())
print(*open("/proc/self/uid_map").read().split(), sep=",")
print(*open("/proc/self/gid_map").read().split(), sep=",")
print(open("/proc/self/setgroups").read().strip())
"""


def test_subordinate_ranges_are_found_by_name_and_by_number() -> None:
    text = "ann:100:5\n1000:300:10\nbob:500:5\n\nnonsense\nann:x:y\nann:7:0\nann:900:1\n"
    assert parse_subordinates(text, {"ann", "1000"}) == [
        Subordinate(100, 5),
        Subordinate(300, 10),
        Subordinate(900, 1),
    ]


def test_caller_is_mapped_as_root_and_the_ranges_follow_without_a_gap() -> None:
    runs = [Subordinate(100000, 65536), Subordinate(300000, 10)]
    assert " ".join(map_words(1000, runs)) == "0 1000 1 1 100000 65536 65537 300000 10"


def test_person_with_ranges_gets_them_all(person: Person) -> None:
    require("subids")
    uids, gids = namespaces.subordinate_uids(person.uid), namespaces.subordinate_gids(person.uid)
    words = person.run([BIN / "python", "-c", ENTER]).stdout.split("\n")
    assert words == [
        "(False, False) True False 0 0",
        ",".join(map_words(person.uid, uids)),
        ",".join(map_words(person.gid, gids)),
        "allow",
        "",
    ]


def test_person_without_the_programs_gets_one_id(person: Person, scratch: Path) -> None:
    require("userns")
    (scratch / "bin").mkdir()
    words = person.run(["env", f"PATH={scratch / 'bin'}", BIN / "python", "-c", ENTER]).stdout.split("\n")
    single = [f"0,{person.uid},1", f"0,{person.gid},1", "deny", ""]
    assert words == ["(False, False) True False 0 0", *single]


def test_programs_that_refuse_leave_one_id(person: Person, scratch: Path) -> None:
    """Where /etc/subuid and the setuid programs disagree, a command still runs, with the caller alone mapped."""
    require("userns")
    (scratch / "bin").mkdir()
    for name in ("newuidmap", "newgidmap"):
        (scratch / "bin" / name).write_text("#!/bin/sh\necho no >&2\nexit 1\n")
        (scratch / "bin" / name).chmod(0o755)
    done = person.run([BIN / "python", "-c", ENTER], env={"PATH": f"{scratch / 'bin'}:/usr/bin:/bin"})
    assert done.stdout.split("\n")[1:4] == [f"0,{person.uid},1", f"0,{person.gid},1", "deny"]
    assert done.stderr == ""


def test_refused_namespace_raises_and_leaves_no_child(person: Person) -> None:
    require("root", "userns")
    program = """
import os
from layerfs.sys.libc import call
from layerfs.sys.namespaces import enter_user_namespace
with open("/proc/sys/user/max_user_namespaces", "w") as file:
    file.write("0")
try:
    enter_user_namespace()
except OSError as error:
    print(error.strerror)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
"""
    # The limit is the namespace's own (user_namespaces(7)), so the host keeps its.
    done = person.run(["unshare", "--user", "--map-root-user", BIN / "python", "-c", program])
    assert done.stdout == "No space left on device\nno child\n"


def test_root_may_set_trusted_xattrs_outside_user_namespaces() -> None:
    require("root")
    assert trusted_xattrs()


@pytest.mark.parametrize(("error", "expected"), [("EOPNOTSUPP", os.geteuid() == 0), ("EPERM", False)])
def test_xattrs_that_cannot_be_tried_are_judged_by_who_we_are(
    monkeypatch: pytest.MonkeyPatch, error: str, expected: bool
) -> None:
    import errno

    def refuse(*_arguments: object) -> None:
        raise OSError(getattr(errno, error), error)

    monkeypatch.setattr(os, "setxattr", refuse)
    assert trusted_xattrs() is expected
