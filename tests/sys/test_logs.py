"""Logging is set up by the first line, once."""

from layerfs.sys import logs


def test_logging_is_set_up_by_the_first_line_and_once() -> None:
    begun: list[int] = []
    logs.begin_later(lambda: begun.append(1))
    assert not begun
    assert logs.logger("layerfs.x").name == "layerfs.x"
    logs.logger("layerfs.x")
    logs.begin_now()
    assert begun == [1]
