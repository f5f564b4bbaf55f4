"""A containerd and a daemon of an unprivileged user, within rootlesskit: import, push, pull, run, write, commit."""

import os
from pathlib import Path

from tests.e2e.containerd import CONFIG, DISABLED, IMAGE, archive
from tests.host import Person
from tests.oci.registries import docker_registry

NEEDS = ("root", "person", "fuse", "subids", "userns overlay", "rootlesskit", "containerd", "ctr", "runc",
         "docker-registry")  # fmt: skip
EAGER = '[plugins."io.containerd.gc.v1.scheduler"]\n  mutation_threshold = 1\n'  # collects whenever it can
SCRIPT = r"""
place=$1; image=$2; pushed=$3
mkdir $place/written
rm -rf /run/containerd  # of this namespace's copy
layerfs serve --root $place/store --address $place/l.sock --containerd "" 2>$place/l.log & daemon=$!
layerfs serve --root $place/store --address $place/l.sock --print-config >>$place/c.toml
containerd --config $place/c.toml >$place/c.log 2>&1 & containerd=$!
trap 'kill $daemon $containerd; wait' EXIT
ctr="ctr --address $place/c.sock"
tries=600
until $ctr version >/dev/null 2>&1; do tries=$((tries - 1)); [ $tries -gt 0 ]; sleep 0.1; done
how="--cgroup= --cpu-shares=0"  # nobody has given this user cgroups
run() {  # once more where 1.6's shim took the mount helper's status ten times (Containerd.ctr has the numbers)
    until $ctr run $how "$@" 2>$place/said; do
        grep -q "failed with ECHILD" $place/said || { cat $place/said >&2; return 1; }
        $ctr containers delete work 2>/dev/null || true
    done
}
$ctr images import --no-unpack $image >/dev/null
$ctr images tag IMAGE $pushed >/dev/null
$ctr images push --plain-http $pushed >/dev/null
$ctr images remove --sync IMAGE $pushed >/dev/null
for name in overlay fuse xar; do
    $ctr images import --snapshotter layerfs-$name $image >/dev/null
    script="exec >/run/said/$name; echo $name >/mine; mv /d/a /d/b; cat /mine /d/b; echo"
    bind=type=bind,src=$place/written,dst=/run/said,options=rbind:rw  # ctr itself may lose what is written
    run --rm --mount $bind --snapshotter layerfs-$name IMAGE $name /bin/sh -euc "$script"
    cat $place/written/$name
    $ctr images remove --sync IMAGE >/dev/null
done
snapshots="$ctr snapshots --snapshotter layerfs-fuse"
$ctr images pull --plain-http --snapshotter layerfs-fuse $pushed >/dev/null
run --detach --snapshotter layerfs-fuse $pushed work /bin/sleep 1000
$snapshots label work containerd.io/gc.root=here >/dev/null  # it is to outlive its container
$ctr tasks exec --exec-id x work /bin/sh -euc "rm -r /l2; mv /l4 /l9; echo new >/d/new"
echo $($snapshots diff work | tar -tz | grep -E "^(d/new|[.]wh[.].*|l9/.+)$" | sort)
$ctr tasks kill --signal KILL work
deleted() { $ctr containers delete --keep-snapshot work 2>/dev/null; }
until deleted; do tries=$((tries - 1)); [ $tries -gt 0 ]; sleep 0.1; done
$snapshots commit committed work
$snapshots prepare again committed >/dev/null
$snapshots list | grep -E "^(committed|again) " | wc -l
""".replace("IMAGE", IMAGE)


def test_containers_run_without_root(person: Person) -> None:
    place = person.home / "place"
    person.owns(place)
    disabled = ", ".join(f'"{name}"' for name in DISABLED)
    config = place / "c.toml"
    config.write_text(CONFIG.format(version=2, place=place, disabled=disabled) + EAGER)
    os.chown(config, person.uid, person.gid)
    image: Path = archive(person.home / "image.tar")
    image.chmod(0o644)
    command: list[str | Path] = ["rootlesskit", "--pidns", "--copy-up=/run", "--state-dir", person.home / "kit"]
    with docker_registry(person.home) as registry:
        arguments: list[str | Path] = ["sh", "-euc", SCRIPT, "sh", place, image, f"{registry}/box:1"]
        done = person.run([*command, *arguments], check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    said = [line for name in ("overlay", "fuse", "xar") for line in (name, "a")]
    assert done.stdout.splitlines() == [*said, ".wh.l2 .wh.l4 d/new l9/f", "2"]
