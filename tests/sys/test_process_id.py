"""Which process is meant: told in words, and checked by anybody."""

import os
import subprocess
import sys

import pytest

from layerfs.sys.process_id import ProcessId, birth, names_alike, own_process, parse
from layerfs.value import replace
from tests.host import require


def test_a_process_is_told_in_words_and_understood() -> None:
    own = own_process()
    assert parse(own.spell()) == own
    assert own.pid == os.getpid()
    assert own.lasts


@pytest.mark.parametrize(
    "words", [b"", b"boot 1 2", b"boot 1 2 3 4", b"boot -1 2 3", b"boot 1 2 " + b"9" * 30, b"\xff"]
)
def test_what_is_no_process_is_none(words: bytes) -> None:
    assert parse(words) is None


def test_a_process_that_has_ended_lasts_no_more() -> None:
    child = subprocess.Popen(["sleep", "60"])
    life = replace(own_process(), pid=child.pid, born=birth(child.pid))
    assert life.lasts
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie
    assert not life.lasts
    child.wait()
    assert not life.lasts


@pytest.mark.parametrize("field", ["boot", "born"])
def test_the_same_pid_in_another_time_is_another_process(field: str) -> None:
    own = own_process()
    other = replace(own, boot=b"another") if field == "boot" else replace(own, born=own.born + 1)
    assert not other.lasts


def test_a_process_in_an_inner_pid_namespace_is_found() -> None:
    require("root")
    code = "from layerfs.sys.process_id import own_process; print(own_process().spell().decode(), flush=True); input()"
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as inner:
        assert inner.stdout is not None
        life = parse(inner.stdout.readline().strip())
        assert life is not None
        assert (life.pid, life.namespace != own_process().namespace) == (1, True)
        assert life.lasts
        inner.communicate(b"\n")
    assert not life.lasts


@pytest.mark.parametrize("own_proc", [False, True])
def test_whether_proc_names_processes_as_we_do_is_known(*, own_proc: bool) -> None:
    require("root")
    code = "from layerfs.sys.process_id import names_alike; print(names_alike())"
    words = ["unshare", "--pid", "--fork", *(["--mount-proc"] if own_proc else []), sys.executable, "-c", code]
    assert subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip() == str(own_proc)
    assert names_alike()


def test_a_namespace_that_is_not_seen_from_here_is_no_process() -> None:
    assert not ProcessId(own_process().boot, 1, 1, 1).lasts
