/* New files and symlinks, made in the upper share of a directory that is at hand, and what is written to files until they are closed.
 * The union takes each edit in before it looks at a listing again (lane_edited). */

#include "state.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MARK ".wh."            /* names that begin so are marks of an overlay */
#define ENOUGH (256ull << 20)  /* bytes free, below which others look closer (fuse/space.py) */
#define FRESH 50000000         /* ns that a look at the free space is good for */

void lane_change_files(lane *self, int writeback, int scratch, int durable, const char *number_xattr,
                       int static_links) {
    self->makes = true;
    self->writeback = writeback;
    self->scratch = scratch;
    self->durable = durable;
    self->static_links = static_links;
    snprintf(self->number_xattr, sizeof self->number_xattr, "%s", number_xattr);
    self->uid = geteuid();
    self->gid = getegid();
}

int lane_edited(lane *self, lane_edit *edit) {
    if (self->edits_taken == self->edits_count) {
        self->edits_taken = self->edits_count = 0;
        return 0;
    }
    const struct edit *next = &self->edits[self->edits_taken++];
    *edit = (lane_edit){.directory = next->directory, .number = next->number, .kind = next->kind, .fd = next->fd,
                        .device = next->device, .inode = next->inode, .mode = next->mode, .uid = next->uid,
                        .gid = next->gid, .name = ""};
    if (next->kind == LANE_SET) return 1;
    const struct directory *directory = directory_find(self, next->directory); /* nobody has dropped it yet */
    if (next->fd >= 0) self->files--;
    if (!directory) {
        if (next->fd >= 0) close(next->fd);
        return lane_edited(self, edit);
    }
    const char *text = directory->text + directory->names[next->name].at;
    edit->size = (uint8_t)text[0];
    edit->name = text + 1;
    return 1;
}

/* Note an edit; upper_of has seen that there is room for what one request does. */
void note_edit(struct lane *self, uint32_t kind, const struct directory *directory, uint32_t name, uint64_t number) {
    self->edits[self->edits_count++] =
        (struct edit){.directory = directory->ino, .number = number, .name = name, .kind = kind, .fd = -1};
}

/* Note an edit of a directory itself, which shows this from now on; a descriptor of it goes along, or -1. */
void note_shown(struct lane *self, uint32_t kind, const struct directory *directory, uint32_t name, uint64_t number,
                int fd, const struct stat *st) {
    self->edits[self->edits_count++] =
        (struct edit){.directory = directory->ino, .number = number, .name = name, .kind = kind, .fd = fd,
                      .device = st->st_dev, .inode = st->st_ino, .mode = st->st_mode, .uid = st->st_uid, .gid = st->st_gid};
    if (fd >= 0) self->files++;
}

/* Close what nobody has taken in. */
void edits_close(struct lane *self) {
    for (; self->edits_taken < self->edits_count; self->edits_taken++)
        if (self->edits[self->edits_taken].fd >= 0) close(self->edits[self->edits_taken].fd);
}

bool is_mark(const char *name) { return !strncmp(name, MARK, sizeof MARK - 1) || strchr(name, '/'); }

static bool is_short(struct lane *self, int fd) {
    int64_t now = lane_now();
    struct statvfs vfs;
    if (!self->room_seen || now - self->room_seen > FRESH) {
        self->room_seen = now;
        self->room_short = fstatvfs(fd, &vfs) || (uint64_t)vfs.f_bavail * vfs.f_frsize < ENOUGH;
    }
    return self->room_short;
}

/* Return the descriptor of the upper's share of a directory, if names in it may be changed here; -1 where others do. */
int upper_of(struct lane *self, const struct directory *directory) {
    if (!self->makes || !directory || !directory->live || !directory->makes || directory->top == TOP_NONE) return -1;
    int fd = self->edits_count + EDITS_ONCE > EDITS_MAX ? -1 : directory->shares[directory->top];
    return fd < 0 || is_short(self, fd) ? -1 : fd;
}

/* Return such a share in which what a client makes comes out as it is to. */
int share_for(struct lane *self, const struct fuse_in_header *in, const struct directory *directory) {
    int fd = self->files < self->files_max && in->uid == self->uid ? upper_of(self, directory) : -1;
    struct stat st;
    if (fd >= 0 && in->gid != self->gid && (fstat(fd, &st) || !(st.st_mode & S_ISGID))) return -1;
    return fd;
}

/* Return the place of a name that is free, a new one if it never was taken; -1 if it is taken. */
int64_t free_name(struct lane *self, struct directory *directory, const char *name, size_t size) {
    int64_t found = name_find(self, directory, name, size);
    if (found < 0) {
        if (name_append(self, directory, name, size)) return -1;
        found = directory->count - 1;
        directory->names[found].place = LANE_GONE;
    }
    return directory->names[found].place == LANE_GONE ? found : -1;
}

/* Note what was made, of which the kernel is told; NULL where its number is another's. */
static struct inode *note_new(struct lane *self, struct directory *directory, uint32_t name, const struct stat *st) {
    uint64_t ino;
    if (!lane_own(self, st, &ino) || number_find(self, ino)) return NULL;
    struct inode *inode = inode_shown(self, directory, name, ino, st);
    if (!inode) return NULL;
    directory->names[name].place = directory->top;
    directory->listed = false;
    note_edit(self, LANE_MADE, directory, name, ino);
    return inode;
}

/* Note a file that was made, and that the kernel has open. */
static struct inode *note_made(struct lane *self, struct directory *directory, uint32_t name, int fd,
                               const struct stat *st) {
    struct inode *inode = S_ISREG(st->st_mode) ? note_new(self, directory, name, st) : NULL;
    if (!inode) return NULL;
    inode->fd = fd;
    inode->opens = 1;
    inode->written = inode->stored = true;
    self->files++;
    return inode;
}

bool answer_create(struct lane *self, const struct fuse_in_header *in, const char *body, size_t size) {
    struct fuse_create_in create;
    if (size < sizeof create) return false;
    memcpy(&create, body, sizeof create);
    const char *name = name_in(body + sizeof create, size -= sizeof create);
    struct directory *directory = name ? directory_find(self, in->nodeid) : NULL;
    int at = share_for(self, in, directory);
    if (at < 0 || is_mark(name)) return false;
    if (in->uid && create.mode & SET_IDS) return false; /* who writes then is noted elsewhere */
    int64_t found = free_name(self, directory, name, size - 1);
    if (found < 0) return false;
    mode_t before = umask(create.umask & 0777); /* the host weighs it against default ACLs */
    int fd = openat(at, name, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, create.mode & 07777);
    umask(before);
    if (fd < 0) return false; /* a whiteout is there, or it fails, which others do again */
    struct stat st;
    struct inode *inode = fstat(fd, &st) ? NULL : note_made(self, directory, (uint32_t)found, fd, &st);
    if (!inode) {
        unlinkat(at, name, 0);
        close(fd);
        return false;
    }
    struct fuse_entry_out *entry = (struct fuse_entry_out *)BODY(self);
    struct fuse_open_out open = {.fh = in->uid ? inode->ino | UNPRIVILEGED : inode->ino, .open_flags = FOPEN_KEEP_CACHE};
    fill_entry(self, entry, inode->ino, &st);
    memcpy(entry + 1, &open, sizeof open);
    if (!lane_send(self, in->unique, 0, sizeof *entry + sizeof open)) {
        inode_closed(self, inode);
        inode_forget(self, inode, 1);
    }
    return true;
}

/* Tell whether a directory keeps the numbers of symlinks in it, which carry no user.* xattrs themselves: one of them may
 * have had the inode that a new one gets (union/kept_numbers.py). */
static bool keeps_numbers(const struct lane *self, int at) {
    char name[sizeof self->number_xattr + 1];
    if (strncmp(self->number_xattr, "user.", 5)) return false;
    snprintf(name, sizeof name, "%ss", self->number_xattr);
    return fgetxattr(at, name, NULL, 0) >= 0;
}

/* Make a symlink; the body is its name and its target. */
bool answer_symlink(struct lane *self, const struct fuse_in_header *in, const char *body, size_t size) {
    size_t first = strnlen(body, size) + 1;
    const char *name = first < size ? name_in(body, first) : NULL, *to = body + first;
    if (!name || strnlen(to, size - first) != size - first - 1 || size - first < 2) return false;
    struct directory *directory = directory_find(self, in->nodeid);
    int at = share_for(self, in, directory);
    if (at < 0 || is_mark(name) || keeps_numbers(self, at)) return false;
    int64_t found = free_name(self, directory, name, first - 1);
    if (found < 0 || symlinkat(to, at, name)) return false;
    struct stat st;
    struct inode *inode = fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISLNK(st.st_mode)
                              ? NULL
                              : note_new(self, directory, (uint32_t)found, &st);
    if (!inode) {
        unlinkat(at, name, 0);
        return false;
    }
    struct fuse_entry_out *entry = (struct fuse_entry_out *)BODY(self);
    fill_entry(self, entry, inode->ino, &st);
    if (!lane_send(self, in->unique, 0, sizeof *entry)) inode_forget(self, inode, 1);
    return true;
}

/* Return what was made here and is still open, and is reached by its descriptor alone; NULL for anything else. */
struct inode *inode_made(struct lane *self, uint64_t ino) {
    struct inode *inode = number_find(self, ino);
    return inode && inode->written && inode->fd >= 0 ? inode : NULL;
}

/* Leave a file's mtime what the kernel was told last: while it caches writes, its own counts, which it sends
 * (fs/fuse/inode.c, fuse_change_attributes_common). */
static void keep_mtime(const struct lane *self, int fd, const struct stat *st) {
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, st->st_mtim};
    if (self->writeback) futimens(fd, times);
}

/* Write; what is written in part is taken back, and others do it again: a request that fails leaves nothing. */
bool answer_write(struct lane *self, const struct fuse_in_header *in, const char *body, size_t size) {
    struct fuse_write_in write;
    struct inode *inode = inode_made(self, in->nodeid);
    if (!inode || size < sizeof write) return false;
    memcpy(&write, body, sizeof write);
    if (write.size != size - sizeof write || write.offset > INT64_MAX || (write.fh & ~UNPRIVILEGED) != in->nodeid)
        return false;
    if (write.fh & UNPRIVILEGED && inode->mode & SET_IDS) return false;
    struct stat st;
    if (fstat(inode->fd, &st)) return false;
    ssize_t done = pwrite(inode->fd, body + sizeof write, write.size, (off_t)write.offset);
    if (done > 0 && done < (ssize_t)write.size && (off_t)write.offset + done > st.st_size)
        done = ftruncate(inode->fd, st.st_size) ? -1 : 0;
    if (done >= 0) keep_mtime(self, inode->fd, &st);
    if (done != (ssize_t)write.size) return false;
    struct fuse_write_out out = {.size = write.size};
    memcpy(BODY(self), &out, sizeof out);
    lane_send(self, in->unique, 0, sizeof out);
    return true;
}
