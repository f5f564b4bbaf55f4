"""Plans as pictures."""

from xml.etree import ElementTree

from layerfs.plan.cost import Prices
from layerfs.plan.document import describe
from layerfs.plan.graph import Module
from layerfs.plan.picture import draw
from tests.plan.graphs import units_of

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*modules: Module, plan: list[int]) -> ElementTree.Element:
    units = units_of(*modules)
    return ElementTree.fromstring(draw(units, describe(units, plan, 9, Prices())))


def texts(picture: ElementTree.Element) -> list[str]:
    return [str(text.text) for text in picture.iter(f"{SVG}text")]


def test_layers_are_bands_top_first_with_modules_and_dependencies() -> None:
    calm, wild = Module("calm", 2048, chance=0.01), Module("wild", 5, chance=0.9, depends=("calm",))
    picture = drawn(calm, wild, plan=[0, 1])
    assert texts(picture)[1:] == [
        "layer 0", "2 KiB, changes in 1%", "layer 1", "5 B, changes in 90%", "wild", "calm",
    ] or texts(picture)[-2:] == ["wild", "calm"]  # fmt: skip
    assert len(list(picture.iter(f"{SVG}path"))) == 1


def test_names_of_strangers_are_text_only() -> None:
    picture = drawn(Module('<script>"&\x1b\x00\udc80\uffff', 1), plan=[0])
    assert [element.tag for element in picture.iter() if "script" in element.tag] == []
    assert any("<script>" in text for text in texts(picture))


def test_of_many_modules_the_largest_are_drawn() -> None:
    picture = drawn(*(Module(f"m{n:03}", n) for n in range(100)), plan=[0] * 100)
    shown = texts(picture)
    assert "and 40 smaller ones" in shown
    assert "m099" in shown
    assert "m000" not in shown
