"""Odd layers through each way into a store and out of it: what they mean is the same everywhere."""

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerfs.errors import LayerfsError
from layerfs.mounts.apply import mounted
from layerfs.oci.below import UnionBelow
from layerfs.oci.commit import difference_of
from layerfs.oci.copying import copy
from layerfs.oci.differ import walk
from layerfs.oci.digest import digest_of
from layerfs.oci.images import Images
from layerfs.oci.intake import IntakeOptions
from layerfs.oci.produce import produce_layer
from layerfs.oci.target import TargetForm
from layerfs.oci.transfer import pull
from layerfs.oci.unpack import chain_ids
from layerfs.snapshots.library import Store
from layerfs.snapshots.snapshotter import Snapshotter
from tests.cli.images import Shop, busybox
from tests.contract.subjects import a_subject
from tests.host import require
from tests.oci.image import Made
from tests.oci.registries import Naughty
from tests.oci.tars import END, apply, brief
from tests.oci.test_apply import BASE, REFUSED, RESULTS
from tests.oci.test_intake import take

SERVED = ("fuse", "xar")  # drivers whose mounts have a server, which takes a second to start


def image(title: str) -> Made:
    return Made([BASE, odd(title)])


def odd(title: str) -> bytes:
    return b"".join(RESULTS[title][0]) + ("end blocks" not in title) * END


def top_of(title: str) -> str:
    return chain_ids([digest_of(layer) for layer in (BASE, odd(title))])[-1]


def compare(results: dict[str, dict[str, str]]) -> None:
    """Compare all at once: a door that is wrong in one thing is wrong in several."""
    assert {title: found for title, found in results.items() if found != RESULTS[title][1]} == {}
    assert results.keys() == RESULTS.keys()


def shown(snapshots: Snapshotter, top: str, place: Path) -> dict[str, str]:
    place.mkdir(exist_ok=True)
    snapshots.view("view", top)
    try:
        with mounted(snapshots.mounts("view"), place):
            return brief(place)
    finally:
        snapshots.remove("view")


def united(snapshots: Snapshotter, top: str) -> dict[str, str]:
    """Look at what a server of the layers would show."""
    with UnionBelow(snapshots.stack(top).lowers) as view:
        seen = {each.member.path.decode(): each.member for each in walk(view)}
        content = {path: member.target for path, member in seen.items()}
        content |= {p: b"".join(view.data(m.path)) for p, m in seen.items() if m.kind == stat.S_IFREG}
    letters = {stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFLNK: "l"}
    return {p: letters[m.kind] + (":" + content[p].decode() if content[p] else "") for p, m in seen.items()}


@pytest.mark.parametrize("driver", ["overlay", "fuse", "xar", "btrfs"])
def test_import_by_each_driver(driver: str, scratch: Path) -> None:
    require("kernel overlay")
    with a_subject(driver, scratch) as subject:
        found = {}
        for number, title in enumerate(RESULTS):
            take(subject.store, image(title).layout(scratch / f"i{number}"), driver=driver)
            if number % 6 and driver in SERVED:
                found[title] = united(subject.snapshots, top_of(title))
            else:
                found[title] = shown(subject.snapshots, top_of(title), scratch / "m")
    compare(found)


@pytest.mark.parametrize("door", ["docker-archive", "pull", "union", "export", "cp"])
def test_door(door: str, store: Store, scratch: Path) -> None:
    DOORS[door](store, scratch)


def by_docker_archive(store: Store, scratch: Path) -> None:
    found = {}
    for number, title in enumerate(RESULTS):
        take(store, image(title).docker(scratch / f"i{number}.tar"))
        found[title] = shown(store.snapshotter("overlay"), top_of(title), scratch / "m")
    compare(found)


def by_pull(store: Store, scratch: Path) -> None:
    found = {}
    with Naughty().running() as registry:
        for title in RESULTS:
            made = image(title)
            registry.store(made.blobs, "1", made.finish())
            wishes = IntakeOptions(snapshotter=store.snapshotter("overlay"))
            pull(Images(store), f"{registry.host}/repo:1", wishes, insecure=True)
            found[title] = shown(store.snapshotter("overlay"), top_of(title), scratch / "m")
    compare(found)


def imported(store: Store, scratch: Path) -> Iterator[tuple[str, Snapshotter, str]]:
    for number, title in enumerate(RESULTS):
        take(store, image(title).layout(scratch / f"i{number}"))
        yield title, store.snapshotter("overlay"), top_of(title)


def by_union(store: Store, scratch: Path) -> None:
    """As `layerfs mount IMAGE` shows them, and `layerfs run` where the kernel does not."""
    compare({title: united(snapshots, top) for title, snapshots, top in imported(store, scratch)})


def by_export(store: Store, scratch: Path) -> None:
    """What is written for the layer again means the same, also to a tree that holds the layers below."""
    found = {}
    for title, snapshots, top in imported(store, scratch):
        again = bytearray()
        produce_layer(difference_of(snapshots, top), again.extend)
        tree = scratch / top[7:]
        apply(BASE, tree)
        apply(bytes(again), tree, form=TargetForm.PLAIN)
        found[title] = brief(tree)
    compare(found)


def by_cp(store: Store, scratch: Path) -> None:
    found = {}
    for title, snapshots, top in imported(store, scratch):
        snapshots.prepare(title, "")
        assert copy(snapshots, top, b".", title, b"").left_out == ()
        found[title] = brief(Path(os.fsdecode(snapshots.layer(title).path)))
    compare(found)


DOORS: dict[str, Callable[[Store, Path], None]] = {
    "docker-archive": by_docker_archive,
    "pull": by_pull,
    "union": by_union,
    "export": by_export,
    "cp": by_cp,
}


def test_run_and_mount(scratch: Path) -> None:
    """A command in the image, and `layerfs mount`, see what the layers mean."""
    require("root", "fuse", "kernel overlay")
    shop, tools = Shop(scratch), busybox()
    found, seen = {}, {}
    mnt = shop.place / "mnt"
    mnt.mkdir()
    for number, title in enumerate(RESULTS):
        if number % 3 or title == "an opaque root":  # each takes a second; and there is no program then
            continue
        made = Made([tools, BASE, odd(title)])
        top = made.finish(annotations={"org.opencontainers.image.ref.name": f"odd:{number}"})
        shop.run("image", "import", made.layout(shop.place / f"i{number}", top))
        names = sorted({path.partition("/")[0] for path in RESULTS[title][1]})
        script = ["/bin/busybox", "tar", "-C", "/", "-cf", "-", *names]
        done = shop.run("image", "run", f"odd:{number}", "--", *script, text=False)
        found[title] = listed(done.stdout)  # type: ignore[arg-type]
        shop.run("mount", f"odd:{number}", mnt, "--driver=fuse" if number % 2 else "--driver=auto")
        try:
            seen[title] = {p: what for p, what in brief(mnt).items() if p.partition("/")[0] in names}
        finally:
            shop.run("umount", mnt)
    wanted = {title: RESULTS[title][1] for title in found}
    assert (found, seen, len(wanted) > 10) == (wanted, wanted, True)


def listed(data: bytes) -> dict[str, str]:
    """Describe a tar as `brief` does a tree."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            if member.isdir():
                found[member.name] = "d"
            elif member.issym():
                found[member.name] = f"l:{member.linkname}"
            elif member.islnk():
                found[member.name] = found[member.linkname]
            else:
                content = tar.extractfile(member)
                assert content is not None
                data = content.read()
                found[member.name] = "f" + (f":{data.decode()}" if data else "")
    return found


def test_refused_layers_leave_nothing_by_any_driver(scratch: Path) -> None:
    for driver in ("overlay", "fuse", "xar", "btrfs"):
        (scratch / driver).mkdir()
        with a_subject(driver, scratch / driver) as subject:
            for number, entries in enumerate(REFUSED.values()):
                made = Made([BASE, b"".join(entries) + END])
                with pytest.raises((LayerfsError, OSError)):
                    take(subject.store, made.layout(scratch / f"{driver}{number}"), driver=driver)
            assert [info.name for info in subject.snapshots.walk()] == []
            assert (Images(subject.store).all(), subject.store.content.all()) == ([], [])
