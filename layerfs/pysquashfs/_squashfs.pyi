# What cffi makes of read.h and write.h; typed where it is wrapped.
from typing import Any

ffi: Any
lib: Any
