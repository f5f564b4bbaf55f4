"""What the report says, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks import targets
from benchmarks.records import Key, Results
from benchmarks.report.document import Bullets, Cell, Document, Figure, Heading, Table, Text
from benchmarks.stats import ratio, spread

SERVER = ".server-cpu"
HEADLINE = (
    ("mount and first ls [ms]", Key("mount", "own/10", "answered")),
    ("stat", Key("lookup", "own/10", "stat.cold")),
    ("absent name", Key("lookup", "own/10", "absent.cold")),
    ("walk", Key("walk", "own/10", "walk.cold")),
    ("open, read, close", Key("open", "own/10", "open.cold")),
    ("create", Key("create", "own/10", "create.cold")),
    ("copy-up", Key("copyup", "own/10", "append.cold")),
    ("unlink", Key("unlink", "own/10", "unlink.cold")),
    ("stat, shared/40", Key("lookup", "shared/40", "stat.cold")),
    ("absent, shared/40", Key("lookup", "shared/40", "absent.cold")),
    ("walk, shared/40", Key("walk", "shared/40", "walk.cold")),
)
PACKED = (
    ("mount and first ls [ms]", Key("mount", "own.sqfs/10", "answered")),
    ("stat", Key("lookup", "own.sqfs/10", "stat.cold")),
    ("absent", Key("lookup", "own.sqfs/10", "absent.cold")),
    ("walk", Key("walk", "own.sqfs/10", "walk.cold")),
    ("open", Key("open", "own.sqfs/10", "open.cold")),
    ("mount, shared [ms]", Key("mount", "shared.sqfs/10", "answered")),
    ("stat, shared", Key("lookup", "shared.sqfs/10", "stat.cold")),
    ("absent, shared", Key("lookup", "shared.sqfs/10", "absent.cold")),
    ("walk, shared", Key("walk", "shared.sqfs/10", "walk.cold")),
    ("open, shared", Key("open", "shared.sqfs/10", "open.cold")),
    ("random [MB/s]", Key("read", "mixed.sqfs/10 data=random", "sequential.cold")),
    ("text [MB/s]", Key("read", "mixed.sqfs/10 data=text", "sequential.cold")),
    ("resident [MB]", Key("memory", "mixed.sqfs/10", "read")),
)
HEADLINES = (
    (
        "Directories",
        HEADLINE,
        "Median time of one operation in us (mount and first ls: ms), nothing cached. 10 layers of 10,000 files, each"
        " directory in one of them; shared/40: 40 layers, every directory in each. Less is better; smaller or in"
        " brackets the ratio to Debian's fuse-overlayfs.",
    ),
    (
        "Images",
        PACKED,
        "Ten squashfs images (zstd, blocks of 128 KiB) of 10,000 files in all, under a writable layer: median time of"
        " one operation in us (mount and first ls: ms), nothing cached; a file of 256 MiB; resident memory of all"
        " servers after a walk and after every file was read. Less is better, but of MB/s; smaller or in brackets the"
        " ratio to fuse-overlayfs 1.10 over ten squashfuse_ll, without root.",
    ),
)
METHOD = (
    "Rounds are the outermost loop and subjects the innermost, in a rotating order: what drifts hits all alike.",
    "A ratio is the median of the ratios of samples taken in the same round; a spread is the two quartiles."
    " `best rounds` is the ratio of the best samples of both: disturbance only ever adds time.",
    "Every sample has a fresh mount with an empty upper. cold: page, dentry and inode caches dropped (twice, after a"
    " sync) and the servers idle again; warm: the same pass once more; again: caches dropped under the used mount.",
    "Passes are timed inside a C program; what its loop costs for each operation is under Host (loop ns).",
    "The digest of each subject's tree (names, kinds, modes, owners, sizes, times, targets, bytes) is compared with the"
    " same files on the host's filesystem without layers.",
    "Loops and subjects run at nice -20 where that is allowed. Not under SCHED_RR, which makes chains of FUSE servers"
    " several times slower: it never wakes a server on its client's CPU.",
    "A busy host makes FUSE look better: a CPU that is awake serves a request sooner than one that sleeps. Beyond"
    " --quick each sample waits for a quiet host and is taken again, at most three times, if it was disturbed; how busy"
    " the rest of the host was is kept with it (`others`).",
)


def compose(results: Results, plots: Sequence[Figure], reading: str = "") -> Document:
    """Return the whole report; `reading` is a person's own words about it, paragraphs parted by empty lines."""
    document = Document()
    begun = results.one("run")
    when = f"Measured {begun.get('started')}, scale {begun.get('scale')}."
    document.add(Heading("layerfs benchmarks", 1), Text(when))
    for title, columns, words in HEADLINES:
        table = headline(results, columns)
        if table.rows:
            document.add(Heading(title), Text(words), table)
    if reading:
        document.add(Heading("Reading"), *(Text(part.strip()) for part in reading.split("\n\n") if part.strip()))
    document.add(Heading("Plots"), *plots)
    document.add(Heading("What the project aims at"), target_table(results))
    host(document, results)
    for question in results.kind("question"):
        ask(document, results, question["name"], question["text"])
    trouble(document, results)
    return document


def headline(results: Results, columns: Sequence[tuple[str, Key]]) -> Table:
    """Return one row for each subject that has any of the columns; those of HEADLINE go into the README."""
    present = [(title, key) for title, key in columns if key in results.values]
    rows = [
        [Cell(subject), *(measured(results, key, subject, small=False) for _, key in present)]
        for subject in results.subjects()
    ]
    rows = [row for row in rows if any(cell.text for cell in row[1:])]
    return Table(["subject", *(title for title, _ in present)], rows)


def target_table(results: Results) -> Table:
    """Return the project's own aims: bound, measured, met."""
    rows = []
    for one in targets.verdicts(results):
        if one.found is None:
            continue
        against = f"{one.target.against} {one.target.against_case}".strip() or "(a bound)"
        small = f"{one.found.low:.3g} to {one.found.high:.3g}"
        rows.append(
            [
                Cell(one.target.title),
                Cell(against),
                Cell(f"{one.target.bound:g}"),
                Cell(f"{one.found.median:.3g}", small, one.met),
                Cell("" if one.best is None else f"{one.best:.3g}"),
                Cell(number(one.ours, one.unit)),
                Cell(number(one.theirs, one.unit)),
                Cell("yes" if one.met else "no", good=one.met),
            ]
        )
    return Table(["target", "against", "at most", "measured", "best rounds", "layerfs", "theirs", "met"], rows)


def number(value: float | None, unit: str) -> str:
    """Return a number with its unit; nothing for nothing."""
    return "" if value is None else f"{value:.4g} {'' if unit == '1' else unit}".strip()


def host(document: Document, results: Results) -> None:
    """Add the host, the method, the subjects and the digests."""
    facts = results.one("host")
    document.add(
        Heading("Host"),
        Bullets([f"{name.replace('_', ' ')}: {value}" for name, value in facts.items() if name != "kind"]),
        Heading("Method"),
        Bullets(METHOD),
        Heading("Subjects"),
    )
    rows = [
        [
            Cell(one["name"]),
            Cell(f"missing: {one['missing']}" if one["missing"] else one["version"]),
            Cell(one["about"]),
        ]
        for one in results.kind("subject")
    ]
    document.add(Table(["subject", "version", "what it is"], rows), Heading("The same tree?"))
    trees = list(dict.fromkeys(f"{one['tree']}/{one['layers']}" for one in results.kind("digest")))
    by: dict[str, dict[str, bool]] = {}
    for one in results.kind("digest"):
        by.setdefault(one["subject"], {})[f"{one['tree']}/{one['layers']}"] = one["same"]
    document.add(
        Table(
            ["subject", *trees],
            [[Cell(subject), *(same(found, tree) for tree in trees)] for subject, found in by.items()],
        )
    )


def same(found: Mapping[str, bool], tree: str) -> Cell:
    """Say whether a subject showed a tree as it is."""
    if tree not in found:
        return Cell("")
    return Cell("same" if found[tree] else "DIFFERENT", good=found[tree])


def ask(document: Document, results: Results, name: str, text: str) -> None:
    """Add a question: its words, then for each case subjects down and measures across."""
    keys = [key for key in results.values if key.question == name]
    if not keys:
        return
    first, _, rest = text.partition("\n")
    document.add(Heading(f"{name}: {first}"))
    if rest.strip():
        document.add(Text(" ".join(rest.split())))
    for case in dict.fromkeys(key.case for key in keys):
        here = [key for key in keys if key.case == case]
        document.add(Heading(case, 3), of_case(results, [key for key in here if not key.measure.endswith(SERVER)]))
        servers = [key for key in here if key.measure.endswith(SERVER)]
        if servers:
            document.add(Heading(f"{case}: CPU of the servers, us for each operation", 3), of_case(results, servers))


def of_case(results: Results, keys: Sequence[Key]) -> Table:
    """Return medians with quartiles and the ratio to the peer."""
    columns = [f"{key.measure.removesuffix(SERVER)} [{results.units[key]}]" for key in keys]
    rows = [[Cell(subject), *(measured(results, key, subject) for key in keys)] for subject in results.subjects()]
    return Table(["subject", *columns], [row for row in rows if any(cell.text for cell in row[1:])])


def measured(results: Results, key: Key, subject: str, small: bool = True) -> Cell:
    """Return one median; beside it the quartiles and the paired ratio."""
    values = results.of_subject(key, subject)
    if not values:
        return Cell("")
    found = spread(list(values.values()))
    peer = targets.peer_of(key)
    against = ratio(values, results.of_subject(key, peer)) if subject != peer else None
    times = f"{against.median:.2f}x" if against and not key.measure.endswith(SERVER) else ""
    spread_words = f"{found.low:.4g} to {found.high:.4g}" if found.n > 1 and small else ""
    return Cell(f"{found.median:.4g}", ", ".join(word for word in (spread_words, times) if word))


def trouble(document: Document, results: Results) -> None:
    """Add what could not be measured, and why."""
    groups: dict[str, list[str]] = {}
    for kind, word in (("failed", "error"), ("skipped", "reason"), ("refused", "reason")):
        for one in results.kind(kind):
            groups.setdefault(f"{kind}: {one['subject']}: {one[word]}", []).append(f"{one['question']} {one['case']}")
    items = [f"{what} ({', '.join(dict.fromkeys(where))})" for what, where in groups.items()]
    document.add(Heading("What was not measured"), Bullets(items or ["Everything that was asked was measured."]))
