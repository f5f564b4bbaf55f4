"""Distributions of a Python environment that a test wrote."""

import os
from pathlib import Path

import pytest

from layerfs.errors import NotFound
from layerfs.plan.python import INTERPRETER
from layerfs.plan.sources import SourceSpec
from layerfs.plan.tree import UNOWNED
from tests.plan.scenes import opened_source

SITE = "lib/python3.11/site-packages"


def dist(prefix: Path, name: str, version: str, files: list[str], *requires: str) -> None:
    info = prefix / SITE / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    needs = "".join(f"Requires-Dist: {text}\n" for text in requires)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}\nRequires-Dist: body\n"
    )
    (info / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in [*files, f"{info.name}/METADATA"]))
    for file in files:
        path = prefix / SITE / file
        if path.resolve().is_relative_to(prefix):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)


@pytest.fixture
def prefix(scratch: Path) -> Path:
    prefix = scratch / "env"
    dist(
        prefix,
        "App_One",
        "2",
        ["app.py", "../../../bin/app", "shared.py"],
        'Lib.Two (>=1); python_version > "3"',
        "gone",
    )
    dist(prefix, "lib-two", "1", ["two/__init__.py", "shared.py"], 'App_One; extra == "x"', 'other; os_name == "nt"')
    dist(prefix, "other", "0", ["../../../../outside", "/etc/passwd", '"a,b"'])
    (prefix / "bin/python3").write_text("python")
    return prefix


def test_distributions_own_what_record_names_and_markers_count(prefix: Path) -> None:
    with opened_source(SourceSpec("python", str(prefix))) as source:
        found = {m.name: (m.version, m.depends, m.rebuilds) for m in source.graph.modules}
        owners = source.tree.owners if source.tree else {}
    assert found == {
        "app-one": ("2", ("lib-two",), False),
        "lib-two": ("1", (), False),
        "other": ("0", (), False),
        INTERPRETER: ("", (), False),
        UNOWNED: ("", (), False),
    }
    site = os.fsencode(SITE)
    assert owners[b"bin/app"] == owners[site + b"/shared.py"] == "app-one"
    assert owners[site + b"/two/__init__.py"] == owners[site + b"/lib-two-1.dist-info/RECORD"] == "lib-two"
    assert owners[b"bin/python3"] == INTERPRETER
    assert not [path for path in owners if b"passwd" in path or b"outside" in path]


def test_a_prefix_without_distributions_is_refused(scratch: Path) -> None:
    with (
        pytest.raises(NotFound, match="has no Python distributions"),
        opened_source(SourceSpec("python", str(scratch))),
    ):
        pass
