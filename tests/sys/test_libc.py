"""The door to the C library."""

import ctypes
import errno
import os

import pytest

from layerfs.sys.libc import call


def test_a_function_is_called_by_its_name_and_a_system_call_by_its_number() -> None:
    assert call("getpid") == os.getpid()
    if os.uname().machine == "x86_64":
        assert call(39) == os.getpid()  # __NR_getpid


def test_a_failure_is_an_error_that_names_the_path() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        call("chdir", b"/nowhere/at/all", path=b"/nowhere/at/all")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, b"/nowhere/at/all")


def test_buffers_are_filled_and_a_name_with_a_nul_is_refused() -> None:
    buffer = ctypes.create_string_buffer(4096)
    assert call("readlink", b"/proc/self/exe", buffer, 4096) > 0
    assert os.fsdecode(buffer.value).startswith("/")
    with pytest.raises(ValueError, match="embedded NUL"):
        call("chdir", b"/a\0b")
