# What cffi makes of batch.h; typed where it is wrapped.
from typing import Any

ffi: Any
lib: Any
