"""containerd's filter language: what matches, what is refused, and what the ledger is asked."""

import pytest

from layerfs.errors import InvalidArgument
from layerfs.snapshots.filters import LONGEST, MOST, parse_all
from layerfs.store.info import Info, SnapshotKind
from layerfs.store.rows import Where

INFO = Info(
    "default/1/a b", SnapshotKind.ACTIVE, "base", {"containerd.io/gc.root": "2024", "plain": "v1", "q": 'a"b,c'}
)

MATCHES = [
    (),
    ("",),
    ("name",),
    ('name=="default/1/a b"',),
    (' name == "default/1/a b"',),
    ("name!=other",),
    ("kind==active",),
    ("parent==base,kind==active",),
    ("parent==other", "kind==active"),
    ('labels."containerd.io/gc.root"',),
    ('labels."containerd.io/gc.root"==2024',),
    ("labels.plain~=^v[0-9]$",),
    ("labels.plain~=/^v[0-9]$/",),
    ("labels.plain~=|^v1|",),
    ("name~=a.b",),
    ("labels.absent!=x",),
    ("labels.absent~=^$",),
    ('labels.q=="a\\"b,c"',),
    ('labels.plain=="\\x76\\u0031"',),
    ('labels.plain=="\\1661"',),
    ("what!=x",),
]
DIFFERS = [
    ("name==other",),
    ("kind==committed",),
    ("parent==base,kind==view",),
    ("labels.absent",),
    ('labels.absent==""',),
    ('labels.absent!=""',),
    ("labels.plain~=^x",),
    ("what",),
    ("name==a", "name==b"),
]
REFUSED = [
    "name=",
    "name=x",
    "name===x",
    "name==",
    "name==x y",
    "name==/x/",
    "name==,",
    ",name",
    "name,",
    "name==.x",
    'name=="x',
    'name=="\\q"',
    'name=="\\777"',
    'name=="\\ud800"',
    "labels.",
    "labels./x/",
    "na me",
    "name~=[",
    "name~=(?=x)",
    "name\0==x",
    "name==" + "x" * LONGEST,
]


@pytest.mark.parametrize("texts", MATCHES)
def test_filter_matches(texts: tuple[str, ...]) -> None:
    assert parse_all(texts).matches(INFO)


@pytest.mark.parametrize("texts", DIFFERS)
def test_filter_does_not_match(texts: tuple[str, ...]) -> None:
    assert not parse_all(texts).matches(INFO)


@pytest.mark.parametrize("text", REFUSED, ids=[text[:20] for text in REFUSED])
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_all([text])


def test_number_of_filters_is_bounded() -> None:
    with pytest.raises(InvalidArgument):
        parse_all(["name"] * (MOST + 1))


def test_ledger_is_asked_for_what_one_filter_says_to_be_equal() -> None:
    text = 'name==x,parent==y,kind==committed,labels."a.b"==c,labels.d.e==f,labels.g'
    assert parse_all([text]).where() == Where("x", "y", SnapshotKind.COMMITTED, (("a.b", "c"), ("d.e", "f")))
    assert parse_all(["name==x", "name==y"]).where() == Where()
    assert parse_all(['parent==""']).where() == Where()
