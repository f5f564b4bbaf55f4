"""A store, and an image with busybox in it, for tests of the verbs about images."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.host import BIN, require
from tests.oci.image import Made
from tests.oci.tars import END, directory, file, symlink
from tests.waiting import PATIENCE, wait_until

PASSWD = b"root:x:0:0::/root:/bin/sh\nme:x:7:8::/home/me:/bin/sh\n"


def busybox() -> bytes:
    """A layer that can run something."""
    require("busybox")
    program = Path(shutil.which("busybox") or "").read_bytes()
    tools = [symlink(b"bin/" + name, b"busybox") for name in (b"sh", b"cat", b"id", b"pwd", b"echo", b"env", b"touch")]
    users = file(b"etc/passwd", PASSWD) + file(b"etc/group", b"g:x:8:\nx:x:20:me\n")
    return b"".join([directory(b"bin"), file(b"bin/busybox", program, mode=0o755), *tools, users, END])


def made(**config: Any) -> Made:
    """An image of two layers."""
    image = Made([busybox(), file(b"etc/motd", b"hello\n") + END])
    image.config["config"] = {"Cmd": ["/bin/cat", "/etc/motd"]} | config
    image.config["history"] = [{"created_by": "one"}, {"created_by": "nothing", "empty_layer": True}]
    return image


@dataclass
class Shop:
    """A store to call `layerfs` on."""

    place: Path

    def run(self, *words: str | Path, check: bool = True, **options: Any) -> "subprocess.CompletedProcess[str]":
        env = os.environ | {"LAYERFS_ROOT": str(self.place / "store")}
        command = [str(BIN / "layerfs"), *map(str, words)]
        options = {"timeout": PATIENCE, "text": True} | options
        done = subprocess.run(command, env=env, capture_output=True, check=False, **options)
        assert not check or done.returncode == 0, done.stderr
        return done

    def json(self, *words: str | Path) -> Any:
        return json.loads(self.run(*words).stdout)

    def imported(self, name: str = "made:1", **config: Any) -> str:
        """Import the image, and return its name."""
        image = made(**config)
        top = image.finish(annotations={"org.opencontainers.image.ref.name": name})
        self.run("image", "import", image.layout(self.place / name.replace(":", "-").replace("/", "-"), top))
        return name


def interrupt(shop: Shop, *words: str, when: Callable[[], object]) -> tuple[int, float]:
    """Run `layerfs`, press Ctrl-C when something is so, and return its exit status and how long it took to end [s]."""
    env = os.environ | {"LAYERFS_ROOT": str(shop.place / "store")}
    command, null = [str(BIN / "layerfs"), *words], subprocess.DEVNULL
    with subprocess.Popen(command, env=env, stdout=null, stderr=null) as program:
        wait_until(lambda: when() or program.poll() is not None, "what Ctrl-C is to interrupt")
        begin = time.monotonic()
        program.send_signal(signal.SIGINT)
        return program.wait(PATIENCE), time.monotonic() - begin
