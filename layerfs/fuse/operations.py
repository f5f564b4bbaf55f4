"""The answers (answers.py) in pyfuse3's forms, for the session."""

from typing import TYPE_CHECKING

import pyfuse3
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, InodeT, ReaddirToken, RequestContext, StatvfsData

from layerfs.fuse.answers import Answers
from layerfs.fuse.blocking import Blocking
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.failures import answered
from layerfs.fuse.kept import Kept
from layerfs.fuse.reply import blank_entry, guard, reply_bare
from layerfs.fuse.threads import Threaded
from layerfs.lane.events import LaneEvent
from layerfs.union.state import Attributes
from layerfs.union.union import Union

if TYPE_CHECKING:
    from layerfs.fuse.event_loop import Gate
    from layerfs.lane.lane import Lane


@guard
class Operations(Answers[EntryAttributes, FileInfo, ReaddirToken], pyfuse3.Operations):
    """Every request of the kernel, answered from one union."""

    def __init__(
        self, union: Union, config: ServeConfig, kept: Kept | None = None, blocking: Blocking | None = None
    ) -> None:
        """Go on with what was `kept`; own that."""
        super().__init__(union, config, kept or Kept(union), blocking or Threaded())
        # Answers are written out before the next request is looked at, so one of each kind is enough.
        self._entry = blank_entry(union.options.timeout)
        self._absent = blank_entry(union.options.timeout)
        self._absent.st_ino = InodeT(0)
        self._cached = FileInfo(keep_cache=True)
        self._through = FileInfo(keep_cache=True, direct_io=True)

    def answer_natively(self, lane: "Lane", gate: "Gate") -> None:
        """Hand over to a lane what it can answer, from now on, or go on with the lane that there is."""
        tables = self._kept.answer_natively(lane)
        self._kept.note_writing(natively=not self.is_eager)
        gate.between = tables.look
        gate.attend = {
            LaneEvent.WRITE: lambda: lane.written(*answered(self.write_now, *lane.writing())),  # not through libfuse
            LaneEvent.LIST: lambda: self.hand_over(lane),
        }

    @property
    def lane(self) -> "Lane | None":
        """The lane that stands at the device already."""
        return self._kept.tables.lane if self._kept.tables is not None else None

    def close(self) -> None:
        """End the helpers."""
        self._kept.close()

    def _fill(self, ino: int, st: Attributes) -> EntryAttributes:
        entry = self._entry
        entry.st_ino = ino
        entry.st_mode = st.st_mode
        entry.st_nlink = st.st_nlink
        entry.st_uid = st.st_uid
        entry.st_gid = st.st_gid
        entry.st_rdev = st.st_rdev
        entry.st_size = st.st_size
        entry.st_blocks = st.st_blocks
        entry.st_atime_ns = st.st_atime_ns
        entry.st_mtime_ns = st.st_mtime_ns
        entry.st_ctime_ns = st.st_ctime_ns
        return entry

    def _file(self, handle: int, *, through: bool) -> FileInfo:
        file = self._through if through else self._cached
        file.fh = FileHandleT(handle)
        return file

    def _list(self, page: ReaddirToken, name: bytes, ino: int, st: Attributes, cookie: int) -> bool:
        return pyfuse3.readdir_reply(page, name, self._fill(ino, st), cookie)

    def _list_bare(self, page: ReaddirToken, name: bytes, cookie: int) -> bool:
        return reply_bare(page, name, cookie)

    def _counts(self, page: ReaddirToken) -> bool:
        return True  # READDIRPLUS

    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        vfs, answer = self.union.statvfs(), StatvfsData()
        answer.f_bsize, answer.f_frsize = vfs.f_bsize, vfs.f_frsize
        answer.f_blocks, answer.f_bfree, answer.f_bavail = vfs.f_blocks, vfs.f_bfree, vfs.f_bavail
        answer.f_files, answer.f_ffree, answer.f_favail = vfs.f_files, vfs.f_ffree, vfs.f_favail
        answer.f_namemax = 255
        return answer
