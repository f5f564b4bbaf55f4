/*
 * Directories that a walk will come to, looked at by threads before it does: listed, and each name in them asked for.
 *
 * Nothing that a thread finds is used. It only brings into the host's caches what a disk would be waited for. So what
 * comes too late, or is not there, changes no answer. As long as nothing had to be waited for, nothing is looked at.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "batch.h"

enum { THREADS = 3, STACK = 256 << 10, CHUNK = 32 << 10, ROOM = 256 };

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

static long sleeps(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_THREAD, &usage) ? 0 : usage.ru_nvcsw;
}

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
    long slept = sleeps();
    int directory = (int)syscall(SYS_openat2, wanted->root, wanted->path, &how, sizeof how);

    if (directory >= 0) {
        (void)!flistxattr(directory, NULL, 0);
        look_at_names(directory);
        close(directory);
    }
    return sleeps() != slept;
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
    pthread_attr_t attributes;
    sigset_t all, before;

    if (!self)
        return NULL;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->come, NULL);
    if (!pthread_attr_init(&attributes)) {
        pthread_attr_setstacksize(&attributes, STACK);
        sigfillset(&all); /* signals are for whoever starts us */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        while (self->started < THREADS && !pthread_create(&self->threads[self->started], &attributes, run, self))
            self->started++;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
    }
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
