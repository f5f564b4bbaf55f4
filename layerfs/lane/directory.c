/* New directories, made in the upper share of a directory that is at hand. One is at hand from then on, and has no names:
 * files are made in it at once. The union takes it in, with its descriptor, before it looks again (lane_edited). */

#include "state.h"

#include <fcntl.h>
#include <unistd.h>

/* Open a directory as the union does (sys/dirs.py), without a trace in its access time; one that may not be read is for
 * others. */
static int open_made(int at, const char *name) {
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
}

/* Have a new directory at hand, which has no names; false where its number is another's, or there is no room for it. */
static bool note_directory(struct lane *self, const struct directory *parent, int fd, const struct stat *st,
                           uint64_t *ino) {
    if (!S_ISDIR(st->st_mode) || !lane_own(self, st, ino) || is_taken(self, *ino)) return false;
    if (lane_directory(self, *ino, parent->ino, "", 0, NULL, 0, &fd, 1, NULL)) return false;
    lane_top(self, *ino, 0, !self->static_links, true, st->st_mode, st->st_uid, st->st_gid, NOWHERE);
    return true;
}

bool answer_mkdir(struct lane *self, const struct fuse_in_header *in, const char *body, size_t size) {
    struct fuse_mkdir_in mkdir;
    if (size < sizeof mkdir) return false;
    memcpy(&mkdir, body, sizeof mkdir);
    const char *name = name_in(body + sizeof mkdir, size -= sizeof mkdir);
    struct directory *directory = name ? directory_find(self, in->nodeid) : NULL;
    int at = share_for(self, in, directory);
    if (at < 0 || is_mark(name)) return false;
    int64_t found = free_name(self, directory, name, size - 1);
    if (found < 0) return false;
    mode_t before = umask(mkdir.umask & 0777); /* the host weighs it against default ACLs */
    int failed = mkdirat(at, name, mkdir.mode & 07777);
    umask(before);
    if (failed) return false; /* a whiteout is there, or it fails, which others do again */
    struct stat st;
    uint64_t ino;
    int fd = open_made(at, name);
    if (fd < 0 || fstat(fd, &st) || !note_directory(self, directory, fd, &st, &ino)) {
        if (fd >= 0) close(fd);
        unlinkat(at, name, AT_REMOVEDIR);
        return false;
    }
    directory->names[found].place = directory->top | LANE_DIRECTORY;
    directory->listed = false;
    if (self->static_links) st.st_nlink = 1;
    struct fuse_entry_out *entry = (struct fuse_entry_out *)BODY(self);
    fill_entry(self, entry, ino, &st);
    bool told = lane_send(self, in->unique, 0, sizeof *entry);
    if (!told) { /* it is there, and the kernel does not know it */
        lane_drop(self, ino);
        close(fd);
    }
    note_shown(self, LANE_MADE_DIRECTORY, directory, (uint32_t)found, ino, told ? fd : -1, &st);
    return true;
}
