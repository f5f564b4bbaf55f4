/* Listings of directories that are as they were handed over, and what stat shows of their files. */

#include "state.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/xattr.h>

#define HEAD sizeof(struct fuse_entry_out)

/* Tell whether an object's number follows from its device and inode alone; which one it is then. */
bool lane_own(struct lane *self, const struct stat *st, uint64_t *ino) {
    int64_t rank = source_rank(self, st->st_dev);
    for (uint32_t at = 0; rank < 0 && at < self->devices_count; at++)
        if (self->devices[at].device == st->st_dev) rank = self->devices[at].rank;
    if (rank < 0 || st->st_ino < FIRST_NUMBER || st->st_ino >> NUMBER_BITS) return false;
    *ino = (uint64_t)rank << NUMBER_BITS | st->st_ino;
    return true;
}

/* Return the filesystem of an object with such a number in `device`; false if there is none. */
bool lane_device(const struct lane *self, uint64_t ino, uint64_t *device) {
    for (uint32_t at = 0; at < self->devices_count; at++) {
        if (self->devices[at].rank != ino >> NUMBER_BITS) continue;
        *device = self->devices[at].device;
        return true;
    }
    *device = source_device(self, ino >> NUMBER_BITS);
    return *device;
}

/* Tell whether a name has no extended attributes: then an empty file stands for nothing else. */
static bool is_bare(int fd, const char *name) {
    char path[32 + NAME_LIMIT + 1];
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", fd, name);
    ssize_t size = llistxattr(path, NULL, 0);
    return !size || (size < 0 && errno == EOPNOTSUPP);
}

/* Tell whether an object is a file or a symlink of one name, and which number it has. */
bool is_single(struct lane *self, const struct stat *st, uint64_t *ino) {
    return (S_ISREG(st->st_mode) || S_ISLNK(st->st_mode)) && st->st_nlink == 1 && lane_own(self, st, ino);
}

/* Tell whether a file shows no more than its stat: it has one name, and does not stand for a device. */
bool lane_plain(struct lane *self, int fd, const char *name, const struct stat *st, uint64_t *ino) {
    return is_single(self, st, ino) && (st->st_size || is_bare(fd, name));
}

void fill_attributes(struct fuse_attr *attr, uint64_t ino, const struct stat *st) {
    *attr = (struct fuse_attr){
        .ino = ino, .size = (uint64_t)st->st_size, .blocks = (uint64_t)st->st_blocks,
        .atime = (uint64_t)st->st_atim.tv_sec, .mtime = (uint64_t)st->st_mtim.tv_sec,
        .ctime = (uint64_t)st->st_ctim.tv_sec, .atimensec = (uint32_t)st->st_atim.tv_nsec,
        .mtimensec = (uint32_t)st->st_mtim.tv_nsec, .ctimensec = (uint32_t)st->st_ctim.tv_nsec, .mode = st->st_mode,
        .nlink = (uint32_t)st->st_nlink, .uid = st->st_uid, .gid = st->st_gid, .rdev = (uint32_t)st->st_rdev,
        .blksize = 4096,
    };
}

void fill_entry(const struct lane *self, struct fuse_entry_out *entry, uint64_t ino, const struct stat *st) {
    *entry = (struct fuse_entry_out){
        .nodeid = ino, .entry_valid = self->seconds, .attr_valid = self->seconds,
        .entry_valid_nsec = self->nanoseconds, .attr_valid_nsec = self->nanoseconds,
    };
    if (st) fill_attributes(&entry->attr, ino, st);
}

/* Note that the kernel is told of a file, and count that; NULL where others answer for it, or it was another name's. */
struct inode *inode_shown(struct lane *self, struct directory *directory, uint32_t name, uint64_t ino,
                          const struct stat *st) {
    struct inode *inode = number_find(self, ino);
    if (inode && (inode->directory != directory || inode->name != name || inode->lookups == UINT32_MAX)) return NULL;
    if (!inode) {
        inode = number_add(self, ino);
        if (!inode) return NULL;
        inode->directory = directory;
        inode->name = name;
        directory->children++;
    }
    inode->mode = (uint16_t)st->st_mode;
    inode->uid = st->st_uid;
    inode->gid = st->st_gid;
    inode->lookups++;
    return inode;
}

static size_t dirent_put(char *at, uint64_t ino, uint64_t next, const char *name, size_t size, uint32_t mode) {
    size_t whole = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + size);
    struct fuse_dirent entry = {.ino = ino, .off = next, .namelen = (uint32_t)size, .type = (mode & S_IFMT) >> 12};
    memset(at, 0, whole);
    memcpy(at, &entry, FUSE_NAME_OFFSET);
    memcpy(at + FUSE_NAME_OFFSET, name, size);
    return whole;
}

/* Put one name into the answer; 0 where there is no answer, -1 where others are to give it. */
static int64_t listed_put(struct lane *self, struct directory *directory, uint32_t number, char *at, bool plus) {
    const struct name *name = &directory->names[number];
    const char *text = directory->text + name->at;
    if (name->place == LANE_ASK || name->place == LANE_GONE || name->place & (PLACE_KEPT | PLACE_HIDES)) return -1;
    bool is_directory = name->place & LANE_DIRECTORY;
    int share = directory->shares[name->place & ~(uint32_t)LANE_DIRECTORY];
    char path[NAME_LIMIT + 1];
    memcpy(path, text + 1, (uint8_t)text[0]);
    path[(uint8_t)text[0]] = 0;
    struct stat st;
    uint64_t ino;
    if (is_directory) {
        if (!name_stat(self, directory, number, share, path, &st) || !S_ISDIR(st.st_mode) || !lane_own(self, &st, &ino)) return -1;
    } else if (!plain_stat(self, directory, number, share, path, &st, &ino)) {
        return -1;
    }
    size_t head = 0;
    if (plus) {
        head = HEAD;
        memset(at, 0, HEAD); /* number 0: ask when it is needed */
        if (!is_directory && inode_shown(self, directory, number, ino, &st))
            fill_entry(self, (struct fuse_entry_out *)at, ino, &st);
    }
    return (int64_t)(head + dirent_put(at + head, ino, (uint64_t)number + 3, text + 1, (uint8_t)text[0], st.st_mode));
}

/* Take back what was counted for an answer that the kernel did not take. */
static void uncount(struct lane *self, const char *from, size_t size) {
    for (size_t at = 0; at + HEAD + FUSE_NAME_OFFSET <= size;) {
        struct fuse_entry_out entry;
        struct fuse_dirent dirent;
        memcpy(&entry, from + at, HEAD);
        memcpy(&dirent, from + at + HEAD, FUSE_NAME_OFFSET);
        struct inode *inode = entry.nodeid ? number_find(self, entry.nodeid) : NULL;
        if (inode) inode_forget(self, inode, 1);
        at += HEAD + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + dirent.namelen);
    }
}

bool answer_readdir(struct lane *self, const struct fuse_in_header *in, size_t size, bool plus) {
    struct fuse_read_in read;
    if (size < sizeof read) return false;
    memcpy(&read, in + 1, sizeof read);
    struct directory *directory = directory_find(self, in->nodeid);
    if (!directory || !directory->listed || read.offset > (uint64_t)directory->base + 2) return false;
    size_t room = read.size < self->room - sizeof(struct fuse_out_header) ? read.size
                                                                         : self->room - sizeof(struct fuse_out_header);
    char *body = BODY(self);
    size_t head = plus ? HEAD : 0, done = 0;
    uint32_t slept = 0;
    for (uint64_t at = read.offset; at < (uint64_t)directory->base + 2; at++) {
        size_t length = at < 2 ? (size_t)at + 1 : (uint8_t)directory->text[directory->names[at - 2].at];
        if (FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + length) + head > room - done) {
            if (!done) return false;
            break;
        }
        if (at < 2) { /* the kernel takes no count for these */
            memset(body + done, 0, head);
            done += head + dirent_put(body + done + head, at ? directory->parent : directory->ino, at + 1, "..",
                                      length, S_IFDIR);
            continue;
        }
        int64_t began = lane_now();
        int64_t put = listed_put(self, directory, (uint32_t)(at - 2), body + done, plus);
        if (put < 0) {
            if (!done) return false;
            break;
        }
        done += (size_t)put;
        if (lane_waited(self, began) && ++slept == PROBE) { /* the rest is asked for again, and fetched meanwhile */
            self->slow = in->nodeid;
            self->slow_position = (uint32_t)at - 1;
            break;
        }
    }
    if (!lane_send(self, in->unique, 0, done) && plus) uncount(self, body, done);
    return true;
}
