/*
 * Directories that a walk will come to, looked at by threads before it does: listed, and each name in them asked for.
 *
 * Nothing that a thread finds is used. It only brings into the host's caches what a disk would be waited for. So what
 * comes too late, or is not there, changes no answer. As long as nothing had to be waited for, nothing is looked at.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "batch.h"
#include "threads.h"

enum { THREADS = 3, CHUNK = 32 << 10, ROOM = 256 };

#define NAMES_MAX 1024 /* that are asked for in one directory; guessed */
#define KNOWN 16u      /* directories in a row that were in memory: nobody waits for a disk here */

struct wanted {
    int root;
    char *path;
};

struct batch_ahead {
    pthread_mutex_t lock;
    pthread_cond_t come;
    struct wanted ring[ROOM];
    unsigned first, count, started, known;
    bool ending;
    pthread_t threads[THREADS];
};

static void look_at_names(int directory)
{
    char chunk[CHUNK];
    unsigned asked = 0;
    ssize_t size;

    while (asked < NAMES_MAX && (size = getdents64(directory, chunk, sizeof chunk)) > 0) {
        for (ssize_t at = 0; at < size && asked < NAMES_MAX; asked++) {
            struct dirent64 *entry = (struct dirent64 *)(void *)(chunk + at);
            struct stat st;
            at += entry->d_reclen;
            if (entry->d_type == DT_REG || entry->d_type == DT_LNK) /* a directory may be where a server is mounted */
                (void)!fstatat(directory, entry->d_name, &st, AT_SYMLINK_NOFOLLOW);
        }
    }
}

/* Look at a directory; true if a disk had to be waited for. */
static bool look_at(const struct wanted *wanted)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOATIME,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
    };
    long slept = threads_slept();
    int directory = (int)syscall(SYS_openat2, wanted->root, wanted->path, &how, sizeof how);

    if (directory >= 0) {
        (void)!flistxattr(directory, NULL, 0);
        look_at_names(directory);
        close(directory);
    }
    return threads_slept() != slept;
}

static void *run(void *context)
{
    struct batch_ahead *self = context;

    pthread_mutex_lock(&self->lock);
    while (!self->ending) {
        if (!self->count) {
            pthread_cond_wait(&self->come, &self->lock);
            continue;
        }
        struct wanted wanted = self->ring[self->first];
        self->first = (self->first + 1) % ROOM;
        self->count--;
        pthread_mutex_unlock(&self->lock);
        bool waited = look_at(&wanted);
        free(wanted.path);
        pthread_mutex_lock(&self->lock);
        self->known = waited ? 0 : self->known + 1;
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

struct batch_ahead *batch_ahead_start(void)
{
    struct batch_ahead *self = calloc(1, sizeof *self);

    if (!self)
        return NULL;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->come, NULL);
    self->started = threads_start(self->threads, THREADS, run, self);
    return self;
}

void batch_ahead_waited(struct batch_ahead *self)
{
    pthread_mutex_lock(&self->lock);
    self->known = 0;
    pthread_mutex_unlock(&self->lock);
}

int batch_ahead_ask(struct batch_ahead *self, int root, const char *path)
{
    struct wanted wanted = {.root = root, .path = strdup(path)};
    bool taken = false;

    pthread_mutex_lock(&self->lock);
    if (wanted.path && self->started && self->count < ROOM && self->known < KNOWN) {
        self->ring[(self->first + self->count++) % ROOM] = wanted;
        pthread_cond_signal(&self->come);
        taken = true;
    }
    pthread_mutex_unlock(&self->lock);
    if (!taken)
        free(wanted.path);
    return taken;
}

void batch_ahead_end(struct batch_ahead *self)
{
    pthread_mutex_lock(&self->lock);
    self->ending = true;
    pthread_cond_broadcast(&self->come);
    pthread_mutex_unlock(&self->lock);
    while (self->started)
        pthread_join(self->threads[--self->started], NULL);
    for (; self->count; self->count--, self->first = (self->first + 1) % ROOM)
        free(self->ring[self->first].path);
    pthread_cond_destroy(&self->come);
    pthread_mutex_destroy(&self->lock);
    free(self);
}
