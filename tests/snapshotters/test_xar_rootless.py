"""The driver xar for a user without root: packed layers are served by our union."""

from tests.host import BIN, Person, require

SCRIPT = """
import os, sys, time
import layerfs
os.mkdir("at")
with layerfs.open_store("store") as store:
    snapshots = store.snapshotter("xar")
    with layerfs.mounted(snapshots.prepare("key"), "at"):
        open("at/a", "w").close(); open("at/b", "w").write("1")
    snapshots.commit("base", "key")
    with layerfs.mounted(snapshots.prepare("key", "base"), "at"):
        os.unlink("at/a"); open("at/b", "a").write("2")
    snapshots.commit("top", "key")
    deadline = time.monotonic() + 120
    while not all(snapshots.layer(name).path.endswith(b".xar") for name in ("base", "top")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with layerfs.mounted(snapshots.view("look", "top"), "at"):
        print(os.listdir("at"), open("at/b").read(), os.listxattr("at/b"))
    for name in ("look", "top", "base"):
        snapshots.remove(name)
    snapshots.cleanup()
"""


def test_user_without_root_packs_and_mounts_images(person: Person) -> None:
    require("fuse")
    done = person.run([BIN / "python", "-c", SCRIPT], check=False)
    assert (done.stdout, done.stderr) == ("['b'] 12 []\n", "")
