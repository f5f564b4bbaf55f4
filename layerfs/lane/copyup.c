/* The first write to a small, plain file of a lower: its copy is made in the scratch directory, complete and on disk, and
 * moved to its name, as union/copyup.py has it. What is more than plain is for others. */

#include "state.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#define STAGED "lane"           /* the copy's name in the scratch directory; that of others are numbers */
#define COPY_MAX (64u << 10)    /* bytes; more is worth a thread, or a reflink */
#define KEPT_MAX (1ull << 62)   /* numbers from here on are not kept */
#define OWED (FS_IMMUTABLE_FL | FS_APPEND_FL | FS_SYNC_FL | FS_NOATIME_FL)

/* Tell the kernel that a node's attributes are others by now; its data are the same. */
static void tell_changed(const struct lane *self, uint64_t ino) {
    struct {
        struct fuse_out_header head;
        struct fuse_notify_inval_inode_out body;
    } out = {.head = {.len = sizeof out, .error = FUSE_NOTIFY_INVAL_INODE}, .body = {.ino = ino, .off = -1}};
    if (write(self->device, &out, sizeof out) < 0) return; /* forgotten meanwhile */
}

static bool has_flags(int fd) {
    int flags = 0;
    return !ioctl(fd, FS_IOC_GETFLAGS, &flags) && flags & OWED;
}

/* Tell whether a file's copy needs nothing but data, owner, mode and times. */
static bool is_bare_file(int fd, const struct stat *st) {
    if (!S_ISREG(st->st_mode) || st->st_nlink != 1 || st->st_size > (off_t)COPY_MAX || st->st_mode & SET_IDS) return false;
    ssize_t size = flistxattr(fd, NULL, 0);
    return (!size || (size < 0 && errno == EOPNOTSUPP)) && !has_flags(fd);
}

static int make_staged(const struct lane *self) {
    for (int attempt = 0; attempt < 2; attempt++) {
        int fd = openat(self->scratch, STAGED, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0 || errno != EEXIST || unlinkat(self->scratch, STAGED, 0)) return fd;
    }
    return -1;
}

static bool copy_data(struct lane *self, int from, int to, size_t size) {
    if (size > self->room - sizeof(struct fuse_out_header)) return false;
    return !size || (pread(from, BODY(self), size, 0) == (ssize_t)size && pwrite(to, BODY(self), size, 0) == (ssize_t)size);
}

/* Give a copy owner, mode and times, the number that the mount shows, and bring it to disk. `own` is its own number. */
static bool complete(struct lane *self, uint64_t ino, int fd, const struct stat *st, uint64_t *own) {
    struct timespec times[2] = {st->st_atim, st->st_mtim};
    struct stat copy;
    if ((st->st_uid != self->uid || st->st_gid != self->gid) && fchown(fd, st->st_uid, st->st_gid)) return false;
    if (fchmod(fd, st->st_mode & 07777) || futimens(fd, times) || fstat(fd, &copy)) return false;
    if (copy.st_mode != st->st_mode || copy.st_uid != st->st_uid || copy.st_gid != st->st_gid) return false;
    if (!lane_own(self, &copy, own) || number_find(self, *own) || ino >= KEPT_MAX) return false;
    if (*own != ino) {
        char kept[48];
        int size = snprintf(kept, sizeof kept, "%llu:%llu", (unsigned long long)copy.st_ino, (unsigned long long)ino);
        if (fsetxattr(fd, self->number_xattr, kept, (size_t)size, 0)) return false;
    }
    if (self->durable == LANE_ORDERED)
        return !sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    return self->durable != LANE_SYNCED || !fsync(fd);
}

/* Move the copy to its name; the directory's times stay: what it shows is the same. */
static bool place(const struct lane *self, int at, const char *name) {
    struct stat before;
    if (fstat(at, &before) || renameat(self->scratch, STAGED, at, name)) return false;
    struct timespec times[2] = {before.st_atim, before.st_mtim};
    futimens(at, times); /* what is there is not taken back for a time */
    return true;
}

/* Copy a file up and return the copy, open for reading and writing; -1 where others are to do it, and nothing is changed. */
int lane_copy_up(struct lane *self, struct inode *inode) {
    struct directory *directory = inode->directory;
    int at = upper_of(self, directory);
    uint32_t listed = at < 0 ? LANE_ASK : directory->names[inode->name].place;
    if (!self->number_xattr[0] || listed >= directory->shares_count || listed == directory->top) return -1;
    struct stat st;
    char name[NAME_LIMIT + 1];
    uint64_t own;
    reach(inode, name);
    int flags = fcntl(at, F_GETFL), from = flags < 0 || flags & O_PATH ? -1 : open_data(self, inode, &st, O_RDONLY);
    if (from < 0) return -1;
    int to = is_bare_file(from, &st) ? make_staged(self) : -1;
    if (to >= 0 && !(copy_data(self, from, to, (size_t)st.st_size) && complete(self, inode->ino, to, &st, &own) &&
                     place(self, at, name))) {
        close(to);
        to = -1;
        unlinkat(self->scratch, STAGED, 0);
    }
    close(from);
    if (to < 0) return -1;
    directory->names[inode->name].place = directory->top | PLACE_KEPT | PLACE_HIDES;
    inode->own = own;
    inode->opened = 0;
    note_edit(self, LANE_COPIED, directory, inode->name, inode->ino);
    tell_changed(self, inode->ino);
    tell_changed(self, directory->ino);
    return to;
}

/* Open a file to write to it, if it is in the upper already, or can be copied up; readers see what is written. */
bool open_to_write(struct lane *self, struct inode *inode) {
    struct stat st;
    if (inode_made(self, inode->ino)) return true;
    if (self->files >= self->files_max) return false;
    uint32_t listed = inode->directory->names[inode->name].place & PLACE_SHARE;
    bool upper = upper_of(self, inode->directory) >= 0 && listed == inode->directory->top;
    int fd = upper ? open_data(self, inode, &st, O_RDWR) : lane_copy_up(self, inode);
    if (fd < 0) return false;
    if (inode->fd >= 0)
        close(inode->fd);
    else
        self->files++;
    inode->fd = fd;
    inode->written = inode->stored = true;
    return true;
}
