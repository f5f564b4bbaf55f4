"""Images built by buildah and by podman, as root and rootless, with layerfs-mount as their mount program."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .engines import Engine, engine
from .stage import LAYERFS, LAYERFS_MOUNT, Stage, Tree

NEEDS = ("podman", "buildah", "runc", "busybox")

CONTAINERFILE = """
FROM localhost/base AS builder
RUN mkdir -p /build/out && cp -a /data/deep /build/src && mv /build/src/er /build/renamed && rm /build/renamed/g7 \\
 && mv /data/deep /build/out/deep && mv /build/renamed /build/out/ && rm /data/owned && ln -s deep/f5 /build/out/link
COPY app /build/app
RUN chmod 755 /build/app/run && mv /build/app /build/out/app && ln /build/out/app/run /build/out/app/hard

FROM localhost/base
COPY --from=builder /build/out /srv
COPY --from=builder --chown=1000:1000 /build/out/deep/f1 /srv/owned
RUN rm -rf /data && mkdir /data && echo fresh > /data/file && mv /opt /optical \\
 && mv /srv/deep /srv/deeper && rm /srv/deeper/f2 && rm -r /srv/renamed && touch /srv/renamed
RUN rm -r /data && mv /optical/keep /data && find /srv/deeper -name 'g1*' -exec rm {} + && chmod -R o-rwx /srv/deeper
CMD ["/srv/app/run"]
"""
CONTEXT: Tree = {"Containerfile": CONTAINERFILE, "app": {"run": "#!/bin/sh\ncat /srv/owned /data/linked; ls /srv\n"}}
Build = Callable[[Engine, Path], str]
COMPILE = """mkdir /build && cp -a /data/deep /build/out && rm /build/out/f2 && ln -s f5 /build/out/link
ln /build/out/f3 /build/out/hard && chmod 4750 /build/out/f4 && chown 7:8 /build/out/f6 && mkdir /build/out/empty"""
PLACE = """mv /opt /optical && rm -r /data/deep && mkdir /data/deep && echo fresh > /data/deep/file
mv /srv/er /srv/moved && chmod 600 /data/owned"""
STAGED = f"""
FROM localhost/base AS builder
RUN {COMPILE.replace(chr(10), " && ")}
FROM localhost/base
COPY --from=builder /build/out /srv
RUN {PLACE.replace(chr(10), " && ")}
"""
BUILDAHS = ("etc/hostname", "etc/hosts", "etc/resolv.conf", "run")  # empty; it mounts on them while a step runs
OVERLAY = ("--snapshotter", "overlay")
SAID = "1 linked app deeper link owned renamed"


@pytest.fixture
def mine(engine_stage: Stage) -> Iterator[Engine]:
    with engine(engine_stage, LAYERFS_MOUNT) as mine:
        yield mine


def by_podman(by: Engine, context: Path) -> str:
    """A layer for each step, kept as a cache."""
    return by.podman("build", "--isolation=chroot", "--layers", "--tag=localhost/built", context)


def by_buildah(by: Engine, context: Path) -> str:
    """One layer for each stage."""
    return by.buildah("bud", "--tag=localhost/built", context)


@pytest.mark.parametrize("build", [by_podman, by_buildah])
def test_multi_stage_image_runs_and_is_the_same_as_by_kernel_overlayfs(mine: Engine, build: Build) -> None:
    context = mine.stage.layer("context", CONTEXT)
    with engine(mine.stage, None, "oracle") as oracle:
        for by in (mine, oracle):
            build(by, context)
            assert by.podman("run", "--rm", "localhost/built").split() == SAID.split()
        assert mine.export("localhost/built") == oracle.export("localhost/built")
    if build is by_podman:
        steps = CONTAINERFILE.count("\nRUN") + CONTAINERFILE.count("\nCOPY")
        assert build(mine, context).count("Using cache") >= steps


def test_image_is_made_from_scratch_by_hand(mine: Engine) -> None:
    """buildah's own verbs; `mount` gives the caller the mountpoint, in podman's namespace when rootless."""
    name = mine.buildah("from", "scratch").strip()
    tree = mine.stage.layer("tree", {"bin": {"sh": Path("/bin/busybox").read_bytes()}, "dir": {"file": "text\n"}})
    tree.joinpath("bin/sh").chmod(0o755)
    mine.buildah("copy", name, tree, "/")
    mine.buildah("run", name, "/bin/sh", "-euc", "mkdir /made; echo made > /made/file")
    work = 'm=$(buildah mount "$1"); mv "$m/dir" "$m/moved"; cat "$m/made/file"; rm "$m/made/file"; buildah umount "$1"'
    assert mine.inside("sh", "-euc", work, "sh", name).split()[0] == "made"
    mine.buildah("config", "--cmd=/bin/sh -c 'cat /moved/file'", name)
    mine.buildah("commit", "--quiet", "--rm", name, "localhost/hand")
    assert mine.podman("run", "--rm", "localhost/hand", "/bin/sh", "-c", "cat /moved/file") == "text\n"
    assert sorted(path for path in mine.export("localhost/hand") if path.count("/") < 2 and path.startswith("m")) == [
        "made",
        "moved",
        "moved/file",
    ]


def layerfs(by: Engine, *words: str | Path) -> str:
    """Run layerfs where the engine's mounts are: without root in its user namespace, whose root we then are."""
    return by.inside("env", f"LAYERFS_ROOT={by.stage.root / 'store'}", LAYERFS, *words)


def in_snapshot(by: Engine, key: str, script: str) -> None:
    """Run a script with a snapshot of layerfs as its root."""
    merged = by.stage.directory(f"{key}.merged")
    layerfs(by, "snapshot", "mount", *OVERLAY, key, merged)
    try:
        by.inside("chroot", merged, "/bin/sh", "-euc", script)
    finally:
        by.inside("umount", merged)


def test_stages_of_layerfs_give_the_tree_that_buildah_builds(engine_stage: Stage) -> None:
    """The same steps, once as a Containerfile over layerfs-mount, once with snapshots, `layerfs cp` and a commit."""
    stage = engine_stage
    with engine(stage, LAYERFS_MOUNT) as by:
        by_buildah(by, stage.layer("context", {"Containerfile": STAGED}))
        by.podman("save", "--quiet", "--format=oci-archive", "-o", stage.root / "base.oci", "localhost/base")
        layerfs(by, "image", "import", *OVERLAY, stage.root / "base.oci", "localhost/base:1")
        base = json.loads(layerfs(by, "snapshot", "ls", *OVERLAY, "--json"))[0]["name"]
        for key, script in (("builder", COMPILE), ("final", PLACE)):
            layerfs(by, "snapshot", "prepare", *OVERLAY, key, base)
            if key == "final":
                layerfs(by, "cp", *OVERLAY, "builder:/build/out", "final:/srv")
            in_snapshot(by, key, script)
        layerfs(by, "image", "commit", *OVERLAY, "final", "localhost/own:1")
        layerfs(by, "image", "export", "localhost/own:1", "-o", stage.root / "own.oci")
        by.podman("load", "--quiet", "-i", stage.root / "own.oci")
        built = by.export("localhost/built")
        for path in BUILDAHS:
            assert built.pop(path)
        assert by.export("localhost/own:1") == built
