"""Point 3: a copy-up keeps everything about a file, happens once, and copies no data for nothing."""

import os
import socket
import stat
import struct
import threading

from tests.oracle.trees import Kind, Node, directory, file, symlink
from tests.semantics.mounted import Mounted, append, opened, read, root_only, write

BEFORE_1970 = -1_000_000_000_500_000_001
AFTER_2038 = 8_000_000_000_000_000_007
NOBODY = 2**32 - 1
ACL = struct.pack("<I" + "HHI" * 5, 2, 1, 7, NOBODY, 2, 6, 1000, 4, 5, NOBODY, 0x10, 7, NOBODY, 0x20, 1, NOBODY)


def test_copy_up_keeps_mode_owner_times_xattrs_and_content(union: Mounted) -> None:
    xattrs = (("user.a", b"1"), ("user.empty", b""), ("system.posix_acl_access", ACL))
    union.mount({b"d/e/f": file(b"data", 0o751, xattrs=xattrs, mtime=BEFORE_1970)})
    before = union.tree().records
    with opened(union / b"d/e/f", os.O_RDWR):  # opened for writing is enough
        pass
    union.remount()
    assert os.path.exists(union.upper + b"/d/e/f")
    assert union.tree().records == before


def test_parents_are_copied_up_with_everything(union: Mounted) -> None:
    d = directory(0o2751, xattrs=(("user.d", b"1"), ("system.posix_acl_default", ACL)), mtime=AFTER_2038)
    union.mount({b"d": d, b"d/e": directory(0o700, mtime=BEFORE_1970), b"d/e/f": file(b"1")})
    before = union.tree().records
    append(union / b"d/e/f", b"2")
    after = union.tree().records
    assert {name: before[name] for name in (b"", b"d", b"d/e")} == {name: after[name] for name in (b"", b"d", b"d/e")}
    union.remount()
    assert union.tree().records == after
    assert after[b"d"].xattrs[0][0] == "system.posix_acl_default"


@root_only
def test_devices_fifos_sockets_and_symlinks_are_copied_up(union: Mounted) -> None:
    union.mount(
        {
            b"c": Node(Kind.CHAR, rdev=(1, 3), mode=0o640),
            b"b": Node(Kind.BLOCK, rdev=(240, 1)),
            b"p": Node(Kind.FIFO),
            b"s": Node(Kind.SOCKET),
            b"l": symlink(b"nowhere"),
        }
    )
    before = union.tree().records
    for name in union.names():
        os.chown(union / name, 1000, 1001, follow_symlinks=False)
        os.utime(union / name, ns=(1, BEFORE_1970), follow_symlinks=False)
    union.remount()
    after = union.tree().records
    changed = {name: record._replace(uid=1000, gid=1001, mtime=BEFORE_1970) for name, record in before.items() if name}
    assert {name: record for name, record in after.items() if name} == changed
    assert sorted(os.listdir(union.upper)) == union.names()
    write(union / b"c", b"to /dev/null")


def test_fifos_and_sockets_work(union: Mounted) -> None:
    union.mount({b"p": Node(Kind.FIFO)})
    os.chmod(union / b"p", 0o600)
    with opened(union / b"p", os.O_RDWR | os.O_NONBLOCK) as fd:
        os.write(fd, b"through")
        assert os.read(fd, 100) == b"through"
    os.chdir(union.root)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(b"sock")
        server.listen()
        client.connect(b"sock")
    os.rename(b"sock", b"other")
    assert stat.S_ISSOCK(os.lstat(b"other").st_mode)


def test_holes_stay_holes(union: Mounted) -> None:
    union.build({b"sparse": file(b"begin")})
    size = 64 << 20
    with opened(union.lowers[0] + b"/sparse", os.O_RDWR) as fd:
        os.pwrite(fd, b"middle", 32 << 20)
        os.ftruncate(fd, size)
    union.mount()
    append(union / b"sparse", b"end")
    now = os.stat(union.upper + b"/sparse")
    assert now.st_size == size + 3 and now.st_blocks * 512 < 1 << 20
    with opened(union / b"sparse", os.O_RDONLY) as fd:
        assert (os.pread(fd, 6, 0), os.pread(fd, 6, 32 << 20), os.pread(fd, 9, size)) == (b"begin\0", b"middle", b"end")


def test_concurrent_writers_copy_a_file_once(union: Mounted) -> None:
    size = 8 << 20
    union.mount({b"big": file(b"@%d" % size)})

    def write_at(index: int) -> None:
        with opened(union / b"big", os.O_WRONLY) as fd:
            os.pwrite(fd, b"%02d" % index, 100 * (index + 1))

    threads = [threading.Thread(target=write_at, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = read(union / b"big")
    assert len(data) == size and data.startswith(b"start") and data.endswith(b"end")
    assert [data[100 * (index + 1) :][:2] for index in range(8)] == [b"%02d" % index for index in range(8)]
    union.remount()
    assert read(union / b"big") == data
    assert os.listdir(union.work) in ([], [b"work"])


def test_o_trunc_and_truncate_copy_only_what_stays(union: Mounted) -> None:
    union.mount({b"a": file(b"@4000000"), b"b": file(b"@4000000")})
    write(union / b"a", b"short")
    os.truncate(union / b"b", 5)
    assert read(union / b"a") == b"short" and read(union / b"b") == b"start"
    union.remount()
    assert read(union / b"a") == b"short" and read(union / b"b") == b"start"


def test_metadata_change_of_a_large_file_keeps_its_data(union: Mounted) -> None:
    union.mount({b"big": file(b"@4000000", 0o600)})
    os.chmod(union / b"big", 0o640)
    os.utime(union / b"big", ns=(5, AFTER_2038))
    append(union / b"big", b"more")
    os.utime(union / b"big", ns=(5, AFTER_2038))
    union.remount()
    now = os.stat(union / b"big")
    assert (stat.S_IMODE(now.st_mode), now.st_mtime_ns, now.st_size) == (0o640, AFTER_2038, 4_000_004)
    assert read(union / b"big").endswith(b"endmore")


def test_reader_of_a_lower_file_sees_what_is_written_after_copy_up(union: Mounted) -> None:
    union.mount({b"f": file(b"old")})
    with opened(union / b"f", os.O_RDONLY) as reader:
        assert os.read(reader, 10) == b"old"
        append(union / b"f", b"+new")
        assert os.pread(reader, 10, 0) == b"old+new"
        assert os.fstat(reader).st_size == 7
        assert os.fstat(reader).st_ino == os.stat(union / b"f").st_ino


def test_a_failed_open_copies_nothing_up(union: Mounted) -> None:
    union.mount({b"f": file(b"x", 0o644), b"d/x": file()})
    for path, flags in [(b"f", os.O_RDWR | os.O_CREAT | os.O_EXCL), (b"d", os.O_WRONLY), (b"f", os.O_DIRECTORY)]:
        try:
            os.close(os.open(union / path, flags))
        except OSError:
            continue
        raise AssertionError(path)
    read(union / b"f")
    assert os.listdir(union.upper) == []
