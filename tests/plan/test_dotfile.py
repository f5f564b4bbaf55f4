"""Build graphs as bazel prints them."""

from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument
from layerfs.plan.graph import Module
from layerfs.plan.sources import SourceSpec
from layerfs.plan.tree import UNOWNED
from tests.plan.scenes import opened_source

PRINTED = r"""digraph mygraph {
  node [shape=box];
  "//app:main"
  "//app:main" -> "//lib:one\n//lib:two"
  "//lib:one\n//lib:two"
  "//lib:one\n//lib:two" -> "@zlib//:z"
  "@zlib//:z"
}
"""


def read(scratch: Path, text: str) -> list[Module]:
    (scratch / "graph.dot").write_text(text)
    (scratch / "out").mkdir(exist_ok=True)
    with opened_source(SourceSpec("dot", str(scratch / "graph.dot"), sizes=str(scratch / "out"))) as source:
        return [module for module in source.graph.modules if module.name != UNOWNED]


def test_nodes_with_several_labels_are_several_modules(scratch: Path) -> None:
    assert {module.name: module.depends for module in read(scratch, PRINTED)} == {
        "//app:main": ("//lib:one", "//lib:two"),
        "//lib:one": ("@zlib//:z",),
        "//lib:two": ("@zlib//:z",),
        "@zlib//:z": (),
    }


def test_sizes_are_those_of_the_outputs_and_no_symlink_is_followed(scratch: Path) -> None:
    for path, size in {"app/main": 10, "lib/one/x": 3, "lib/one/deep/y": 4, "external/zlib/z": 5}.items():
        (scratch / "out" / path).parent.mkdir(parents=True, exist_ok=True)
        (scratch / "out" / path).write_bytes(b"0" * size)
    (scratch / "big").write_bytes(b"0" * 1000)
    (scratch / "out/lib/two").symlink_to(scratch / "big")
    (scratch / "out/lib/one/link").symlink_to("..")
    found = {module.name: (module.size, module.files) for module in read(scratch, PRINTED)}
    assert found == {"//app:main": (10, 1), "//lib:one": (7, 3), "//lib:two": (0, 1), "@zlib//:z": (5, 1)}


def test_a_label_leads_nowhere_else(scratch: Path) -> None:
    (scratch / "secret").write_text("secret")
    assert read(scratch, 'digraph {\n"//..:secret"\n}')[0].size == 0


@pytest.mark.parametrize(
    ("line", "said"), [('"a" -- "b"', "line 2 of .* is not understood"), (r'"a\n...and 5 more items"', "is cut")]
)
def test_other_lines_are_refused(scratch: Path, line: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        read(scratch, f"digraph {{\n{line}\n}}")
