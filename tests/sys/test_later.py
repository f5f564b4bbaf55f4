"""Imports that are put off."""

import subprocess
import sys

from tests.waiting import PATIENCE

PROGRAM = """
import sys
from layerfs.sys.later import put_off
put_off("colorsys", "sys")
import colorsys
print("rgb_to_hsv" in vars(colorsys), type(sys.modules["sys"]).__name__)
print(colorsys.rgb_to_hsv(0, 0, 0), sys.modules["colorsys"].__spec__ is not None)
"""


def test_a_module_that_was_put_off_is_imported_when_something_is_asked_of_it() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.splitlines() == ["False module", "(0.0, 0.0, 0) True"]


LATER = """
import sys
from layerfs.sys.later import later
(minidom,) = later("xml.dom", "minidom")
print("xml.dom.minidom" in sys.modules, minidom.Node.ELEMENT_NODE, "Node" in vars(minidom))
try:
    minidom.nothing
except AttributeError as error:
    print(error)
"""


def test_a_name_of_ours_stands_for_its_module() -> None:
    done = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.splitlines() == ["False 1 True", "module 'xml.dom.minidom' has no attribute 'nothing'"]
