"""What a process says of itself: its name, whom it dies with, who may look at it."""

import os
import signal
import subprocess
import sys

from tests.host import Person
from tests.waiting import PATIENCE

HIDDEN = """
import os, sys
from layerfs.sys.prctl import hide
hide()
print(os.listdir("/proc/self/fd") != [], flush=True)
sys.stdin.read()
"""


def test_nobody_of_ones_own_looks_at_a_hidden_process(person: Person) -> None:
    command = person.command([sys.executable, "-c", HIDDEN])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as hidden:
        assert hidden.stdin and hidden.stdout
        assert hidden.stdout.readline() == b"True\n"  # it still sees itself
        look = f"ls /proc/{hidden.pid}/fd /proc/{hidden.pid}/root/ 2>&1; head -c 1 /proc/{hidden.pid}/stat"
        done = person.run(["sh", "-c", look], check=False)
        assert done.stdout.count("Permission denied") == 2
        assert done.stdout[-1].isdigit()  # when it was born, anybody may know
        hidden.stdin.close()


def test_a_process_names_itself() -> None:
    program = "from layerfs.sys.prctl import hide, set_name; hide(); set_name(b'a name')"
    program += "; print(open('/proc/self/comm').read())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.strip() == "a name"


def test_a_child_ends_with_its_parent() -> None:
    program = """
import os, signal, sys
from layerfs.sys.prctl import die_with_parent
heard, said = os.pipe()
child = os.fork()
if child == 0:
    die_with_parent(signal.SIGKILL)
    os.write(said, b"x")
    signal.pause()
os.read(heard, 1)
print(child, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=PATIENCE)
    child = int(done.stdout)
    try:
        fd = os.pidfd_open(child)
    except ProcessLookupError:
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, ())
    import select

    assert select.select([fd], [], [], 30)[0]
    os.close(fd)
