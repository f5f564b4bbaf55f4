/* On the client's processor: this thread is bound to it while the lane waits, so that to ask and to answer is a switch
 * between two threads there, and no other processor has to be woken.
 *
 * A kernel may keep a reader of /proc/PID/stat waiting, and deaf to every signal, until that process's execve(2) has
 * closed what it closes: with a WRITE, a SETATTR and a FLUSH that we answer. So a client is looked for only while it
 * waits for a LOOKUP, which is never sent from there and which no client leaves before its answer. */

#include "state.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROCESSOR 39    /* the field of /proc/PID/stat (proc(5)) */
#define SELDOM 256u     /* requests after which the client is looked for again; guessed */
#define LATE 12000      /* ns after which a client may have been moved: to switch takes 4 us, to wake a processor more */
#define SETTLED 2000000 /* ns; with 1 ms it was sometimes in vain */
#define FIRST 3         /* the field behind the name, which may hold anything but ends with the last parenthesis */

/* Have what a file of /proc says in `text`, as a string; false if it cannot be read. */
static bool read_text(const char *path, char *text, size_t room) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t size = read(fd, text, room - 1);
    close(fd);
    text[size > 0 ? size : 0] = 0;
    return size > 0;
}

/* Tell whether /proc names processes as requests do. It may be that of another pid namespace: then it names others. */
static bool names_alike(void) {
    char text[4096];
    int own = 0, end = 0;
    if (!read_text("/proc/self/status", text, sizeof text)) return false;
    const char *line = strstr(text, "\nNSpid:");
    return line && sscanf(line, "\nNSpid: %d%n", &own, &end) == 1 && own == getpid() && line[end] == '\n';
}

/* Return the processor that a thread was last on, or -1: it is gone, or not to be seen. */
static int processor_of(uint32_t thread) {
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%u/stat", thread);
    if (!read_text(path, text, sizeof text)) return -1;
    const char *at = strrchr(text, ')');
    for (int field = FIRST - 1; at && field < PROCESSOR; field++) at = strchr(at + 1, ' ');
    return at ? atoi(at) : -1;
}

/* Bind this thread to the client's processor, if that is known and it may run there. */
void beside_bind(struct beside *self) {
    cpu_set_t one;
    if (self->bound || !self->processor || sched_getaffinity(0, sizeof self->all, &self->all)) return;
    if (!CPU_ISSET(self->processor - 1, &self->all)) return;
    CPU_ZERO(&one);
    CPU_SET(self->processor - 1, &one);
    self->bound = !sched_setaffinity(0, sizeof one, &one);
}

/* Let this thread run wherever it could before. */
void beside_leave(struct beside *self) {
    if (!self->bound) return;
    self->bound = false;
    sched_setaffinity(0, sizeof self->all, &self->all);
}

/* Sleep, so that the host takes away the processors that were used before: to one that it keeps at hand the kernel would
 * move the client once it is answered. Return how long that took [ns]. */
static int64_t settle(void) {
    struct timespec time = {.tv_nsec = SETTLED};
    int64_t begin = lane_now();
    nanosleep(&time, NULL);
    return lane_now() - begin;
}

/* Go where a client is that has asked after `gap` [ns]. Where that was long it may have been moved, and is looked for,
 * if `thread` (0: none) waits for a LOOKUP. Return what that took [ns]. */
int64_t beside_follow(struct lane *self, uint32_t thread, int64_t gap) {
    struct beside *beside = &self->beside;
    int64_t took = 0;
    beside->since++;
    beside->late |= gap > LATE;
    bool due = !beside->processor || beside->since >= SELDOM || (beside->late && beside->since >= beside->every);
    if (!beside->names) beside->names = names_alike() ? 1 : -1;
    if (thread && due && beside->names > 0) { /* a RELEASE is nobody's, and may be what came late */
        int processor = processor_of(thread) + 1;
        bool moved = processor > 0 && processor <= CPU_SETSIZE && processor != beside->processor;
        beside->since = 0;
        beside->late = false;
        beside->every = moved || beside->every > SELDOM ? 1 : 2 * beside->every; /* it may just think for so long */
        if (moved) {
            beside_leave(beside);
            beside->processor = processor;
            beside_bind(beside);
            if (beside->bound) took = settle();
        }
    }
    beside_bind(beside);
    return took;
}
