"""The configuration: every key checked, the command line first."""

import os
import re
from dataclasses import fields
from pathlib import Path

import pytest

from layerfs.daemon import config as module
from layerfs.daemon.config import Config, driver_of, host_and_port
from layerfs.errors import InvalidArgument, LayerfsError
from tests.host import PROJECT


def written(place: Path, text: str) -> bytes:
    (place / "c.toml").write_text(text)
    return bytes(place / "c.toml")


def test_the_command_line_counts_before_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, 'root = "/a"\nlog_level = "debug"\n')
    config = Config.read(path, {"root": "/b", "address": None})
    assert (config.root, config.log_level) == ("/b", "debug")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('rot = "/a"', 'did you mean "root"'),
        ("root = 5", "a text in quotes"),
        ('cleanup_seconds = "x"', "a whole number"),
        ("cleanup_seconds = true", "a whole number"),
        ("cleanup_seconds = -1", "from 0"),
        ('log_level = "loud"', "one of debug"),
        ('metrics = "here"', "HOST:PORT"),
        ('metrics = ":9810"', "HOST:PORT"),
        ('metrics = "127.0.0.1:99999"', "HOST:PORT"),
        ('metrics = "127.0.0.1:\\u00b2"', "HOST:PORT"),
        ('metrics = "::1:9810"', "HOST:PORT"),
        ('snapshotter = "nosuch"', "one of auto, overlay"),
        ('address = "/run/\\u0000x"', "NUL"),
        ('root = "/\\u0000x"', "NUL"),
        ("root = " + "[" * 10_000, "values in values"),
        ("# " + "x" * (1 << 16), "more than 65536 bytes"),
        ("root = ", "TOML"),
        ('root = "\\udcff"', "TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        Config.read(written(tmp_path, text), {})
    assert message in str(error.value)


def test_a_configuration_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, 'log_level = "debug"\n')
    Path(os.fsdecode(path)).chmod(0o666)
    with pytest.raises(InvalidArgument, match="is open to others"):
        Config.read(path, {})


@pytest.mark.parametrize("name", ["fifo", "directory", "device"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    """The daemon waited for the other end of a FIFO for ever, and read all of /dev/zero."""
    os.mkfifo(tmp_path / "fifo")
    path = {"fifo": tmp_path / "fifo", "directory": tmp_path, "device": Path("/dev/zero")}[name]
    with pytest.raises((InvalidArgument, IsADirectoryError)):
        Config.read(bytes(path), {})


@pytest.mark.parametrize(
    ("name", "driver"),
    [("", "auto"), ("layerfs", "auto"), ("auto", "auto"), ("layerfs-xar", "xar"), ("xar", "xar")],
    ids=str,
)
def test_a_snapshotter_has_the_name_that_containerd_knows_or_its_drivers(
    tmp_path: Path, name: str, driver: str
) -> None:
    config = Config.read(written(tmp_path, f'snapshotter = "{name}"\n'), {})
    assert driver_of(config.snapshotter) == driver


@pytest.mark.parametrize(
    ("text", "found"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:9810", ("::1", 9810)), ("localhost:65535", ("localhost", 65535))],
)
def test_an_address_for_numbers_is_a_host_and_a_port(text: str, found: tuple[str, int]) -> None:
    assert host_and_port(text) == found


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LayerfsError, match=re.escape(f"{tmp_path}/none")):
        Config.read(bytes(tmp_path / "none"), {})


def test_only_some_keys_change_while_the_daemon_runs() -> None:
    before, after = Config(root="/a", log_level="info"), Config(root="/b", log_level="debug", cleanup_seconds=5)
    assert before.reread(after) == Config(root="/a", log_level="debug", cleanup_seconds=5)


def test_every_key_is_documented() -> None:
    documented = set(re.findall(r"^    (\w+) =", module.__doc__ or "", re.MULTILINE))
    assert documented == {field.name for field in fields(Config)}


def test_the_manual_has_every_key_and_its_default() -> None:
    manual = (PROJECT / "docs/containerd.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)`", manual.split("## Configuration")[1], re.MULTILINE))
    assert set(rows) == {field.name for field in fields(Config)}
    defaults = {field.name: str(field.default).strip('"') for field in fields(Config)}
    defaults |= {"root": "/var/lib/layerfs", "address": "/run/layerfs/layerfs.sock"}
    assert {name: text.strip('"') for name, text in rows.items()} == defaults


def test_the_manual_says_which_keys_a_hang_up_changes() -> None:
    manual = (PROJECT / "docs/containerd.md").read_text()
    (said,) = re.findall(r"SIGHUP\s+reads the file again: ([^:]*?) take effect at once", manual)
    assert set(re.findall(r"`(\w+)`", said)) == set(module.LIVE)
