"""`layerfs image run` and `mount`: an image as its config says."""

import subprocess

from tests.cli.images import Shop, made
from tests.host import BIN, Person, require


def test_config_is_honoured(shop: Shop) -> None:
    name = shop.imported(
        Entrypoint=["/bin/sh", "-c"], Cmd=["id; pwd; echo $A"], Env=["A=b"], User="me", WorkingDir="/work"
    )
    said = shop.run("image", "run", name).stdout
    assert said == "uid=7(me) gid=8(g) groups=20(x)\n/work\nb\n"
    assert shop.run("image", "run", "-u", "0:5", "-e", "A=c", name, "--", "id -g; echo $A").stdout == "5\nc\n"


def test_command_of_the_caller_and_its_status(shop: Shop) -> None:
    name = shop.imported()
    assert shop.run("image", "run", name).stdout == "hello\n"
    assert shop.run("run", name, "--", "/bin/echo", "x").stdout == "x\n"
    assert shop.run("image", "run", name, "--", "/bin/sh", "-c", "exit 7", check=False).returncode == 7
    assert shop.run("image", "run", "-u", "nobody-here", name, check=False).returncode == 1


def test_mount_shows_the_image(shop: Shop) -> None:
    name = shop.imported()
    point = shop.place / "m"
    point.mkdir()
    for _ in range(2):
        shop.run("image", "mount", name, point)
        assert (point / "etc/motd").read_text() == "hello\n"
        subprocess.run(["umount", point], check=True)


def test_without_root_an_image_is_imported_mounted_and_run(person: Person) -> None:
    require("userns", "fuse")
    image = made()
    top = image.finish(annotations={"org.opencontainers.image.ref.name": "made:1"})
    layout = image.layout(person.home / "i", top)
    words = str(BIN / "layerfs")
    person.run([words, "image", "import", layout])
    assert person.run([words, "run", "made:1", "--", "/bin/sh", "-c", "id -u; cat /etc/motd"]).stdout == "0\nhello\n"
    (point := person.home / "m").mkdir()
    person.owns(point)
    person.run([words, "mount", "made:1", point])
    try:
        assert person.run(["cat", point / "etc/motd"]).stdout == "hello\n"
    finally:
        person.run([words, "umount", point])
    person.run([words, "image", "rm", "made:1"])
