"""A containerd and a daemon of an unprivileged user, within rootlesskit: import, run, write."""

import os
from pathlib import Path

from tests.e2e.containerd import CONFIG, DISABLED, IMAGE, archive
from tests.host import Person

NEEDS = ("root", "person", "fuse", "subids", "userns overlay", "rootlesskit", "containerd", "ctr", "runc")
SCRIPT = """
place=$1; image=$2
rm -rf /run/containerd  # of this namespace's copy
layerfs serve --root $place/store --address $place/l.sock --containerd "" 2>$place/l.log & daemon=$!
layerfs serve --root $place/store --address $place/l.sock --print-config >>$place/c.toml
containerd --config $place/c.toml >$place/c.log 2>&1 & containerd=$!
trap 'kill $daemon $containerd; wait' EXIT
ctr="ctr --address $place/c.sock"
tries=600
until $ctr version >/dev/null 2>&1; do tries=$((tries - 1)); [ $tries -gt 0 ]; sleep 0.1; done
how="--rm --cgroup= --cpu-shares=0"  # nobody has given this user cgroups
for name in overlay fuse xar; do
    $ctr images import --snapshotter layerfs-$name $image >/dev/null
    $ctr run $how --snapshotter layerfs-$name IMAGE $name /bin/sh -euc "echo $name >/mine; mv /d/a /d/b; cat /mine /d/b"
    echo
done
""".replace("IMAGE", IMAGE)


def test_containers_run_without_root(person: Person) -> None:
    place = person.home / "place"
    person.owns(place)
    disabled = ", ".join(f'"{name}"' for name in DISABLED)
    config = place / "c.toml"
    config.write_text(CONFIG.format(version=2, place=place, disabled=disabled))
    os.chown(config, person.uid, person.gid)
    image: Path = archive(person.home / "image.tar")
    image.chmod(0o644)
    command: list[str | Path] = ["rootlesskit", "--pidns", "--copy-up=/run", "--state-dir", person.home / "kit"]
    done = person.run([*command, "sh", "-euc", SCRIPT, "sh", place, image], check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["overlay", "a", "fuse", "a", "xar", "a"]
