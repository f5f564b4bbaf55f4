"""Names of images."""

import pytest

from layerfs.errors import InvalidArgument
from layerfs.oci.reference import Reference, parse_reference

D = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag"),
    [
        ("a", "", "a", "latest"), ("a/b:c", "", "a/b", "c"), ("localhost/a", "localhost", "a", "latest"),
        ("h.x/a/b:T_1.2-3", "h.x", "a/b", "T_1.2-3"), ("h:5/a", "h:5", "a", "latest"), ("[::1]:5/a", "[::1]:5", "a",
        "latest"),
        (f"h.x/a@{D}", "h.x", "a", ""), (f"h.x/a:b@{D}", "h.x", "a", "b"), ("a__b/c--d", "", "a__b/c--d", "latest"),
    ],
)  # fmt: skip
def test_name_is_taken_apart(text: str, host: str, repository: str, tag: str) -> None:
    digest = D if "@" in text else None
    assert parse_reference(text) == Reference(host, repository, tag, digest)  # type: ignore[arg-type]
    assert parse_reference(str(parse_reference(text))).repository == repository


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "a//b",
        "/a",
        "a/",
        "a:",
        "a:-x",
        "a@sha256:1",
        "a b",
        "a:b/c",
        "../a",
        "h.x/../a",
        "a\n",
        "H/A",
        "a" * 600,
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_reference(text)
