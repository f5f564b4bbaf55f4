"""What a child holds."""

import os
import threading

from layerfs.sys.descriptors import STDIO, close_all_but
from layerfs.sys.namespaces import Namespace, unshare
from tests.host import require


def test_a_child_holds_what_it_keeps_and_nothing_else() -> None:
    told, tell = os.pipe()
    spare = os.dup(told)
    pid = os.fork()
    if not pid:
        close_all_but((*STDIO, tell))
        os.write(tell, " ".join(sorted(os.listdir("/proc/self/fd"), key=int)).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    seen = {int(number) for number in os.read(told, 100).split()}
    for fd in (told, tell, spare):
        os.close(fd)
    assert seen - {*STDIO, tell} <= {min(set(range(3, 9)) - {tell})}  # the one that lists them


def test_a_threads_own_table_is_not_its_process() -> None:
    require("root")
    told, tell = os.pipe()
    left: list[list[str]] = []

    def leave() -> None:
        unshare(Namespace.FILES)
        close_all_but((*STDIO, tell))
        left.append(os.listdir("/proc/thread-self/fd"))

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    assert str(told) not in left[0] and str(tell) in left[0]
    os.close(told)  # it is still open here
    os.close(tell)
