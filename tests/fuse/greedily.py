"""An import that lets nobody else have the interpreter, once the file named by the environment is there."""

from itertools import repeat

import tests.fuse.slowly  # noqa: F401

sum(repeat(0, 1 << 60))  # one call of C, which is never interrupted
