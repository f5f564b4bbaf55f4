"""What tests of a process that stands by, and of those who ask it, begin with."""

from pathlib import Path


class RuntimeDirectory:
    """A runtime directory of our own, at `place`, and the program that somebody stands by for."""

    def __init__(self, place: Path) -> None:
        self.program = place / "program"
        self.program.touch()
        self.place = place / "run"
        self.place.mkdir(mode=0o700)
