"""A stack as a mount in kernel overlayfs's words, and back."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerfs.errors import InvalidArgument
from layerfs.model import Mount, Stack
from layerfs.spec.overlay import bind_mount, kernel_options, overlay_mount, parse_mount_options, print_options, stack_of
from layerfs.sys.mounts import MountFlag
from layerfs.union.options import UnionOptions
from tests.spec.test_printing import PATH

STACK = st.builds(
    lambda lowers, upper: Stack(tuple(lowers), *(upper or (None, None))),
    st.lists(PATH, min_size=1, max_size=4),
    st.none() | st.tuples(PATH, PATH),
)
WORDS = ("xino=auto", "redirect_dir=on", "volatile")


@settings(max_examples=300)
@given(STACK, st.lists(st.sampled_from(WORDS), unique=True).map(tuple))
def test_every_stack_survives_being_a_mount(stack: Stack, words: tuple[str, ...]) -> None:
    mount = overlay_mount(stack, words)
    assert stack_of(mount) == (stack, words if stack.upper is not None else (*words, "ro"))


@settings(max_examples=300)
@given(STACK)
def test_options_survive_being_joined_by_commas(stack: Stack) -> None:
    mount = overlay_mount(stack, WORDS, MountFlag.NOSUID)
    assert parse_mount_options(print_options(mount)) == mount.options


def test_a_mount_is_said_in_containerds_words() -> None:
    assert overlay_mount(Stack((b"/a", b"/b:c"), b"/u,p", b"/w"), ("index=off",), MountFlag.NODEV) == Mount(
        "overlay", "overlay", (r"lowerdir=/a:/b\:c", r"upperdir=/u\,p", "workdir=/w", "index=off", "nodev")
    )
    assert bind_mount(b"/a", read_only=True) == Mount("bind", "/a", ("rbind", "ro"))
    assert bind_mount(b"/\xff", read_only=False) == Mount("bind", os.fsdecode(b"/\xff"), ("rbind", "rw"))


@pytest.mark.parametrize(("index", "said"), [(True, ["index=on"]), (False, ["index=off"]), (None, [])])
def test_an_index_is_the_kernels_to_make(index: bool | None, said: list[str]) -> None:
    """`index=on` was refused."""
    words = kernel_options(UnionOptions(index=index), writable=True, trusted=True)
    assert [word for word in words if "index" in word] == said
    words = kernel_options(UnionOptions(index=index), writable=False, trusted=True)
    assert not [word for word in words if "index" in word]  # an overlay without an upper takes none


def test_lowers_may_come_one_by_one() -> None:
    mount = Mount("overlay", "x", ("lowerdir=/a", r"lowerdir+=/b:c\\d", "lowerdir+=/e"))
    assert stack_of(mount)[0] == Stack((b"/a", rb"/b:c\d", b"/e"))


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (Mount("tmpfs", "tmpfs"), "of type tmpfs is no stack"),
        (Mount("overlay", "overlay", ("ro",)), "names no lowerdir"),
        (Mount("overlay", "overlay", ("lowerdir=::",)), "names no lowerdir"),
        (Mount("overlay", "overlay", ("lowerdir=/a", "upperdir=/u")), "upperdir and workdir together"),
        (Mount("overlay", "overlay", ("lowerdir=/a", "upperdir=/u", "workdir=")), "upperdir and workdir together"),
    ],
)
def test_half_a_stack_is_refused(mount: Mount, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        stack_of(mount)
