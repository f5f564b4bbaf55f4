"""The extensions are built of every file of C that is in their packages, and Python sees what the headers say."""

import re
from importlib import import_module
from typing import Any

import pytest

from layerfs.extensions import HEADERS, builder, room_of, settings
from tests.host import PROJECT

EXTENSIONS = settings(PROJECT)


def test_every_extension_has_its_headers() -> None:
    assert {extension["name"] for extension in EXTENSIONS} == set(HEADERS)


@pytest.mark.parametrize("extension", EXTENSIONS, ids=lambda extension: extension["name"])
def test_every_file_of_c_is_built_and_every_header_looked_at(extension: dict[str, Any]) -> None:
    room = PROJECT / room_of(extension["name"])
    here = {str(path.relative_to(PROJECT)) for path in room.glob("*.[ch]")}
    assert {*extension["sources"], *extension["depends"]} == here


@pytest.mark.parametrize("module", HEADERS)
def test_what_the_headers_declare_is_there(module: str) -> None:
    lib = import_module(module).lib
    text = "".join((PROJECT / room_of(module) / header).read_text() for header in HEADERS[module])
    names = set(re.findall(r"\b(?:squash|sw|lane)_\w+(?=\()", text))
    assert len(names) > 15
    assert {name for name in names if not hasattr(lib, name)} == set()


def test_sizes_are_those_of_the_headers() -> None:
    assert builder(PROJECT, "layerfs.pysquashfs._squashfs").sizeof("squash_blocks") > 14336
