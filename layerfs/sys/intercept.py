"""Takes requests of a few opcodes away from libfuse, which reads the device by itself and would refuse them.

pyfuse3 has no handlers for them and no way to add any. So a library of ours exports libfuse's function that reads a
request, and is loaded where the dynamic linker looks first (`layerfs/lane/intercept.c`). That has to happen before
pyfuse3 is imported.
"""

import ctypes
import os
from collections.abc import Iterable

_NOLOAD = 4  # RTLD_NOLOAD, bits/dlfcn.h: here only to make a library global that is loaded already


class Intercept:
    """The requests that were set aside: at most one, which is taken before the next one is read."""

    def __init__(self, library: str, user: str, opcodes: Iterable[int]) -> None:
        """Set requests of these opcodes aside, from now on, for good; `user` is the module that will call libfuse.

        Raises OSError where the library cannot be loaded, or `user` calls another function than the one we know.
        """
        ours = ctypes.CDLL(library)
        if ours.layerfs_intercept(os.fsencode(user)):
            raise OSError(f"{user} does not read requests by fuse_session_receive_buf")
        ctypes.CDLL(library, ctypes.RTLD_GLOBAL | _NOLOAD)
        ctypes.c_uint64.in_dll(ours, "layerfs_raw_opcodes").value = sum(1 << opcode for opcode in opcodes)
        self.size = ctypes.c_uint32.in_dll(ours, "layerfs_raw_size")  # `value` is 0 while nothing is set aside
        self._message = ctypes.addressof(ctypes.c_char.in_dll(ours, "layerfs_raw_message"))

    def take(self) -> bytes:
        """Return the message that was set aside."""
        message = ctypes.string_at(self._message, self.size.value)
        self.size.value = 0
        return message
