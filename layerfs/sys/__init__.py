"""The only room with raw system calls and descriptor ownership; no policy."""
