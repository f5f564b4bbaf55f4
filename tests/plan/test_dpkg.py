"""The packages of a root filesystem that a test wrote."""

import gzip
import os
from pathlib import Path

import pytest

from layerfs.errors import NotFound
from layerfs.plan.dpkg import YEARS, read_dpkg
from layerfs.plan.graph import PROBABILITY

STATUS = """\
Package: app
Status: install ok installed
Installed-Size: 10
Version: 1
Source: suite (1.0)
Depends: libc6 (>= 2), mail-agent | nothing, gone

Package: libc6
Status: install ok installed
Installed-Size: 100
Version: 2
Depends: libgcc

Package: libgcc
Status: install ok installed
Pre-Depends: libc6

Package: postfix
Status: install ok installed
Provides: mail-agent (= 1)
Source: suite

Package: removed
Status: deinstall ok config-files
"""


def trailers(*dates: str) -> bytes:
    return gzip.compress("".join(f" -- A <a@b>  Mon, {date} 10:00:00 +0000\n" for date in dates).encode())


@pytest.fixture
def root(scratch: Path) -> Path:
    root = scratch / "root"
    (root / "var/lib/dpkg/info").mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text(STATUS)
    (root / "var/lib/dpkg/info/app.list").write_text("/.\n/usr\n/usr/app\n/usr/common\n")
    (root / "var/lib/dpkg/info/libc6.list").write_text("/.\n/usr\n/usr/common\n/usr/libc\n")
    for package in ("app", "libc6"):
        (root / "usr/share/doc" / package).mkdir(parents=True)
    (root / "usr/share/doc/app/changelog.Debian.gz").write_bytes(trailers("2 Mar 2024", "1 Mar 2024", "1 Jan 2024"))
    return root


def test_packages_are_modules_with_sources_and_dependencies(root: Path) -> None:
    graph = read_dpkg(os.fsencode(root))
    found = {m.name: (m.size, m.version, m.files, m.depends, m.source) for m in graph.modules}
    assert found == {
        "app": (10240, "1", 2, ("libc6", "postfix"), "suite"),
        "libc6": (102400, "2", 1, ("libgcc",), "libc6"),
        "libgcc": (0, "", 0, ("libc6",), "libgcc"),
        "postfix": (0, "", 0, (), "suite"),
    }


def test_changelogs_say_how_often_a_source_changes(root: Path) -> None:
    chances = {module.name: module.chance for module in read_dpkg(os.fsencode(root)).modules}
    assert chances["app"] == chances["postfix"] == 2.5 / (12 * YEARS + 1)
    assert chances["libc6"] == PROBABILITY


def test_links_and_damage_in_a_root_lead_nowhere(root: Path, scratch: Path) -> None:
    (scratch / "outside.gz").write_bytes(trailers("1 Mar 2024"))
    (root / "usr/share/doc/libc6/changelog.Debian.gz").symlink_to(scratch / "outside.gz")
    (root / "usr/share/doc/libgcc").symlink_to(scratch)
    (root / "usr/share/doc/app/changelog.Debian.gz").write_bytes(b"\x1f\x8b no gzip")
    (root / "var/lib/dpkg/info/app.list").unlink()
    os.mkfifo(root / "var/lib/dpkg/info/app.list")
    modules = read_dpkg(os.fsencode(root)).modules
    assert {module.chance for module in modules} == {PROBABILITY}
    assert modules[0].files == 0


def test_the_same_package_of_two_architectures_is_two_modules(root: Path) -> None:
    twin = "\nPackage: libc6\nStatus: install ok installed\nArchitecture: i386\n"
    (root / "var/lib/dpkg/status").write_text(STATUS.replace("Version: 2", "Version: 2\nArchitecture: amd64") + twin)
    names = [module.name for module in read_dpkg(os.fsencode(root)).modules]
    assert names == ["app", "libc6:amd64", "libc6:i386", "libgcc", "postfix"]


def test_a_tree_without_dpkg_is_refused(scratch: Path) -> None:
    with pytest.raises(NotFound, match="has no dpkg database"):
        read_dpkg(os.fsencode(scratch))
