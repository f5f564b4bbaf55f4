# What cffi makes of lane.h; typed where it is wrapped.
from typing import Any

ffi: Any
lib: Any
