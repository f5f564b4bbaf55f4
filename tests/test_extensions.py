"""The extension is built of every file of C that is here, and Python sees what the headers say."""

import tomllib

from layerfs.pysquashfs._squashfs import lib
from layerfs.pysquashfs.build import HEADERS, ROOM, builder
from tests.host import PROJECT


def test_every_file_of_c_is_built_and_every_header_looked_at() -> None:
    (extension,) = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    here = {str(path.relative_to(PROJECT)) for path in (PROJECT / ROOM).glob("*.[ch]")}
    assert {*extension["sources"], *extension["depends"]} == here


def test_what_the_headers_declare_is_there() -> None:
    ffi = builder(PROJECT)
    declared = [word for header in HEADERS for word in (PROJECT / ROOM / header).read_text().split() if "(" in word]
    names = {word.partition("(")[0].lstrip("*") for word in declared if word.startswith(("squash_", "sw_", "*squash_"))}
    assert len(names) > 30
    assert {name for name in names if not hasattr(lib, name)} == set()
    assert ffi.sizeof("squash_blocks") > 14336
