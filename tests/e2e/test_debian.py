"""Package managers in a chroot on the mount: apt installs into a base in a lower, dpkg upgrades there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from . import debian
from .conftest import performance
from .people import Kind
from .stage import Stage, Tree

NEEDS = ("mmdebstrap", "dpkg-deb", "root")

SOUND = """apt-get check -qq; test -z "$(dpkg --audit)"
test -z "$(dpkg --verify | grep -Ev ' /usr/share/(doc|locale)')"
"""
THING_1: Tree = {
    "opt": {
        "thing": {
            "data": {f"f{n}": f"one {n}\n" for n in range(20)},
            "kept": {"deep": {"file": "one\n"}},
            "gone": {"file": "one\n"},
            "swap": "a file, later a directory\n",
        }
    },
    "etc": {"thing.conf": "one\n"},
}
THING_2: Tree = {
    "opt": {
        "thing": {
            "data": Path("/opt/thing/data.new"),
            "data.new": {f"f{n}": f"two {n}\n" for n in range(10)},
            "swap": {"file": "two\n"},
            "added": {"file": "two\n"},
        }
    },
    "etc": {"thing.conf": "two\n"},
}
# data becomes a symlink in the way Debian's policy has it: the directory is renamed aside and later removed.
HELPER = 'dpkg-maintscript-helper dir_to_symlink /opt/thing/data /opt/thing/data.new 2.0 thing -- "$@"'
PREINST = f'#!/bin/sh -e\n{HELPER}\nif [ "$1" = upgrade ]; then mv /opt/thing/kept /opt/thing/kept.moved; fi\n'


@pytest.fixture(params=[Kind.ROOT, Kind.USERNS], ids=lambda kind: kind.value)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A chroot needs root, if only in a user namespace."""
    with performance(request.param) as stage:
        yield stage


def test_packages_installed_by_apt_stay_over_a_remount_and_can_be_removed(stage: Stage) -> None:
    union = debian.mount(stage)
    install = f"apt-get install -qq -y --no-install-recommends {' '.join(debian.INSTALLED)}"
    debian.chroot(stage, union, f"{install}; {SOUND} file -b /usr/bin/less | grep -q ELF")
    stage.remount(union)
    debian.chroot(stage, union, f"{SOUND} less --version; apt-get purge -qq -y less; test ! -e /usr/bin/less")
    stage.remount(union)
    debian.chroot(stage, union, f"{SOUND} test ! -e /usr/bin/less; apt-get autoremove -qq -y --purge file; {SOUND}")
    assert stage.sh("find . -name 'libmagic*.so*' -o -name 'magic.mgc'", cwd=union.merged) == ""
    assert not (union.lowers[0] / "usr/bin/less").exists()


def package(stage: Stage, name: str, tree: Tree, control: Tree) -> Path:
    """Build a .deb from literals."""
    folder = stage.layer(name, {**tree, "DEBIAN": control})
    stage.run("dpkg-deb", "--root-owner-group", "-Zgzip", "-b", folder, f"{folder}.deb")
    return folder.with_suffix(".deb")


def things(stage: Stage) -> tuple[Path, Path]:
    fields = "Package: thing\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: a thing\nVersion: "
    scripts = dict.fromkeys(("postinst", "postrm"), f"#!/bin/sh -e\n{HELPER}\n")
    one = package(stage, "one", THING_1, {"control": f"{fields}1.0\n", "conffiles": "/etc/thing.conf\n"})
    control = {"control": f"{fields}2.0\n", "conffiles": "/etc/thing.conf\n", "preinst": PREINST, **scripts}
    return one, package(stage, "two", THING_2, control)


def test_package_in_a_lower_is_upgraded_though_its_directories_are_renamed(stage: Stage) -> None:
    one, two = things(stage)
    below = debian.mount(stage)
    stage.run("cp", one, two, below.merged / "root")
    debian.chroot(stage, below, f"dpkg -i /root/{one.name}; {SOUND}")
    stage.detach(below)
    assert below.upper
    union = stage.mount(below.upper, *below.lowers, name="upgrade")
    debian.chroot(stage, union, f"dpkg -i /root/{two.name}; {SOUND}")
    stage.remount(union)
    debian.chroot(
        stage,
        union,
        f"""
        {SOUND}
        test "$(readlink /opt/thing/data)" = /opt/thing/data.new; test "$(cat /opt/thing/data/f3)" = "two 3"
        test ! -e /opt/thing/data/f15; test "$(cat /opt/thing/kept.moved/deep/file)" = one; test ! -e /opt/thing/kept
        test ! -e /opt/thing/gone; test "$(cat /opt/thing/swap/file)" = two; test "$(cat /etc/thing.conf)" = two
        rm -r /opt/thing/kept.moved; dpkg --purge thing; test ! -e /opt/thing; test ! -e /etc/thing.conf; {SOUND}
        """,
    )
    stage.remount(union)
    assert stage.sh("find . -xdev -name 'thing*' -not -path './var/*'", cwd=union.merged) == ""
