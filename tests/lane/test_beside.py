"""On the client's processor: a thread that waits is bound there, and to nothing once it does something else."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from layerfs.lane.events import LaneEvent, Way
from layerfs.lane.lane import Lane
from tests.host import require
from tests.lane.rig import FLUSH, LOOKUP, Rig
from tests.waiting import PATIENCE, wait_until

FAST, SLOW, LATE = 5_000, 20_000, 10_000_000  # ns
OFTEN = 600  # requests, after which any client was looked for again


@pytest.fixture
def rig() -> Iterator[Rig]:
    before = os.sched_getaffinity(0)
    try:
        with Rig() as rig:
            yield rig
    finally:
        os.sched_setaffinity(0, before)


@pytest.fixture
def client() -> "Iterator[subprocess.Popen[bytes]]":
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        process.terminate()


def processor(thread: int) -> int:
    with open(f"/proc/{thread}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[36])


def move(client: "subprocess.Popen[bytes]", where: int) -> None:
    """Have a client run there: it answers a line."""
    os.sched_setaffinity(client.pid, {where})
    assert client.stdin is not None and client.stdout is not None
    client.stdin.write(b"\n")
    client.stdin.flush()
    client.stdout.readline()
    wait_until(lambda: processor(client.pid) == where)


def ask(lane: Lane, thread: int) -> set[int]:
    """Have a client ask until it was looked for; return where our thread may run then."""
    asked = 0
    while asked < OFTEN:
        asked += lane.way == Way.BESIDE
        lane.came(FAST if lane.way == Way.BESIDE else SLOW, thread)
    assert lane.way == Way.BESIDE
    return os.sched_getaffinity(0)


def test_a_lane_goes_where_its_client_is_and_follows_it(rig: Rig, client: "subprocess.Popen[bytes]") -> None:
    everywhere = os.sched_getaffinity(0)
    for where in sorted(everywhere):
        move(client, where)
        assert ask(rig.lane, client.pid) == {where}
        rig.step()
        assert os.sched_getaffinity(0) == everywhere, "who waits no longer is still bound"


def test_a_client_is_looked_for_though_what_came_late_is_nobodys(rig: Rig, client: "subprocess.Popen[bytes]") -> None:
    """As a RELEASE, which the kernel sends when it likes."""
    first, *others = sorted(os.sched_getaffinity(0))
    for where in (*others, first):
        move(client, where)
        ask(rig.lane, client.pid)
    last = others[-1] if others else first
    move(client, last)
    rounds = 0
    while rounds < 20 or rig.lane.way != Way.BESIDE:  # on a busy machine to settle takes so long that it is left
        rounds = rounds + 1 if rig.lane.way == Way.BESIDE else 0
        rig.lane.came(15_000)
        rig.lane.came(FAST if rig.lane.way == Way.BESIDE else SLOW, client.pid)
    assert os.sched_getaffinity(0) == {last}


def meet(rig: Rig, opcode: int, thread: int) -> set[int]:
    """Let the lane meet requests of a client; return where our thread may run when it waits then."""
    for _ in range(OFTEN):
        rig.request(opcode, 1, b"name\0", thread=thread)
        assert rig.lane.wait(-1, -1, 1000, spin=True) == LaneEvent.REQUEST
        assert rig.passed()
    return ask(rig.lane, 0)


def test_a_client_is_looked_for_only_while_it_waits_for_a_lookup(rig: Rig, client: "subprocess.Popen[bytes]") -> None:
    """In execve(2) it closes files with other requests; who reads its /proc/PID/stat may wait for their answers."""
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        pytest.skip("one processor")
    move(client, first)
    assert ask(rig.lane, client.pid) == {first}
    move(client, others[0])
    assert meet(rig, FLUSH, client.pid) == {first}
    wait_until(lambda: meet(rig, LOOKUP, client.pid) == {others[0]})


def test_a_lane_is_free_when_requests_come_seldom(rig: Rig, client: "subprocess.Popen[bytes]") -> None:
    everywhere = os.sched_getaffinity(0)
    move(client, min(everywhere))
    assert ask(rig.lane, client.pid) == {min(everywhere)}
    rig.lane.came(LATE, client.pid)
    assert os.sched_getaffinity(0) == everywhere


def test_a_lane_is_free_while_it_waits_for_long(rig: Rig, client: "subprocess.Popen[bytes]") -> None:
    everywhere = os.sched_getaffinity(0)
    move(client, min(everywhere))
    begun, ended = threading.Event(), os.pipe()
    thread = 0

    def wait() -> None:
        nonlocal thread
        thread = threading.get_native_id()
        assert ask(rig.lane, client.pid) == {min(everywhere)}
        begun.set()
        rig.lane.wait(ended[0], -1, -1, spin=True)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        try:
            assert begun.wait(PATIENCE)
            wait_until(lambda: os.sched_getaffinity(thread) == everywhere)
            assert not waiting.done()
        finally:
            os.write(ended[1], b"x")
            waiting.result(PATIENCE)
            for end in ended:
                os.close(end)


def test_a_lane_goes_nowhere_it_may_not_run(rig: Rig, client: "subprocess.Popen[bytes]") -> None:
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        pytest.skip("one processor")
    move(client, first)
    os.sched_setaffinity(0, set(others))
    assert ask(rig.lane, client.pid) == set(others)


def test_a_process_that_proc_calls_by_the_same_number_is_not_followed(client: "subprocess.Popen[bytes]") -> None:
    """Where the server is in a pid namespace without a /proc of its own."""
    require("root")
    move(client, min(os.sched_getaffinity(0)))
    code = (
        "import os, sys; from tests.lane.rig import Rig; from tests.lane.test_beside import ask\n"
        "before = os.sched_getaffinity(0)\n"
        "with Rig() as rig: print(ask(rig.lane, int(sys.argv[1])) == before)"
    )
    words = ["unshare", "--pid", "--fork", sys.executable, "-c", code, str(client.pid)]
    assert subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip() == "True"


@pytest.mark.parametrize("thread", [0, 2**32 - 1])
def test_whoever_is_not_to_be_seen_is_not_followed(rig: Rig, thread: int) -> None:
    everywhere = os.sched_getaffinity(0)
    assert ask(rig.lane, thread) == everywhere
