"""Options survive being printed and parsed, whatever their values are."""

from hypothesis import given, settings
from hypothesis import strategies as st

from layerfs.model import Driver, Stack
from layerfs.spec.attach import AttachOptions
from layerfs.spec.options import MountOptions, MountRequest, parse, request
from layerfs.spec.printing import _ATTACH, _UNION, options_of, print_options
from layerfs.spec.values import MAX_ID, MAX_SECONDS
from layerfs.sys.mounts import MountFlag
from layerfs.union.options import IdRange, OverrideStat, RedirectDir, UnionOptions
from layerfs.value import fields_of

# Bytes that mean something to a parser, more often than the rest.
PATHS = st.lists(st.sampled_from([b"\\", b",", b":", b'"', b'="', b"=", b" ", b"\n", b"a", b"/", b"\xff"]), min_size=1)
PATH = st.one_of(PATHS.map(b"".join), st.binary(min_size=1)).map(lambda path: path.replace(b"\0", b"0"))
ID = st.integers(0, MAX_ID)
RANGES = st.lists(st.builds(IdRange, ID, ID, st.integers(1, MAX_ID)), max_size=3).map(tuple)
UNION = st.builds(
    UnionOptions,
    uid_map=RANGES,
    gid_map=RANGES,
    squash_uid=st.none() | ID,
    squash_gid=st.none() | ID,
    override_stat=st.sampled_from(OverrideStat),
    static_nlink=st.booleans(),
    acl=st.booleans(),
    volatile=st.booleans(),
    fsync=st.booleans(),
    xino=st.booleans(),
    redirect_dir=st.sampled_from(RedirectDir),
    metacopy=st.booleans(),
    index=st.sampled_from((None, True, False)),
    userxattr=st.booleans(),
    timeout=st.floats(0, MAX_SECONDS),
    writeback=st.booleans(),
)
# Flags of a mount itself; the others are asked for in other ways.
FLAGS = [
    MountFlag.RDONLY, MountFlag.NOSUID, MountFlag.NODEV, MountFlag.NOEXEC, MountFlag.SYNCHRONOUS, MountFlag.DIRSYNC,
    MountFlag.NOATIME, MountFlag.NODIRATIME, MountFlag.RELATIME, MountFlag.STRICTATIME, MountFlag.LAZYTIME,
    MountFlag.NOSYMFOLLOW,
]  # fmt: skip
ATTACH = st.builds(
    AttachOptions,
    flags=st.lists(st.sampled_from(FLAGS)).map(lambda flags: MountFlag(sum(set(flags)))),
    source=PATH,
    subtype=PATH,
    allow_other=st.sampled_from([None, True, False]),
    max_read=st.just(0) | st.integers(4096, 2**31 - 1),
    unchecked=st.booleans(),
    lane=st.booleans(),
)
OPTIONS = st.builds(
    MountOptions,
    lowers=st.lists(PATH, max_size=4).map(tuple),
    upper=st.none() | PATH,
    work=st.none() | PATH,
    union=UNION,
    attach=ATTACH,
    driver=st.none() | st.sampled_from(Driver),
    debug=st.booleans(),
    offset=st.integers(0, 2**63 - 1),
    ignored=st.lists(st.sampled_from([b"nofail", rb"x-a\,b", b'context="a,b"']), max_size=2).map(tuple),
)


@settings(max_examples=400)
@given(OPTIONS)
def test_every_value_survives_being_printed_and_parsed(options: MountOptions) -> None:
    assert parse([print_options(options)]) == options


def test_every_field_has_its_words() -> None:
    assert set(_UNION) == set(fields_of(UnionOptions()))
    assert set(_ATTACH) == set(fields_of(AttachOptions())) - {"flags"}


def test_defaults_say_nothing() -> None:
    assert print_options(MountOptions()) == b""


def test_a_decided_mount_is_asked_for_again_by_its_options() -> None:
    wanted = MountRequest(
        Stack((b"/a,b", b"/c:d"), b"/u", b"/w"),
        b"/m",
        UnionOptions(timeout=1.5),
        AttachOptions(MountFlag.NOSUID),
        Driver.FUSE,
        "asked for by -o driver=fuse",
    )
    assert request(parse([print_options(options_of(wanted))]), b"/m", b"/") == wanted
