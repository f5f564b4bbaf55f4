/* Attributes that are set: of plain files and symlinks of the upper, of plain files of a lower, which are copied up for
 * that, and of directories with a share of the upper. Where a bit of a mode would be taken, others do it (union/setid.py). */

#include "state.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define OWNER (FATTR_UID | FATTR_GID)
#define TIMES (FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW)
#define KEPT (FATTR_MTIME | FATTR_CTIME) /* the time that the kernel has kept for a file, while it caches writes */
#define ACCESS_ACL "system.posix_acl_access"
#define DEFAULT_ACL "system.posix_acl_default"
#define BESIDE (FATTR_FH | FATTR_LOCKOWNER | FATTR_CTIME | FATTR_KILL_SUIDGID)

static struct timespec time_of(uint32_t valid, uint32_t given, uint32_t now, uint64_t seconds, uint32_t ns) {
    if (valid & given) return (struct timespec){(time_t)seconds, ns};
    return (struct timespec){.tv_nsec = valid & now ? UTIME_NOW : UTIME_OMIT};
}

/* Set what is asked for of an object that is open, or only held (O_PATH): the owner first, since that takes bits of the
 * mode. A part of it may be done when it fails: others do all of it again. */
static bool set_all(int fd, bool held, const struct fuse_setattr_in *set) {
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    uid_t uid = set->valid & FATTR_UID ? set->uid : (uid_t)-1;
    gid_t gid = set->valid & FATTR_GID ? set->gid : (gid_t)-1;
    struct timespec times[2] = {
        time_of(set->valid, FATTR_ATIME, FATTR_ATIME_NOW, set->atime, set->atimensec),
        time_of(set->valid, FATTR_MTIME, FATTR_MTIME_NOW, set->mtime, set->mtimensec),
    };
    if (set->valid & FATTR_SIZE && ftruncate(fd, (off_t)set->size)) return false;
    if (set->valid & OWNER && fchownat(fd, "", uid, gid, AT_EMPTY_PATH)) return false;
    if (set->valid & FATTR_MODE && (held ? chmod(path, set->mode & 07777) : fchmod(fd, set->mode & 07777))) return false;
    return !(set->valid & TIMES) || !(held ? utimensat(AT_FDCWD, path, times, 0) : futimens(fd, times));
}

/* Tell whether a file that is not open for writing has a time already: the kernel sends it after a rename, too. */
static bool has_time(struct lane *self, const struct inode *inode, const struct fuse_setattr_in *set, struct stat *st) {
    char path[NAME_LIMIT + 1];
    uint64_t own;
    int at = reach(inode, path);
    if (at < 0 || fstatat(at, path, st, AT_SYMLINK_NOFOLLOW) || !is_same(self, inode, st, true)) return false;
    if ((uint64_t)st->st_mtim.tv_sec != set->mtime || st->st_mtim.tv_nsec != set->mtimensec) return false;
    return lane_plain(self, at, path, st, &own);
}

/* Tell whether a file may be changed so: nobody has noted what it may be opened for, and no bit of its mode is taken. */
static bool may_set(const struct inode *inode, const struct fuse_setattr_in *set) {
    if (set->valid & FATTR_SIZE && (!S_ISREG(inode->mode) || set->size > INT64_MAX)) return false;
    if (set->valid & FATTR_MODE && (!S_ISREG(inode->mode) || set->mode & SET_IDS)) return false;
    if (set->valid & (OWNER | FATTR_MODE) && inode->opens && inode->fd < 0) return false; /* afterwards we may not open it */
    return !(set->valid & (OWNER | FATTR_SIZE)) || !(inode->mode & SET_IDS);
}

/* Return a descriptor of the upper's file, which is the caller's unless it is the inode's own; -1 where others are to set
 * it. `held` says that it is an O_PATH one. */
static int reach_upper(struct lane *self, struct inode *inode, uint32_t valid, bool *held) {
    struct stat st;
    char path[NAME_LIMIT + 1];
    *held = false;
    if (inode_made(self, inode->ino)) return inode->fd;
    if (upper_of(self, inode->directory) < 0) return -1;
    if ((inode->directory->names[inode->name].place & PLACE_SHARE) != inode->directory->top && !bring_up(self, inode))
        return -1;
    if (valid & FATTR_SIZE) return open_data(self, inode, &st, O_RDWR);
    int at = reach(inode, path), pin = at < 0 ? -1 : openat(at, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (pin >= 0 && !fstat(pin, &st) && is_same(self, inode, &st, true)) {
        *held = true;
        return pin;
    }
    if (pin >= 0) close(pin);
    return -1;
}

static bool set_file(struct lane *self, const struct fuse_in_header *in, struct inode *inode,
                     const struct fuse_setattr_in *set) {
    struct stat st;
    bool held;
    if (!may_set(inode, set)) return false;
    int fd = reach_upper(self, inode, set->valid, &held);
    if (fd < 0) return false;
    bool frees = set->valid & FATTR_SIZE && (fstat(fd, &st) || st.st_size > (off_t)set->size + FREED_MAX);
    bool done = !frees && set_all(fd, held, set) && !fstat(fd, &st) && st.st_nlink == 1;
    if (fd != inode->fd) close(fd);
    if (!done) return false;
    inode->mode = (uint16_t)st.st_mode;
    inode->uid = st.st_uid;
    inode->gid = st.st_gid;
    send_attributes(self, in, &st);
    return true;
}

/* Set a directory's attributes; the union is told, since it knows a directory by its owner and mode. */
static bool set_directory(struct lane *self, const struct fuse_in_header *in, const struct fuse_setattr_in *set) {
    struct directory *directory = directory_find(self, in->nodeid);
    int fd = set->valid & FATTR_SIZE ? -1 : upper_of(self, directory);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) || !st.st_nlink || !is_shown(directory, &st) || !set_all(fd, false, set) || fstat(fd, &st))
        return false;
    directory->mode = st.st_mode;
    directory->uid = st.st_uid;
    directory->gid = st.st_gid;
    if (set->valid & (OWNER | FATTR_MODE)) note_shown(self, LANE_SET, directory, 0, directory->ino, -1, &st);
    if (!directory->single) st.st_nlink = 1;
    send_attributes(self, in, &st);
    return true;
}

/* Set the time that the kernel has kept for a file without a name: only the kernel shows that of a lower's. */
static bool set_gone(struct lane *self, const struct fuse_in_header *in, const struct inode *inode,
                     const struct fuse_setattr_in *set) {
    struct stat st;
    if (inode->gone != LANE_GONE_LOWER) {
        if (inode->fd < 0 || fstat(inode->fd, &st) || !is_same(self, inode, &st, true)) return false;
        bool has = (uint64_t)st.st_mtim.tv_sec == set->mtime && st.st_mtim.tv_nsec == set->mtimensec;
        if (!has && !set_all(inode->fd, true, set)) return false;
    }
    return gone_attributes(self, in, inode);
}

bool answer_setattr(struct lane *self, const struct fuse_in_header *in, const char *body, size_t size) {
    struct fuse_setattr_in set;
    struct inode *inode = number_find(self, in->nodeid);
    struct stat st;
    if (size < sizeof set || !self->makes) return false;
    memcpy(&set, body, sizeof set);
    if (set.valid & ~(uint32_t)(FATTR_MODE | OWNER | FATTR_SIZE | TIMES | BESIDE)) return false;
    if (set.atimensec > 999999999 || set.mtimensec > 999999999) return false;
    if (!inode) return set_directory(self, in, &set);
    bool kept = self->writeback && (set.valid & ~(uint32_t)(FATTR_FH | FATTR_LOCKOWNER)) == KEPT;
    if (inode->gone) return kept && set_gone(self, in, inode, &set);
    if (kept && !inode_made(self, in->nodeid) && has_time(self, inode, &set, &st)) {
        send_attributes(self, in, &st);
        return true;
    }
    return set_file(self, in, inode, &set);
}

/* Set an ACL, as `cp -p` does, of a file that is open for writing or of a directory. The host gives it the mode that
 * follows. Where an ACL takes setgid, others do it. */
bool answer_setxattr(struct lane *self, const struct fuse_in_header *in, const char *body, size_t size) {
    struct {
        uint32_t size, flags;
    } set; /* fuse_setxattr_in, without what FUSE_SETXATTR_EXT adds */
    if (size <= sizeof set) return false;
    memcpy(&set, body, sizeof set);
    const char *name = body + sizeof set;
    size -= sizeof set;
    size_t length = strnlen(name, size) + 1;
    if (length > size || set.flags || set.size != size - length || strcmp(name, ACCESS_ACL)) return false;
    struct inode *inode = inode_made(self, in->nodeid);
    struct directory *directory = inode ? NULL : directory_find(self, in->nodeid);
    int fd = inode ? inode->fd : upper_of(self, directory);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) || !st.st_nlink || (in->uid && st.st_mode & SET_IDS)) return false;
    if (directory && !is_shown(directory, &st)) return false;
    if (fsetxattr(fd, name, name + length, set.size, 0) || fstat(fd, &st)) return false;
    if (directory && directory->mode != st.st_mode) {
        directory->mode = st.st_mode;
        note_shown(self, LANE_SET, directory, 0, directory->ino, -1, &st);
    }
    if (inode) inode->mode = (uint16_t)st.st_mode;
    lane_send(self, in->unique, 0, 0);
    return true;
}

/* Remove a default ACL that a directory does not have, which is no error. */
bool answer_removexattr(struct lane *self, const struct fuse_in_header *in, const char *name, size_t size) {
    if (size != sizeof DEFAULT_ACL || memcmp(name, DEFAULT_ACL, size)) return false;
    const struct directory *directory = directory_find(self, in->nodeid);
    int fd = upper_of(self, directory);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) || !is_shown(directory, &st)) return false;
    if (fgetxattr(fd, DEFAULT_ACL, NULL, 0) >= 0 || errno != ENODATA) return false;
    lane_send(self, in->unique, 0, 0);
    return true;
}
