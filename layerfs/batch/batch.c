/*
 * Plain entries of a tar, written to one open directory.
 *
 * Nothing here decides what an odd entry means: whatever is not exactly as most entries are ends the run, and the caller
 * looks at it. A name is one part, goes to an open directory, and must be free (O_EXCL), so no link is followed. A file
 * that cannot be completed is removed again: the caller then meets the same error and has the words for it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "batch.h"

enum { BLOCK = 512, NAME = 100 };

#define SECONDS_MAX 9223372035u /* what 64 bits of nanoseconds hold */

struct entry {
    char name[NAME + 1];
    char target[NAME + 1];
    char type;
    uint64_t mode, uid, gid, size, mtime;
};

/* Read octal digits with blanks around them and a NUL or the end behind; 0 for anything else. */
static int octal(const uint8_t *field, size_t width, uint64_t *value)
{
    size_t at = 0, first;

    while (at < width && field[at] == ' ')
        at++;
    first = at;
    for (*value = 0; at < width && field[at] >= '0' && field[at] <= '7'; at++)
        *value = *value * 8 + (uint64_t)(field[at] - '0');
    if (at == first)
        return 0;
    while (at < width && field[at] == ' ')
        at++;
    return at == width || field[at] == 0;
}

static int checked(const uint8_t *block)
{
    uint64_t stored;
    uint32_t sum = 8 * ' ';
    size_t at;

    for (at = 0; at < BLOCK; at++)
        sum += block[at];
    for (at = 148; at < 156; at++)
        sum -= block[at];
    return octal(block + 148, 8, &stored) && stored == sum;
}

/* Copy the last part of a name whose first parts are `prefix`; 0 if it has others, or means more than itself. */
static int named(struct entry *entry, const uint8_t *field, const uint8_t *prefix, size_t prefix_size)
{
    size_t length = strnlen((const char *)field, NAME);

    if (length <= prefix_size || memcmp(field, prefix, prefix_size) != 0)
        return 0;
    length -= prefix_size;
    memcpy(entry->name, field + prefix_size, length);
    entry->name[length] = 0;
    if (memchr(entry->name, '/', length) != NULL || strncmp(entry->name, ".wh.", 4) == 0)
        return 0;
    return strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0;
}

static int parse(struct entry *entry, const uint8_t *block, const uint8_t *prefix, size_t prefix_size)
{
    size_t length;

    entry->type = (char)block[156];
    if (entry->type != '0' && entry->type != 0 && entry->type != '2')
        return 0;
    if (memcmp(block + 257, "ustar", 6) == 0 && block[345] != 0) /* the name goes on elsewhere */
        return 0;
    if (!named(entry, block, prefix, prefix_size))
        return 0;
    if (!octal(block + 100, 8, &entry->mode) || !octal(block + 108, 8, &entry->uid) ||
        !octal(block + 116, 8, &entry->gid) || !octal(block + 124, 12, &entry->size) ||
        !octal(block + 136, 12, &entry->mtime))
        return 0;
    entry->mode &= 07777;
    length = strnlen((const char *)block + 157, NAME);
    memcpy(entry->target, block + 157, length);
    entry->target[length] = 0;
    if (entry->type == '2' && length == 0)
        return 0;
    return entry->mtime <= SECONDS_MAX && checked(block);
}

static int fill(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t count = write(fd, data, size);

        if (count < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        data += count;
        size -= (size_t)count;
    }
    return 0;
}

static void times_of(const struct entry *entry, struct timespec times[2])
{
    times[0].tv_sec = times[1].tv_sec = (time_t)entry->mtime;
    times[0].tv_nsec = times[1].tv_nsec = 0;
}

/* Set owner, mode and time; calls that would change nothing are left out (a journal takes note of each). */
static int finish(int fd, const struct entry *entry)
{
    struct timespec times[2];
    struct stat st;
    int owned;

    if (fstat(fd, &st) < 0)
        return -1;
    owned = st.st_uid == entry->uid && st.st_gid == entry->gid;
    if (!owned && fchown(fd, (uid_t)entry->uid, (gid_t)entry->gid) < 0)
        return -1;
    if ((!owned || (st.st_mode & 07777) != entry->mode) && fchmod(fd, (mode_t)entry->mode) < 0)
        return -1;
    times_of(entry, times);
    return futimens(fd, times);
}

static int write_file(int at, uint32_t owner, const struct entry *entry, const uint8_t *data)
{
    /* Before it belongs to its owner nobody else may open it; a bit of setuid or setgid comes last. */
    mode_t mode = entry->uid == owner && entry->mode <= 0777 ? (mode_t)entry->mode : 0600;
    int fd = openat(at, entry->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    int failed;

    if (fd < 0)
        return -1;
    failed = fill(fd, data, entry->size) < 0 || finish(fd, entry) < 0;
    if (close(fd) < 0 || failed) {
        unlinkat(at, entry->name, 0);
        return -1;
    }
    return 0;
}

static int write_symlink(int at, const struct entry *entry)
{
    struct timespec times[2];
    struct stat st;

    if (symlinkat(entry->target, at, entry->name) < 0)
        return -1;
    times_of(entry, times);
    if (fstatat(at, entry->name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        ((st.st_uid != entry->uid || st.st_gid != entry->gid) &&
         fchownat(at, entry->name, (uid_t)entry->uid, (gid_t)entry->gid, AT_SYMLINK_NOFOLLOW) < 0) ||
        utimensat(at, entry->name, times, AT_SYMLINK_NOFOLLOW) < 0) {
        unlinkat(at, entry->name, 0);
        return -1;
    }
    return 0;
}

void batch_write(
    int at, uint32_t owner, const uint8_t *data, size_t size, size_t from, const uint8_t *prefix, size_t prefix_size,
    uint64_t most, uint32_t *places, size_t room, struct batch_done *done)
{
    struct entry entry;

    done->entries = 0;
    done->next = from;
    done->bytes = 0;
    while (done->entries < room && size - done->next >= BLOCK) {
        const uint8_t *block = data + done->next;
        size_t left = size - done->next - BLOCK, stored = 0;

        if (!parse(&entry, block, prefix, prefix_size))
            return;
        if (entry.type == '2') {
            if (write_symlink(at, &entry) < 0)
                return;
        } else {
            if (entry.size > left || entry.size > most - done->bytes)
                return;
            stored = (entry.size + BLOCK - 1) / BLOCK * BLOCK;
            if (stored > left || write_file(at, owner, &entry, block + BLOCK) < 0)
                return;
            done->bytes += entry.size;
        }
        places[done->entries++] = (uint32_t)done->next;
        done->next += BLOCK + stored;
    }
}
