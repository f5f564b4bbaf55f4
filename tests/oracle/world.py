"""One example: equal layers and equal operations on two mounts, everything compared; then the uppers crosswise."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from tests.oracle import known
from tests.oracle.agent import Agent
from tests.oracle.operations import Actor, Operation
from tests.oracle.plain import DECIDED_BY_THE_UNION, FOLLOWING, OPERATIONS, UnionActor
from tests.oracle.subjects import Place, Subject, forget, release
from tests.oracle.trees import Kind, Layer, Marks, Tree, build, differences, prune
from tests.waiting import PATIENCE


@dataclass(frozen=True)
class Setting:
    """How both sides are mounted, and who reads the uppers afterwards."""

    kernel: Subject
    subject: Subject
    prefix: str = "trusted.overlay."
    copy_on_exdev: bool = False
    readers: tuple[Subject, ...] = ()  # of the subject's upper
    images: bool = False  # the lowers are squashfs images, which the kernel's side mounts


AT_ONCE = (("LAYERFS_LANE", "1"),)  # the lane answers from the first request on, not after some dozens
REDIRECT = Setting(
    Subject("kernel", "redirect_dir=on,index=on,xino=off"),
    Subject("layerfs", "dev,suid,redirect_dir=on,nolane"),
    readers=(Subject("kernel", "redirect_dir=on,index=off,xino=off"),),
)
WITH_LANE = replace(REDIRECT, subject=Subject("layerfs", "dev,suid,redirect_dir=on,lane", AT_ONCE))
COPYING = Setting(
    Subject("kernel", "redirect_dir=off,index=on,xino=off"),
    Subject("layerfs", "dev,suid,redirect_dir=off"),
    copy_on_exdev=True,
    readers=(Subject("kernel", "redirect_dir=off,index=off,xino=off"), Subject("fuse-overlayfs", "dev,suid")),
)
ROOTLESS = Setting(
    Subject("kernel", "userxattr,xino=off"),
    Subject("layerfs", environment=AT_ONCE),
    prefix="user.overlay.",
    copy_on_exdev=True,
    readers=(Subject("kernel", "userxattr,xino=off"),),
)

PLAIN = Setting(
    Subject("kernel", "redirect_dir=on,index=on,xino=off"),
    Subject("union"),
    readers=(Subject("kernel", "redirect_dir=on,index=off,xino=off"),),
)


IMAGES = Setting(
    Subject("kernel", "redirect_dir=on,index=on,xino=off"),
    Subject("layerfs", "dev,suid,redirect_dir=on"),
    readers=(Subject("kernel", "redirect_dir=on,index=off,xino=off"),),
    images=True,
)
IMAGES_WITH_LANE = replace(IMAGES, subject=Subject("layerfs", "dev,suid,redirect_dir=on,lane", AT_ONCE))


@dataclass(frozen=True)
class World:
    """The layers, top first, and how the subject's are marked (the kernel's always as it wants them)."""

    lowers: tuple[Layer, ...]
    marks: Marks = Marks.KERNEL

    def has_hardlinks(self) -> bool:
        return any(node.kind is Kind.HARDLINK for layer in self.lowers for node in layer.values())


class Mismatch(AssertionError):
    """Kernel overlayfs and the subject differ."""


class Failed(AssertionError):
    """An example failed: after which operations, and why."""

    def __init__(self, operations: tuple[Operation, ...], cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.operations = operations


def run(world: World, operations: Iterable[Operation], setting: Setting = REDIRECT) -> None:
    """Run one example from literals; raises Failed. Leaves nothing behind."""
    explore(world, lambda _: operations, setting)


def explore(world: World, choose: "Callable[[Pair], Iterable[Operation]]", setting: Setting) -> None:
    """Run one example whose operations may be chosen while it runs; a failure carries them as `operations`."""
    done: list[Operation] = []
    with scratch() as base:
        pair = Pair(base, world, setting)
        try:
            pair.mount()
            for operation in choose(pair):
                done.append(operation)
                pair.step(len(done), operation)
            pair.read_crosswise()
        except Exception as error:
            raise Failed(tuple(done), error) from error
        finally:
            pair.remove()


def script(world: World, operations: Sequence[Operation], setting: Setting) -> str:
    """The example as a program, for a report."""
    name = next((name for name, value in globals().items() if value is setting), repr(setting))
    return (
        "from tests.oracle.trees import Kind, Marks, Node\n"
        f"from tests.oracle.world import {name}, World, run\n"
        f"run({world!r},\n    {list(operations)!r},\n    {name})"
    )


@contextmanager
def scratch() -> Iterator[bytes]:
    """A directory of our own, removed with everything that is still mounted below it."""
    base = os.fsencode(tempfile.mkdtemp(prefix="oracle-"))
    os.chmod(base, 0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)
        if os.path.exists(base):  # paths too long for rmtree, modes it cannot enter
            subprocess.run(["rm", "-rf", os.fsdecode(base)], check=False)


class Pair:
    """The two mounts of one example and the agents that work in them."""

    def __init__(self, base: bytes, world: World, setting: Setting) -> None:
        self.world, self.setting = world, setting
        pruned = World(prune(world.lowers))
        self.kernel = _place(base + b"/k", pruned, Marks.KERNEL, setting.prefix)
        shown = pruned if setting.subject.name == "kernel" else world
        self.subject = _place(base + b"/s", shown, world.marks, setting.prefix)
        if setting.images:
            self.kernel = _packed(self.kernel, mount=True)
            self.subject = _packed(self.subject, mount=False)
        self._agents: ExitStack = ExitStack()
        self._refused_rename = False  # known.py: "mtime of directories after a refused rename"

    def mount(self) -> None:
        self.setting.kernel.mount(self.kernel)
        self.setting.subject.mount(self.subject)
        self._start_agents()

    def _start_agents(self) -> None:
        self._agents = ExitStack()
        copy = self.setting.copy_on_exdev
        self._on_kernel = self._agents.enter_context(Agent(lambda: Actor(self.kernel.target, copy)))
        self._on_subject = self._agents.enter_context(_agent_of(self.setting.subject, self.subject))

    def close(self) -> None:
        """Take everything away, whatever state it is in."""
        self._agents.close()
        release(self.kernel.target)
        release(self.subject.target)

    def remove(self) -> None:
        """Take everything away, the images' mounts too."""
        self.close()
        for lower in self.kernel.lowers if self.setting.images else ():
            release(lower)

    def types(self) -> Mapping[bytes, str]:
        """The names in the tree now, and what they are."""
        answer, types = self._on_kernel.perform(("types",))
        return types if answer == "ok" else {}

    def step(self, number: int, operation: Operation) -> None:
        """Perform one operation on both and compare the answers."""
        match operation[0]:
            case "checkpoint":
                self.compare(f"at step {number}")
            case "forget":
                if not self.is_plain:
                    forget(self.subject.target)
            case "remount":
                self._remount(number)
            case name if self.is_plain and name not in OPERATIONS:
                return
            case _ if self.is_plain:
                self._compare_plain(number, operation)
            case _:
                self._compare_answers(number, operation)

    @property
    def is_plain(self) -> bool:
        """Whether the subject is the union without FUSE."""
        return self.setting.subject.name == "union"

    def _compare_plain(self, number: int, operation: Operation) -> None:
        """The kernel first: only what it did, or refused for a union's reasons, is asked of the union."""
        name, *arguments = operation
        resolved = [self._resolve(value, name) if _is_path(name, i) else value for i, value in enumerate(arguments)]
        expected = self._on_kernel.perform(operation)
        self._note_refused(operation, expected)
        if expected[0] == "ok" or (expected[1] in DECIDED_BY_THE_UNION and name in ("rmdir", "removexattr")):
            actual = self._on_subject.perform((name, *resolved))
            if expected != actual and not known.is_excused(operation, expected, actual):
                raise Mismatch(f"step {number} {operation}: kernel {expected}, union {actual}")

    def _note_refused(self, operation: Operation, expected: tuple[str, object]) -> None:
        self._refused_rename |= _is_rename(operation) and expected == ("error", "ENOTEMPTY")

    def _resolve(self, path: bytes, name: str) -> bytes:
        answer, resolved = self._on_kernel.perform(("resolve", path, name in FOLLOWING))
        return resolved if answer == "ok" else path

    def _compare_answers(self, number: int, operation: Operation) -> None:
        self._on_kernel.send(operation)
        self._on_subject.send(operation)
        expected, actual = self._on_kernel.receive(), self._on_subject.receive()
        self._note_refused(operation, expected)
        if expected != actual and not known.is_excused(operation, expected, actual):
            raise Mismatch(f"step {number} {operation}: kernel {expected}, {self.setting.subject.name} {actual}")

    def compare(self, when: str) -> Tree:
        """Compare the whole trees; the subject's."""
        self._on_kernel.send(("tree",))
        self._on_subject.send(("tree",))
        expected, actual = _tree_of("kernel", self._on_kernel), _tree_of(self.setting.subject.name, self._on_subject)
        self._demand_equal(when, expected, actual)
        if self.setting.subject.name in ("layerfs", "union"):
            check_numbers(actual)
        return actual

    def _demand_equal(self, when: str, expected: Tree, actual: Tree) -> None:
        if self._refused_rename:
            expected, actual = expected.without_directory_times(), actual.without_directory_times()
        if self.world.has_hardlinks():
            expected = expected.with_visible_links(actual)
        lines = differences(expected, actual)
        if lines:
            raise Mismatch(f"{when}:\n  " + "\n  ".join(lines[:20]))

    def _remount(self, number: int) -> None:
        """Take the subject's mount away and make it again: equal trees, equal inode numbers."""
        before = self.compare(f"before the remount of step {number}")
        self._agents.close()
        release(self.subject.target)
        self.setting.subject.mount(self.subject)
        self._start_agents()
        after = self.compare(f"after the remount of step {number}")
        if self.setting.subject.name in ("layerfs", "union") and before.numbers != after.numbers:
            changed = sorted(path for path, now in after.numbers.items() if before.numbers[path] != now)
            raise Mismatch(f"step {number}: a remount changed st_ino of {changed}")

    def read_crosswise(self) -> None:
        """Read the kernel's upper by the subject and the subject's upper by each reader."""
        expected = self.compare("before reading crosswise")
        self.close()
        if self.world.has_hardlinks():
            return  # see known.py
        self._read(self.setting.subject, self.kernel, "the kernel's upper", expected)
        for reader in self.setting.readers:  # with lowers whose marks everybody knows
            place = Place(self.kernel.lowers, self.subject.target, self.subject.upper, self.subject.work)
            try:
                self._read(reader, place, f"{self.setting.subject.name}'s upper", expected)
            except Mismatch as mismatch:
                if reader.name != "fuse-overlayfs":  # known.py: "fuse-overlayfs under load"
                    raise
                if known.CIRCULAR in str(mismatch):
                    continue
                self._read(reader, place, f"{self.setting.subject.name}'s upper", expected)

    def _read(self, reader: Subject, place: Place, what: str, expected: Tree) -> None:
        with reader.mounted(place), _agent_of(reader, place) as agent:
            if reader.name == "fuse-overlayfs":  # it counts the links of a file as it meets their names
                agent.send(("tree",))
                _tree_of("as it is met", agent)
            agent.send(("tree",))
            actual = _tree_of(f"{what} as {reader.name} reads it", agent)
        if any(record.nlink is None for record in expected.records.values() if record.type != "d"):
            actual = actual.without_links()
        self._demand_equal(f"{what} as {reader.name} reads it", expected, actual)


def _agent_of(subject: Subject, place: Place) -> Agent:
    return Agent(lambda: UnionActor(place) if subject.name == "union" else Actor(place.target))


def _is_rename(operation: Operation) -> bool:
    return "rename" in (operation[0], operation[2][0] if operation[0] == "as" else "")


def _is_path(operation: str, position: int) -> bool:
    """Whether an argument of an operation is a path (a symlink's target is none)."""
    if operation == "symlink":
        return position == 1
    return position == 0 or (position == 1 and operation in ("rename", "link"))


def _tree_of(what: str, agent: Agent) -> Tree:
    answer, tree = agent.receive()
    if answer != "ok":
        raise Mismatch(f"{what}: the tree cannot be read: {tree}")
    return tree  # type: ignore[no-any-return]


def check_numbers(tree: Tree) -> None:
    """st_ino is unique but for hard links, and readdir gives the same number."""
    seen: dict[int, bytes] = {}
    for path, (st_ino, d_ino) in tree.numbers.items():
        if st_ino != d_ino:
            raise Mismatch(f"{path!r}: st_ino {st_ino} but d_ino {d_ino}")
        other = seen.setdefault(st_ino, path)
        if other != path and tree.records[path][:9] != tree.records[other][:9]:
            raise Mismatch(f"{path!r} and {other!r} share st_ino {st_ino}")
        if other != path and (tree.records[path].nlink or 1) < 2:
            raise Mismatch(f"{path!r} and {other!r} share st_ino {st_ino} but are no hard links")


def _place(base: bytes, world: World, marks: Marks, prefix: str) -> Place:
    os.mkdir(base)
    names = []
    for index, layer in enumerate(world.lowers):
        names.append(base + b"/l%d" % index)
        build(names[-1], layer, marks, prefix)
    return Place(tuple(names), base + b"/m", base + b"/u", base + b"/w")


def _packed(place: Place, *, mount: bool) -> Place:
    """Pack the lowers into images; mounted by the kernel's squashfs, or as files."""
    lowers = []
    for lower in place.lowers:
        image = lower + b".sqfs"
        os.setxattr(lower, "user.image", b"")  # the kernel's listxattr(2) fails in an image without any
        _run("mksquashfs", lower, image, "-noappend", "-quiet", "-no-progress", "-comp", "lz4")
        lowers.append(image)
        if mount:
            lowers[-1] = lower + b".m"
            os.mkdir(lowers[-1])
            _run("mount", "-t", "squashfs", "-o", "loop,ro", image, lowers[-1])
    return replace(place, lowers=tuple(lowers))


def _run(*command: str | bytes) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise AssertionError(f"{command!r}: {done.stderr.decode()}")
