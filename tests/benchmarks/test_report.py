"""The report: Markdown, plots, and one HTML page that a real browser shows."""

import re
import struct
import subprocess
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks import report, targets
from benchmarks.records import Record, Results
from tests.benchmarks.samples import head, sample
from tests.waiting import PATIENCE

SUBJECTS = {"kernel-overlay": 1.0, "fuse-overlayfs-1.10": 8.0, "layerfs-fuse": 4.0, "<odd & name>": 2.0}
CHROMIUM = (
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of results made by hand, with data for every plot."""
    records: list[Record] = head(*SUBJECTS, targets.TWIN, targets.PIPELINE)
    for subject, cost in SUBJECTS.items():
        for tree in ("own", "shared"):
            for layers in (1, 10, 40):
                for measure in ("stat.cold", "absent.cold"):
                    values = [cost * layers * factor for factor in (1.0, 1.1, 0.9)]
                    records += sample(subject, measure, values, case=f"{tree}/{layers}")
        for count in (1, 16):
            for measure in ("all", "each"):
                where = f"own/10 concurrency={count}"
                records += sample(subject, measure, [cost * count], question="concurrency", case=where, unit="ms")
    for subject, cost in ((targets.TWIN, 25.0), (targets.PIPELINE, 100.0)):
        records += sample(subject, "stat.cold", [cost, cost], case="own.sqfs/10")
    where_not = {"question": "lookup", "case": "own/2", "subject": "bind", "round": 0}
    records.append({"kind": "failed", "error": "no", **where_not})
    out = tmp_path_factory.mktemp("report")
    (out / "READING.md").write_text("What it means.\n\nIn plain words.\n")
    report.write(Results.of(records), out)
    return out


def test_markdown_says_what_was_measured_and_what_was_not(written: Path) -> None:
    text = (written / "report.md").read_text()
    assert "| cold stat, own, 10 layers | fuse-overlayfs-1.10 | 0.8 | 0.5 (0.5 to 0.5) | 0.5 |" in text
    assert "| layerfs-fuse | 40 (38 to 42, 0.50x) |" in text
    assert "- failed: bind: no (lookup own/2)" in text
    assert "In plain words." in text


def test_images_have_a_headline_of_their_own_with_ratios_to_the_pipeline(tmp_path: Path) -> None:
    subjects = {targets.TWIN: 25.0, targets.PIPELINE: 100.0}
    records = head(*subjects)
    for subject, cost in subjects.items():
        records += sample(subject, "stat.cold", [cost], case="own.sqfs/10")
    report.write(Results.of(records), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "## Images\n" in text and "## Directories\n" not in text
    assert "| layerfs-fuse-rootless | 25 (0.25x) |" in text


def test_plots_exist_as_svg_and_png(written: Path) -> None:
    names = {"lookup-by-layers", "mount-by-concurrency", "ratios", "ratios-of-images", "latency-distributions"}
    files = {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    assert {path.name for path in (written / "plots").iterdir()} == files


class Outside(HTMLParser):
    """Collects every attribute that would load something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            leads_away = name.endswith("href") and not (value or "").startswith(("#", "data:"))
            if leads_away or name in ("src", "srcset", "data", "action"):
                self.found.append(f"{tag} {name}={value}")


def test_html_page_loads_nothing_from_outside(written: Path) -> None:
    page = Outside()
    page.feed((written / "report.html").read_text())
    assert page.found == []


def chromium(profile: Path, *arguments: str) -> str:
    command = [*CHROMIUM, f"--user-data-dir={profile}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout


def test_a_real_browser_shows_tables_and_plots(written: Path, scratch: Path, require: Callable[..., None]) -> None:
    require("chromium")
    dom = chromium(scratch / "profile", "--dump-dom", (written / "report.html").as_uri())
    assert dom.count("<figure") == 5
    assert dom.count("<svg") == 5
    assert "&lt;odd &amp; name&gt;" in dom
    assert re.search(r'<td class="good">0.5', dom)
    ids = re.findall(r'\bid="([^"]+)"', dom)
    assert len(ids) == len(set(ids))


MEASURE = """<script>addEventListener("load", () => { document.title =
  "page " + document.documentElement.scrollWidth + " tables " +
  Math.max(...[...document.querySelectorAll(".wide")].map(one => one.scrollWidth)) })</script></body>"""


@pytest.mark.parametrize("width", [1300, 500])  # a window, and about the narrowest that chromium makes
def test_the_page_fits_a_window_and_a_phone(
    width: int, written: Path, scratch: Path, require: Callable[..., None]
) -> None:
    """On a phone a wide table may scroll within itself; the page never does."""
    require("chromium")
    page = scratch / "page.html"
    page.write_text((written / "report.html").read_text().replace("</body>", MEASURE))
    dom = chromium(scratch / "profile", f"--window-size={width},2000", "--hide-scrollbars", "--dump-dom", page.as_uri())
    found = re.search(r"<title>page (\d+) tables (\d+)", dom)
    assert found is not None
    assert int(found[1]) <= width
    assert width < 1300 or int(found[2]) <= width


def test_a_screenshot_is_not_blank(written: Path, scratch: Path, require: Callable[..., None]) -> None:
    require("chromium")
    shot = scratch / "shot.png"
    uri = (written / "report.html").as_uri()
    chromium(scratch / "profile", f"--screenshot={shot}", "--window-size=1000,3000", "--hide-scrollbars", uri)
    width, rows = pixels(shot)
    assert width == 1000
    inked = [index for index, row in enumerate(rows) if len({row[at : at + 3] for at in range(0, len(row), 3)}) > 8]
    assert len(inked) > 0.3 * len(rows), "most of the page is empty"
    assert max(inked) > 0.9 * len(rows), "the page ends early"


def pixels(png: Path) -> tuple[int, list[bytes]]:
    """Decode an 8-bit RGB or RGBA PNG: its width, and its rows as RGB bytes."""
    data, at, packed = png.read_bytes(), 8, b""
    width = height = step = 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, height, _, colour = struct.unpack(">IIBB", body[:10])
            step = {2: 3, 6: 4}[colour]
        packed += body if kind == b"IDAT" else b""
        at += size + 12
    return width, unfilter(zlib.decompress(packed), width, height, step)


def unfilter(raw: bytes, width: int, height: int, step: int) -> list[bytes]:
    """Undo the PNG filters (RFC 2083, chapter 6)."""
    length, rows, before = width * step, [], bytes(width * step)
    for y in range(height):
        kind, line = raw[y * (length + 1)], bytearray(raw[y * (length + 1) + 1 : (y + 1) * (length + 1)])
        for x in range(length):
            left, up, corner = line[x - step] if x >= step else 0, before[x], before[x - step] if x >= step else 0
            guess = (0, left, up, (left + up) // 2, paeth(left, up, corner))[kind]
            line[x] = (line[x] + guess) & 255
        before = bytes(line)
        rows.append(b"".join(before[x : x + 3] for x in range(0, length, step)))
    return rows


def paeth(left: int, up: int, corner: int) -> int:
    """The PNG predictor."""
    guess = left + up - corner
    distances = (abs(guess - left), abs(guess - up), abs(guess - corner))
    return (left, up, corner)[distances.index(min(distances))]
