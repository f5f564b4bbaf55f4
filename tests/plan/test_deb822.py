"""Control files and changelogs of Debian."""

from layerfs.plan.deb822 import months, paragraphs, relations


def test_paragraphs_have_fields_with_their_lines() -> None:
    found = list(paragraphs("A: 1\nB: 2\n more\n\n\nA: 3\nnonsense\n"))
    assert found == [{"A": "1", "B": "2\n more"}, {"A": "3"}]


def test_relations_lose_versions_and_architectures() -> None:
    assert relations("libc6 (>= 2.34), a:any | b [amd64], , (x)") == [["libc6"], ["a", "b"]]


def test_months_are_those_of_the_trailers() -> None:
    text = " -- A B <a@b.c>  Tue, 26 Feb 2002 13:25:26 +1100\n -- A <a@b>  Wed, 3 Mar 2004 1:1:1 +0\n -- x 1 Jan 2001\n"
    assert months(text) == [2002 * 12 + 1, 2004 * 12 + 2]
    assert months(" -- A <a@b>  Tue, 26 Foo 2002 13:25:26 +1100\n -- A <a@b>  26 Feb 9999 1:1:1") == []
