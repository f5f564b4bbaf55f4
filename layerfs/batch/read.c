/*
 * Directories opened and listed, many at a call.
 *
 * A merged directory of 40 layers is 40 directories, each of which costs five system calls and, cold, one or two reads of
 * a disk that would answer several at once. So as soon as one had to be waited for, threads read the others side by side.
 * They end before the call does.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "batch.h"
#include "threads.h"

enum { THREADS = 3, CHUNK = 32 << 10, ROOM = 1024 };

#define TEXT_MAX (64u << 10) /* bytes of names; whoever has a larger directory reads it in steps */
#define WORTH 4u             /* directories left for which threads are started; guessed */

struct directory {
    int at, fd;
    const char *name;
    uint8_t *text; /* names, each with its NUL, and before each a byte: 1 for a directory */
    uint32_t size, room, count;
    bool marked, whole;
};

struct work {
    struct directory *list;
    size_t count;
    atomic_size_t next;
};

/* Note a name; false without memory, or for too many. */
static bool put(struct directory *directory, const char *name, size_t size, bool is_directory)
{
    if (directory->room - directory->size < size + 2) {
        uint32_t room = directory->room ? directory->room * 4 : ROOM;
        uint8_t *grown = room <= TEXT_MAX ? realloc(directory->text, room) : NULL;
        if (!grown)
            return false;
        directory->text = grown;
        directory->room = room;
    }
    directory->text[directory->size] = is_directory;
    memcpy(directory->text + directory->size + 1, name, size + 1);
    directory->size += (uint32_t)size + 2;
    directory->count++;
    return true;
}

/* Note the entries that one getdents64(2) gave; false at one that must be looked at. */
static bool note(struct directory *directory, const char *from, size_t size)
{
    const size_t head = offsetof(struct dirent64, d_name);

    for (size_t at = 0; at + head < size;) {
        struct dirent64 entry;
        memcpy(&entry, from + at, head);
        const char *name = from + at + head;
        size_t most = entry.d_reclen - head, length = strnlen(name, most);
        at += entry.d_reclen;
        if (!strcmp(name, ".") || !strcmp(name, ".."))
            continue;
        if (entry.d_type != DT_DIR && entry.d_type != DT_REG && entry.d_type != DT_LNK)
            return false;
        if (!length || length == most || length > NAME_MAX || !put(directory, name, length, entry.d_type == DT_DIR))
            return false;
    }
    return true;
}

static void read_one(struct directory *directory)
{
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME;
    char chunk[CHUNK];
    ssize_t size;

    directory->fd = *directory->name ? openat(directory->at, directory->name, flags) : directory->at;
    if (directory->fd < 0)
        return;
    size = flistxattr(directory->fd, NULL, 0);
    directory->marked = size > 0 || (size < 0 && errno != EOPNOTSUPP);
    while ((size = getdents64(directory->fd, chunk, sizeof chunk)) > 0 && note(directory, chunk, (size_t)size))
        ;
    /* Whoever reads it next begins at its beginning. */
    directory->whole = lseek(directory->fd, 0, SEEK_SET) == 0 && !size;
}

static void *take_part(void *context)
{
    struct work *work = context;
    size_t at;

    while ((at = atomic_fetch_add(&work->next, 1)) < work->count)
        read_one(&work->list[at]);
    return NULL;
}

/* Read what is left with threads beside this one. */
static void share(struct work *work)
{
    pthread_t threads[THREADS];
    unsigned started = threads_start(threads, THREADS, take_part, work);

    take_part(work);
    while (started)
        pthread_join(threads[--started], NULL);
}

static int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

/* Read them all; true if a disk had to be waited for. */
static bool read_all(struct directory *list, size_t count, int64_t cold)
{
    struct work work = {.list = list, .count = count};
    long slept = threads_slept();
    bool waited = false;

    for (size_t at = 0; at < count; at++) {
        int64_t began = now();
        read_one(&list[at]);
        if (now() - began > cold && (cold < 0 || threads_slept() != slept)) {
            waited = true;
            if (count - at <= WORTH)
                continue;
            atomic_store(&work.next, at + 1);
            share(&work);
            break;
        }
    }
    return waited;
}

/* Put what was found where the caller has it; false without memory. */
static bool gather(struct directory *list, struct batch_listed *listed, size_t count, struct batch_names *names)
{
    size_t size = 0, kinds = 0;

    for (size_t at = 0; at < count; at++) {
        listed[at] = (struct batch_listed){list[at].fd, list[at].marked, list[at].whole ? (int32_t)list[at].count : -1};
        size += list[at].whole ? list[at].size : 0;
        kinds += list[at].whole ? list[at].count : 0;
    }
    *names = (struct batch_names){malloc(size + 1), size - kinds, kinds};
    if (!names->text)
        return false;
    uint8_t *text = names->text, *kind = text + names->size;
    for (size_t at = 0; at < count; at++) {
        const uint8_t *from = list[at].text, *end = list[at].whole ? from + list[at].size : from;
        while (from < end) {
            size_t length = strlen((const char *)from + 1) + 1;
            *kind++ = *from;
            memcpy(text, from + 1, length);
            text += length;
            from += length + 1;
        }
    }
    return true;
}

int batch_read(
    const int *at, const char *names, size_t count, int64_t cold, struct batch_listed *listed, struct batch_names *found)
{
    struct directory *list = calloc(count + 1, sizeof *list);
    bool done = false;

    if (!list)
        return -1;
    for (size_t each = 0; each < count; each++, names += strlen(names) + 1)
        list[each] = (struct directory){.at = at[each], .fd = -1, .name = names};
    bool waited = read_all(list, count, cold);
    done = gather(list, listed, count, found);
    for (size_t each = 0; each < count; each++) {
        if (!done && *list[each].name && list[each].fd >= 0)
            close(list[each].fd);
        free(list[each].text);
    }
    free(list);
    return done ? waited : -1;
}

void batch_read_free(struct batch_names *found)
{
    free(found->text);
}
