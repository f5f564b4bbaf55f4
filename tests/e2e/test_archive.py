"""tar, rsync and cp carry every kind of file and attribute onto a mount and off it again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .manifest import Facts
from .people import Kind
from .stage import Stage, Union, differences

NEEDS = ("tar", "rsync", "setfacl", "setfattr", "setcap")

EVERYTHING = r"""
mkdir -p tree/sub/deep tree/empty tree/default && cd tree
printf 'text\n' > plain && printf '#!/bin/sh\n' > script && chmod 4755 script && chmod 2770 sub && chmod 1777 empty
printf 'a' > linked && ln linked sub/linked && ln linked sub/deep/linked
truncate -s 8M sparse && printf 'end' | dd of=sparse bs=1 seek=5000000 conv=notrunc status=none
ln -s ../plain sub/link && ln -s /nowhere dangling && mkfifo pipe
setfattr -n user.colour -v blue plain && setfattr -n user.empty sub
setfattr -n user.long -v "$(seq -s, 1 400)" sparse
setfacl -m u:1234:r,g:2345:rw plain && setfacl -d -m u:1234:rwx,g::r default
printf 'x' > "$(printf 'new\nline')" && printf 'y' > "$(printf 'bad\377utf8')"
printf 'z' > "$(seq -s '' 1 200 | head -c 255)"
touch -d 1944-06-06T06:30:00.123456789Z plain && touch -d 2200-01-01T00:00:00.987654321Z script
touch -h -d 2001-02-03T04:05:06.700000001Z sub/link && touch -d 1970-01-01T00:00:00Z empty
"""
AS_ROOT = """
cd tree && mknod null c 1 3 && mknod disk b 7 200 && chown 12:34 plain pipe && chown -h 56:78 dangling
setfattr -n trusted.mark -v yes sub && cp /bin/true capable && setcap cap_net_raw+ep capable
"""
WAYS = {
    "tar": "mkdir '{to}' && tar -C '{source}' --xattrs --xattrs-include='*' --acls --hole-detection=raw -S -cf - tree"
    " | tar -C '{to}' --xattrs --xattrs-include='*' --acls -S -xpf -",
    "rsync": "mkdir '{to}' && rsync -aHAXS --modify-window=-1 '{source}/tree' '{to}/'",
    "cp": "mkdir '{to}' && cp -a --sparse=always '{source}/tree' '{to}/'",
}


@pytest.fixture
def union(stage: Stage) -> Iterator[Union]:
    """A lower with one of everything, mounted."""
    lower = stage.layer("lower", {})
    stage.sh(EVERYTHING + (f"cd .. && {AS_ROOT}" if stage.kind is Kind.ROOT else ""), cwd=lower)
    yield stage.mount(lower)


def original(stage: Stage, union: Union) -> dict[str, Facts]:
    return stage.look(union.lowers[0] / "tree")


def test_lower_tree_looks_through_the_mount_as_it_is(stage: Stage, union: Union) -> None:
    assert differences(stage.look(union.merged / "tree"), original(stage, union)) == {}


@pytest.mark.parametrize("way", WAYS)
def test_tree_carried_off_the_mount_is_the_same(stage: Stage, union: Union, way: str) -> None:
    stage.sh(WAYS[way].format(source=union.merged, to=stage.root / "out"))
    assert differences(stage.look(stage.root / "out/tree"), original(stage, union)) == {}


@pytest.mark.parametrize("way", WAYS)
def test_tree_carried_onto_the_mount_is_the_same_and_is_so_after_a_remount(
    stage: Stage, union: Union, way: str
) -> None:
    target = union.merged / "in"
    stage.sh(WAYS[way].format(source=union.lowers[0], to=target))
    assert differences(stage.look(target / "tree"), original(stage, union)) == {}
    stage.remount(union)
    assert differences(stage.look(target / "tree"), original(stage, union)) == {}


def test_rsync_over_a_lower_tree_changes_nothing_and_deletes_what_is_extra(stage: Stage, union: Union) -> None:
    before = original(stage, union)
    reference: Path = stage.root / "reference"
    stage.run("cp", "-a", union.lowers[0] / "tree", reference)
    stage.sh(
        """
        cd tree && rm -r sub && mkdir sub && echo new > sub/new && echo changed > plain && rm pipe && mv script renamed
        touch -d 2000-01-01 'sparse'
        """,
        cwd=union.merged,
    )
    rsync = ("rsync", "-aHAXS", "--modify-window=-1", "--delete", f"{reference}/", union.merged / "tree")
    stage.run(*rsync)
    assert stage.run(*rsync, "--dry-run", "--itemize-changes", "--checksum") == ""
    assert differences(stage.look(union.merged / "tree"), before) == {}
    assert differences(original(stage, union), before) == {}
