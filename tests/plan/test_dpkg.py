"""The packages of a root filesystem that a test wrote."""

import gzip
import os
from pathlib import Path

import pytest

from layerfs.errors import NotFound
from layerfs.plan.dpkg import YEARS, rate
from layerfs.plan.graph import PROBABILITY, Graph
from layerfs.plan.sources import SourceSpec
from layerfs.plan.tree import UNOWNED
from tests.plan.scenes import opened_source

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


def graph_of(root: Path) -> Graph:
    with opened_source(SourceSpec("dpkg", str(root))) as source:
        return source.graph


def owners_of(root: Path) -> dict[bytes, str]:
    with opened_source(SourceSpec("dpkg", str(root))) as source:
        return dict(source.tree.owners) if source.tree else {}


def trailers(*dates: str) -> bytes:
    return gzip.compress("".join(f" -- A <a@b>  Mon, {date} 10:00:00 +0000\n" for date in dates).encode())


@pytest.fixture
def root(scratch: Path) -> Path:
    root = scratch / "root"
    (root / "var/lib/dpkg/info").mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text(STATUS)
    (root / "var/lib/dpkg/info/app.list").write_text("/.\n/usr\n/usr/app\n/usr/common\n")
    (root / "var/lib/dpkg/info/libc6.list").write_text("/.\n/usr\n/usr/common\n/usr/libc\n")
    for path, size in {"usr/app": 5, "usr/common": 7}.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(b"0" * size)
    for package in ("app", "libc6"):
        (root / "usr/share/doc" / package).mkdir(parents=True)
    (root / "usr/share/doc/app/changelog.Debian.gz").write_bytes(trailers("2 Mar 2024", "1 Mar 2024", "1 Jan 2024"))
    return root


def test_packages_are_modules_with_sources_and_dependencies(root: Path) -> None:
    found = {m.name: (m.files, m.version, m.depends, m.source) for m in graph_of(root).modules}
    assert found == {
        "app": (2, "1", ("libc6", "postfix"), "suite"),
        "libc6": (0, "2", ("libgcc",), "libc6"),
        "libgcc": (0, "", ("libc6",), "libgcc"),
        "postfix": (0, "", (), "suite"),
        UNOWNED: (4, "", (), ""),
    }


def test_sizes_are_those_of_files_that_are_there_and_what_several_list_counts_once(root: Path) -> None:
    sizes = {m.name: m.size for m in graph_of(root).modules}
    assert sizes["app"] == 5 + 7
    assert owners_of(root)[b"usr/common"] == "app"
    assert owners_of(root)[b"var/lib/dpkg/info/app.list"] == UNOWNED  # its time is that of the installation
    assert sizes["libc6"] == 102400  # what the status says


def test_lists_are_followed_along_links_and_diversions(root: Path) -> None:
    info = root / "var/lib/dpkg/info"
    (root / "usr/lib/__pycache__").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    for name in (
        "lib/one.py",
        "lib/sh",
        "lib/sh.distrib",
        "lib/__pycache__/one.cpython-311.pyc",
        "lib/__pycache__/x.pyc",
    ):
        (root / "usr" / name).write_text("")
    (info / "app.list").write_text("/.\n/lib\n/lib/one.py\n/lib/sh\n/../../etc/passwd\n")
    (info / "libc6.list").write_text("/lib/sh\n")
    (root / "var/lib/dpkg/diversions").write_text("/lib/sh\n/lib/sh.distrib\nlibc6\n")
    owners = owners_of(root)
    assert (owners[b"usr/lib/one.py"], owners[b"usr/lib/__pycache__/one.cpython-311.pyc"]) == ("app", UNOWNED)
    assert (owners[b"usr/lib/sh.distrib"], owners[b"usr/lib/sh"]) == ("app", "libc6")


def test_changelogs_say_how_often_a_source_changes(root: Path) -> None:
    chances = {module.name: module.chance for module in graph_of(root).modules}
    assert chances["app"] == chances["postfix"] == rate({2024 * 12, 2024 * 12 + 2}, 2024 * 12 + 2)
    assert chances["libc6"] == PROBABILITY


def test_what_changed_lately_is_likelier_to_change() -> None:
    now = 2024 * 12
    assert rate({now, now - 1}, now) > rate({now - 20, now - 21}, now) > rate(set(), now) > 0
    assert rate({now - 12 * YEARS - 1, now + 1}, now) == rate(set(), now)
    assert rate(range(now - 100, now + 1), now) < 1


def test_links_and_damage_in_a_root_lead_nowhere(root: Path, scratch: Path) -> None:
    (scratch / "outside.gz").write_bytes(trailers("1 Mar 2024"))
    (root / "usr/share/doc/libc6/changelog.Debian.gz").symlink_to(scratch / "outside.gz")
    (root / "usr/share/doc/libgcc").symlink_to(scratch)
    (root / "usr/share/doc/app/changelog.Debian.gz").write_bytes(b"\x1f\x8b no gzip")
    (root / "var/lib/dpkg/info/app.list").unlink()
    os.mkfifo(root / "var/lib/dpkg/info/app.list")
    modules = [module for module in graph_of(root).modules if module.name != UNOWNED]
    assert {module.chance for module in modules} == {PROBABILITY}
    assert modules[0].files == 0


def test_the_same_package_of_two_architectures_is_two_modules(root: Path) -> None:
    twin = "\nPackage: libc6\nStatus: install ok installed\nArchitecture: i386\n"
    (root / "var/lib/dpkg/status").write_text(STATUS.replace("Version: 2", "Version: 2\nArchitecture: amd64") + twin)
    names = [module.name for module in graph_of(root).modules]
    assert names == [UNOWNED, "app", "libc6:amd64", "libc6:i386", "libgcc", "postfix"]


def test_a_tree_without_dpkg_is_refused(scratch: Path) -> None:
    with pytest.raises(NotFound, match="has no dpkg database"):
        graph_of(scratch)
