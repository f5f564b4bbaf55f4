/* Answers from the tables. Whatever is not plainly there is for others: false. */

#include "state.h"

#include "intercept.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#define INLINE_MAX (64u << 10)  /* bytes that are read from a disk while all others wait */
#define TARGET_MAX 4095

/* Send `size` bytes of the body, or an error; false if the kernel did not take the answer. */
bool lane_send(struct lane *self, uint64_t unique, int error, size_t size) {
    struct fuse_out_header head = {.len = (uint32_t)(sizeof head + size), .error = -error, .unique = unique};
    memcpy(self->out, &head, sizeof head);
    if (give_answer(self, &(struct iovec){self->out, head.len}, 1) >= 0) return true;
    if (errno != ENOENT && errno != ENODEV && error != EIO) { /* the request fails, and nothing else does */
        head = (struct fuse_out_header){.len = sizeof head, .error = -EIO, .unique = unique};
        if (give_answer(self, &(struct iovec){&head, sizeof head}, 1) < 0) return false;
    }
    return false;
}

/* Return the name in a request's body, which must be all of it; NULL for others'. */
const char *name_in(const void *body, size_t size) {
    const char *name = body;
    if (size < 2 || size - 1 > NAME_LIMIT || strnlen(name, size) != size - 1) return NULL;
    return !strcmp(name, ".") || !strcmp(name, "..") ? NULL : name;
}

static bool answer_lookup(struct lane *self, const struct fuse_in_header *in, const void *body, size_t size) {
    const char *name = name_in(body, size);
    struct directory *directory = name ? directory_find(self, in->nodeid) : NULL;
    if (!directory || !directory->live) return false;
    struct fuse_entry_out *entry = (struct fuse_entry_out *)BODY(self);
    int64_t found = name_find(self, directory, name, size - 1);
    uint32_t place = found < 0 ? LANE_GONE : directory->names[found].place;
    if (place == LANE_GONE) {
        fill_entry(self, entry, 0, NULL);
        lane_send(self, in->unique, 0, sizeof *entry);
        return true;
    }
    place &= ~PLACE_HIDES;
    if (place >= directory->shares_count) return false;
    struct stat st;
    uint64_t ino;
    int64_t began = lane_now();
    if (!plain_stat(self, directory, (uint32_t)found, directory->shares[place], name, &st, &ino)) return false;
    if (!inode_shown(self, directory, (uint32_t)found, ino, &st)) return false;
    if (directory->waits < PROBE && lane_waited(self, began) && ++directory->waits == PROBE) {
        self->slow = directory->ino;
        self->slow_position = 0;
    }
    fill_entry(self, entry, ino, &st);
    if (!lane_send(self, in->unique, 0, sizeof *entry)) {
        struct inode *inode = number_find(self, ino);
        if (inode) inode_forget(self, inode, 1);
    }
    return true;
}

/* Return the share that has a file, a descriptor or a source, and its name; -1 where others must look. */
int reach(const struct inode *inode, char path[NAME_LIMIT + 1]) {
    const struct directory *directory = inode->directory;
    const struct name *name = &directory->names[inode->name];
    const char *text = directory->text + name->at;
    memcpy(path, text + 1, (uint8_t)text[0]);
    path[(uint8_t)text[0]] = 0;
    uint32_t share = name->place & ~(PLACE_KEPT | PLACE_HIDES); /* which is none for what is no file's */
    return directory->live && share < directory->shares_count ? directory->shares[share] : -1;
}

/* Tell whether a name still leads to the file, as the kernel knows it if `just` so. */
bool is_same(struct lane *self, const struct inode *inode, const struct stat *st, bool just) {
    uint64_t ino;
    if (!lane_own(self, st, &ino) || ino != (inode->own ? inode->own : inode->ino)) return false;
    if ((st->st_mode ^ inode->mode) & S_IFMT) return false;
    return !just || (st->st_mode == inode->mode && st->st_uid == inode->uid && st->st_gid == inode->gid);
}

void send_attributes(struct lane *self, const struct fuse_in_header *in, const struct stat *st) {
    struct fuse_attr_out *attr = (struct fuse_attr_out *)BODY(self);
    *attr = (struct fuse_attr_out){.attr_valid = self->seconds, .attr_valid_nsec = self->nanoseconds};
    fill_attributes(&attr->attr, in->nodeid, st);
    lane_send(self, in->unique, 0, sizeof *attr);
}

/* Tell whether a directory has the owner and mode that it is known by. */
bool is_shown(const struct directory *directory, const struct stat *st) {
    return st->st_mode == directory->mode && st->st_uid == directory->uid && st->st_gid == directory->gid;
}

/* Answer for a directory, as long as its owner and mode are those that it was handed over with. */
static bool answer_getattr_directory(struct lane *self, const struct fuse_in_header *in) {
    const struct directory *directory = directory_find(self, in->nodeid);
    struct stat st;
    if (!directory || !directory->live || directory->top == TOP_NONE) return false;
    if (!share_stat(self, directory, directory->top, &st) || !st.st_nlink) return false;
    if (!is_shown(directory, &st)) return false;
    if (!directory->single) st.st_nlink = 1;
    send_attributes(self, in, &st);
    return true;
}

static bool answer_getattr(struct lane *self, const struct fuse_in_header *in) {
    struct inode *inode = number_find(self, in->nodeid);
    if (!inode) return answer_getattr_directory(self, in);
    if (inode->gone) return gone_attributes(self, in, inode);
    char path[NAME_LIMIT + 1];
    int share = reach(inode, path);
    struct stat st;
    uint64_t ino;
    if (!plain_stat(self, inode->directory, inode->name, share, path, &st, &ino) || !is_same(self, inode, &st, false)) return false;
    inode->mode = (uint16_t)st.st_mode;
    inode->uid = st.st_uid;
    inode->gid = st.st_gid;
    send_attributes(self, in, &st);
    return true;
}

/* Say that a file has no capabilities, or no attribute of the user's, if that is so: what there is, others show. */
static bool answer_getxattr(struct lane *self, const struct fuse_in_header *in, const void *body, size_t size) {
    const char *name = (const char *)body + sizeof(struct fuse_getxattr_in);
    size_t room = size > sizeof(struct fuse_getxattr_in) ? size - sizeof(struct fuse_getxattr_in) : 0;
    const struct inode *inode = room ? number_find(self, in->nodeid) : NULL;
    if (!inode || strnlen(name, room) != room - 1 || !S_ISREG(inode->mode)) return false;
    bool plain = !strcmp(name, "security.capability") ||
                 (!strncmp(name, "user.", 5) && name[5] && strncmp(name, "user.overlay.", 13));
    char path[NAME_LIMIT + 1], link[40], value[1];
    if (plain && inode_made(self, in->nodeid)) {
        if (fgetxattr(inode->fd, name, value, 0) >= 0 || errno != ENODATA) return false;
        lane_send(self, in->unique, ENODATA, 0);
        return true;
    }
    int at = plain ? reach(inode, path) : -1;
    int pin = at < 0 ? -1 : openat(at, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (pin < 0) {
        if (!source_is_bare(self, inode, at)) return false;
        lane_send(self, in->unique, ENODATA, 0);
        return true;
    }
    struct stat st;
    snprintf(link, sizeof link, "/proc/self/fd/%d", pin);
    bool absent = !fstat(pin, &st) && is_same(self, inode, &st, true) && getxattr(link, name, value, 0) < 0 &&
                  errno == ENODATA;
    close(pin);
    if (absent) lane_send(self, in->unique, ENODATA, 0);
    return absent;
}

static bool answer_readlink(struct lane *self, const struct fuse_in_header *in) {
    struct inode *inode = number_find(self, in->nodeid);
    char path[NAME_LIMIT + 1];
    int share = inode && S_ISLNK(inode->mode) ? reach(inode, path) : -1;
    int64_t size = share >= 0 ? readlinkat(share, path, BODY(self), TARGET_MAX + 1)
                   : share < -1 ? source_link(self, inode, share, BODY(self), TARGET_MAX + 1) : -1;
    if (size <= 0 || size > TARGET_MAX) return false;
    lane_send(self, in->unique, 0, (size_t)size);
    return true;
}

/* Open a file that was pinned, without a trace in its access time where we may. */
int lane_reopen(int pin, int access) {
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", pin);
    int fd = open(path, access | O_CLOEXEC | O_NONBLOCK | O_NOATIME);
    return fd >= 0 || errno != EPERM ? fd : open(path, access | O_CLOEXEC | O_NONBLOCK);
}

static int64_t changed_at(const struct stat *st) {
    return st->st_ctim.tv_sec * 1000000000ll + st->st_ctim.tv_nsec;
}

/* Tell whether a file is still what it was when it was opened last: then it can be opened again when data are asked for. */
static bool is_unchanged(struct lane *self, const struct inode *inode) {
    char path[NAME_LIMIT + 1];
    int at = inode->opened ? reach(inode, path) : -1;
    struct stat st;
    return at >= 0 && !fstatat(at, path, &st, AT_SYMLINK_NOFOLLOW) && changed_at(&st) == inode->opened &&
           is_same(self, inode, &st, true);
}

/* Take back one open; with the last one the data are closed. */
void inode_closed(struct lane *self, struct inode *inode) {
    if (--inode->opens) return;
    inode->written = false;
    data_close(self, inode);
}

/* Open the data of a file, if it is the one that the kernel knows and has all of its data; else -1. */
int open_data(struct lane *self, const struct inode *inode, struct stat *st, int access) {
    char path[NAME_LIMIT + 1];
    int at = S_ISREG(inode->mode) && self->files < self->files_max ? reach(inode, path) : -1;
    int pin = at < 0 ? -1 : openat(at, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (pin < 0) return -1;
    int fd = -1;
    if (!fstat(pin, st) && is_same(self, inode, st, true) && st->st_blocks * 512 >= st->st_size)
        fd = lane_reopen(pin, access);
    close(pin);
    return fd;
}

/* Give the kernel the data of a small file with its first open: most are read next. False if a source does not give them. */
static bool store(struct lane *self, struct inode *inode, int share, const struct stat *st) {
    inode->stored = true;
    if (st->st_size <= 0 || st->st_size > (off_t)STORED_MAX) return true;
    size_t size = (size_t)st->st_size;
    char *data = BODY(self) + sizeof(struct fuse_notify_store_out);
    int64_t done = inode->fd >= 0 ? pread(inode->fd, data, size, 0) : source_read(self, inode, share, 0, data, (uint32_t)size);
    if (done != (int64_t)size) return inode->stored = inode->fd >= 0;
    struct fuse_notify_store_out out = {.nodeid = inode->ino, .size = (uint32_t)size};
    struct fuse_out_header head = {.len = (uint32_t)(sizeof head + sizeof out + size), .error = FUSE_NOTIFY_STORE};
    memcpy(self->out, &head, sizeof head);
    memcpy(BODY(self), &out, sizeof out);
    (void)!write(self->device, self->out, head.len); /* if the kernel does not take it, it is read when it is asked for */
    return true;
}

/* Open a file; false if others are to do it. */
static bool open_now(struct lane *self, struct inode *inode) {
    struct stat st;
    char path[NAME_LIMIT + 1];
    int share = reach(inode, path);
    if (share < -1) { /* it counts as a descriptor once it is the union's */
        if (self->files >= self->files_max || !source_has_data(self, inode, share, &st)) return false;
        return inode->stored || store(self, inode, share, &st);
    }
    int64_t began = lane_now();
    int fd = open_data(self, inode, &st, O_RDONLY);
    if (fd < 0) return false;
    inode->opened = changed_at(&st);
    if (inode->fd >= 0) {
        close(fd);
        return true;
    }
    inode->fd = fd;
    self->files++;
    if (inode->stored) return true;
    store(self, inode, -1, &st);
    if (st.st_size > 0 && st.st_size <= (off_t)STORED_MAX)
        lane_ahead(self, inode->directory->ino, inode->name, lane_waited(self, began));
    return true;
}

/* Empty a file that is open for writing, unless to free what it has may take long, or the host may take bits of its mode. */
static bool cut(const struct inode *inode) {
    struct stat st;
    return !(inode->mode & SET_IDS) && !fstat(inode->fd, &st) && st.st_size <= FREED_MAX && !ftruncate(inode->fd, 0);
}

static bool answer_open(struct lane *self, const struct fuse_in_header *in, const void *body, size_t size) {
    struct fuse_open_in open;
    if (self->no_open) {
        lane_send(self, in->unique, ENOSYS, 0);
        return true;
    }
    struct inode *inode = number_find(self, in->nodeid);
    if (!inode || size < sizeof open) return false;
    memcpy(&open, body, sizeof open);
    if (inode->opens == UINT32_MAX) return false;
    if ((open.flags & O_ACCMODE) != O_RDONLY) {
        if ((in->uid && inode->mode & SET_IDS) || !open_to_write(self, inode)) return false;
        if (open.flags & O_TRUNC && !cut(inode)) return false;
    } else if (open.flags & O_TRUNC) {
        return false;
    } else if (!inode_made(self, in->nodeid) && !is_unchanged(self, inode) && !open_now(self, inode)) {
        return false;
    }
    inode->opens++;
    struct fuse_open_out *out = (struct fuse_open_out *)BODY(self);
    *out = (struct fuse_open_out){.fh = in->uid ? in->nodeid | UNPRIVILEGED : in->nodeid,
                                  .open_flags = FOPEN_KEEP_CACHE};
    if (!lane_send(self, in->unique, 0, sizeof *out)) inode_closed(self, inode);
    return true;
}

static bool answer_release(struct lane *self, const struct fuse_in_header *in) {
    struct inode *inode = number_find(self, in->nodeid);
    if (!inode || !inode->opens) return false;
    inode_closed(self, inode);
    if (!inode->opens && !inode->lookups) inode_forget(self, inode, 0);
    lane_send(self, in->unique, 0, 0);
    return true;
}

/* Open what is to be read; false if others are to do it. */
static bool open_to_read(struct lane *self, struct inode *inode, struct stat *st) {
    if (!inode->opens) unopened_add(self, inode); /* first, since it makes room */
    inode->fd = open_data(self, inode, st, O_RDONLY);
    if (inode->fd < 0) return false;
    self->files++;
    return true;
}

static bool answer_read(struct lane *self, const struct fuse_in_header *in, const void *body, size_t size) {
    struct fuse_read_in read;
    struct inode *inode = number_find(self, in->nodeid);
    if (!inode || size < sizeof read) return false;
    memcpy(&read, body, sizeof read);
    if (!inode->opens && (!self->no_open || read.fh)) return false;
    if (read.size > self->room - sizeof(struct fuse_out_header) || read.offset > INT64_MAX) return false;
    int64_t began = lane_now();
    struct stat st = {0};
    char path[NAME_LIMIT + 1];
    int share = inode->fd < 0 ? reach(inode, path) : -1;
    if (share < -1) {
        int64_t got = source_has_data(self, inode, share, &st)
                          ? source_read(self, inode, share, read.offset, BODY(self), read.size) : -1;
        if (got >= 0) lane_send(self, in->unique, 0, (size_t)got);
        return got >= 0;
    }
    if (inode->fd < 0 && !open_to_read(self, inode, &st)) return false;
    struct iovec to = {.iov_base = BODY(self), .iov_len = read.size};
    int flags = read.size > INLINE_MAX ? RWF_NOWAIT : 0;
    ssize_t done = preadv2(inode->fd, &to, 1, (off_t)read.offset, flags);
    if (done < 0) return false;
    if (flags && (size_t)done < read.size && (fstat(inode->fd, &st) || (off_t)read.offset + done < st.st_size))
        return false; /* the rest is on the disk */
    lane_send(self, in->unique, 0, (size_t)done);
    if (!inode->opens) unopened_read(self, inode, &read, (size_t)done, began);
    return true;
}

static bool answer_forget(struct lane *self, const struct fuse_in_header *in, const void *body, size_t size) {
    struct fuse_forget_in forget;
    struct inode *inode = number_find(self, in->nodeid);
    if (!inode || size < sizeof forget) return false;
    memcpy(&forget, body, sizeof forget);
    inode_forget(self, inode, forget.nlookup);
    return true;
}

/* Take what is ours out of a batch; what is left of it is for others. */
static bool answer_batch_forget(struct lane *self, struct fuse_in_header *in, char *body, size_t *size) {
    struct fuse_batch_forget_in batch;
    if (*size < sizeof batch) return false;
    memcpy(&batch, body, sizeof batch);
    size_t count = (*size - sizeof batch) / sizeof(struct fuse_forget_one), kept = 0;
    if (batch.count > count) return false;
    char *list = body + sizeof batch;
    for (size_t at = 0; at < batch.count; at++) {
        struct fuse_forget_one one;
        memcpy(&one, list + at * sizeof one, sizeof one);
        struct inode *inode = number_find(self, one.nodeid);
        if (inode)
            inode_forget(self, inode, one.nlookup);
        else
            memmove(list + kept++ * sizeof one, &one, sizeof one);
    }
    batch.count = (uint32_t)kept;
    memcpy(body, &batch, sizeof batch);
    *size = sizeof batch + kept * sizeof(struct fuse_forget_one);
    in->len = (uint32_t)(sizeof *in + *size);
    return !kept;
}

/* Answer the request of `size` bytes that was read; false, with what is left of it to be held, if it is for others. */
bool lane_answer(struct lane *self, size_t size) {
    struct fuse_in_header *in = (struct fuse_in_header *)self->in;
    self->held = size;
    if (size < sizeof *in || in->len != size) return false;
    char *body = self->in + sizeof *in;
    size -= sizeof *in;
    bool done = false;
    switch (in->opcode) {
    case FUSE_LOOKUP: done = answer_lookup(self, in, body, size); break;
    case FUSE_FORGET: done = answer_forget(self, in, body, size); break;
    case FUSE_GETATTR: done = answer_getattr(self, in); break;
    case FUSE_GETXATTR: done = answer_getxattr(self, in, body, size); break;
    case FUSE_READLINK: done = answer_readlink(self, in); break;
    case FUSE_CREATE: done = answer_create(self, in, body, size); break;
    case FUSE_SETXATTR: done = answer_setxattr(self, in, body, size); break;
    case FUSE_REMOVEXATTR: done = answer_removexattr(self, in, body, size); break;
    case FUSE_SYMLINK: done = answer_symlink(self, in, body, size); break;
    case FUSE_MKDIR: done = answer_mkdir(self, in, body, size); break;
    case FUSE_WRITE: done = answer_write(self, in, body, size); break;
    case FUSE_SETATTR: done = answer_setattr(self, in, body, size); break;
    case FUSE_UNLINK: done = answer_unlink(self, in, body, size); break;
    case FUSE_RENAME:
    case FUSE_RENAME2: done = answer_rename(self, in, body, size); break;
    case FUSE_OPEN: done = answer_open(self, in, body, size); break;
    case FUSE_READ: done = answer_read(self, in, body, size); break;
    case FUSE_RELEASE: done = answer_release(self, in); break;
    case FUSE_READDIR: done = answer_readdir(self, in, size, false); break;
    case FUSE_READDIRPLUS: done = answer_readdir(self, in, size, true); break;
    case FUSE_BATCH_FORGET: done = answer_batch_forget(self, in, body, &size); break;
    default: break;
    }
    self->held = done ? 0 : sizeof *in + size;
    if (!done) layerfs_name_handle(self->in, self->held);
    return done;
}
