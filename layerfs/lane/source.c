/* What lies in an image: functions of others (lane_source) answer for it. Each object has a reference, which only they
 * understand. A share of a directory that such a source has stands among the descriptors, below -1. */

#include "state.h"

#include <fcntl.h>

#define SOURCES 4096u

static const struct source *source_of(const struct lane *self, int share) {
    return share < -1 ? &self->sources[SOURCE_OF(share)] : NULL;
}

bool share_is_known(const struct lane *self, int share) { return share >= -1 || SOURCE_OF(share) < self->sources_count; }

int lane_source_add(lane *self, const lane_source *calls, uint32_t rank, int *share, uint64_t *device) {
    uint32_t index = self->sources_count;
    if (index == SOURCES || rank >= RANKS) return -ENOSPC;
    struct source *grown = realloc(self->sources, (index + 1) * sizeof *grown);
    if (!grown) return -ENOMEM;
    self->sources = grown;
    self->sources[self->sources_count++] = (struct source){*calls, rank};
    *share = -2 - (int)index;
    *device = IN_SOURCE | index;
    return 0;
}

/* Return the reference of a name that was handed over; one that leads nowhere for any other. */
static uint64_t reference_of(const struct directory *directory, uint32_t name) {
    return directory->references && name < directory->base ? directory->references[name] : NOWHERE;
}

/* Ask a source what stat shows: 0, or 1 where there are extended attributes; -1 where others must look. */
static int source_stat(const struct lane *self, int share, uint64_t reference, struct stat *st) {
    const struct source *source = source_of(self, share);
    *st = (struct stat){0};
    int64_t found = source && reference != NOWHERE ? source->calls.stat(source->calls.of, reference, st) : -1;
    if (found < 0) return -1;
    st->st_dev = IN_SOURCE | SOURCE_OF(share);
    return found > 0;
}

/* Stat an open share of a directory; false where others must look. */
bool share_stat(struct lane *self, const struct directory *directory, uint32_t number, struct stat *st) {
    int share = directory->shares[number];
    return share >= 0 ? !fstat(share, st) : source_stat(self, share, directory->top_reference, st) >= 0;
}

/* Stat a name of a directory in a share; false where others must look. */
bool name_stat(struct lane *self, const struct directory *directory, uint32_t name, int share, const char *text,
               struct stat *st) {
    if (share >= 0) return !fstatat(share, text, st, AT_SYMLINK_NOFOLLOW);
    return source_stat(self, share, reference_of(directory, name), st) >= 0;
}

/* Stat a name that is to show no more than that (lane_plain), and give its number. */
bool plain_stat(struct lane *self, const struct directory *directory, uint32_t name, int share, const char *text,
                struct stat *st, uint64_t *ino) {
    if (share >= 0) return !fstatat(share, text, st, AT_SYMLINK_NOFOLLOW) && lane_plain(self, share, text, st, ino);
    int attributes = source_stat(self, share, reference_of(directory, name), st);
    return attributes >= 0 && is_single(self, st, ino) && (st->st_size || !attributes);
}

/* Tell whether a source says that a file, which is the one that the kernel knows, has no extended attributes. */
bool source_is_bare(struct lane *self, const struct inode *inode, int share) {
    struct stat st;
    return !source_stat(self, share, reference_of(inode->directory, inode->name), &st) && is_same(self, inode, &st, true);
}

/* Read a symlink: the size of its target, or below 0. */
int64_t source_link(const struct lane *self, const struct inode *inode, int share, char *target, uint32_t room) {
    const struct source *source = source_of(self, share);
    uint64_t reference = reference_of(inode->directory, inode->name);
    return source && reference != NOWHERE ? source->calls.link(source->calls.of, reference, target, room) : -1;
}

/* Tell whether a source reads a file, which is the one that the kernel knows and has all of its data. */
bool source_has_data(struct lane *self, const struct inode *inode, int share, struct stat *st) {
    const struct source *source = source_of(self, share);
    uint64_t reference = reference_of(inode->directory, inode->name);
    return source && source->calls.read && S_ISREG(inode->mode) && source_stat(self, share, reference, st) >= 0 &&
           is_same(self, inode, st, true) && st->st_blocks * 512 >= st->st_size;
}

/* Read a file whose data a source has: how many bytes, or below 0. */
int64_t source_read(const struct lane *self, const struct inode *inode, int share, uint64_t offset, void *data, uint32_t size) {
    const struct source *source = source_of(self, share);
    uint64_t reference = reference_of(inode->directory, inode->name);
    int64_t done = source ? source->calls.read(source->calls.of, reference, offset, data, size) : -1;
    return done <= (int64_t)size ? done : -1;
}

/* Return the rank of a source's numbers by its device; -1 for none. */
int64_t source_rank(const struct lane *self, uint64_t device) {
    uint64_t index = device & ~IN_SOURCE;
    return device & IN_SOURCE && index < self->sources_count ? (int64_t)self->sources[index].rank : -1;
}

/* Return the device of a source whose numbers have this rank; 0 for none. */
uint64_t source_device(const struct lane *self, uint64_t rank) {
    for (uint32_t at = 0; at < self->sources_count; at++)
        if (self->sources[at].rank == rank) return IN_SOURCE | at;
    return 0;
}
