/* On the client's processor: this thread is bound to it while the lane waits, so that to ask and to answer is a switch
 * between two threads there, and no other processor has to be woken. */

#include "state.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define PROCESSOR 39    /* the field of /proc/PID/stat (proc(5)) */
#define SELDOM 256u     /* requests after which the client is looked for again; guessed */
#define LATE 12000      /* ns after which a client may have been moved: to switch takes 4 us, to wake a processor more */
#define SETTLED 2000000 /* ns; with 1 ms it was sometimes in vain */
#define FIRST 3         /* the field behind the name, which may hold anything but ends with the last parenthesis */

/* Return the processor that a thread was last on, or -1: it is gone, or not to be seen. */
int processor_of(uint32_t thread) {
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%u/stat", thread);
    int fd = thread ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return -1;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0) return -1;
    text[size] = 0;
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

/* Go where a client is that has asked after `gap` [ns]. Where that was long it may have been moved, and is looked for.
 * Return what that took [ns]. */
int64_t beside_follow(struct lane *self, uint32_t thread, int64_t gap) {
    struct beside *beside = &self->beside;
    int64_t took = 0;
    beside->since++;
    beside->late |= gap > LATE;
    bool due = !beside->processor || beside->since >= SELDOM || (beside->late && beside->since >= beside->every);
    if (thread && due) { /* a RELEASE is nobody's, and may be what came late */
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
