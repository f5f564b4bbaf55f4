/* Small files that are opened in order: the disk is asked for the data of those that follow.
 *
 * A disk answers several reads at once almost as soon as one, but an open that brings its data along (`store` in answer.c)
 * waits for one alone. So when files of a directory are opened in the order in which it is listed, or by name, the next
 * ones are opened here as well, for posix_fadvise(2), which waits for nothing. It stops when the data turn out to be in
 * memory. fuse/prefetch_data.py does the same without a lane. */

#include "state.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#define WAITS 2u      /* files of one directory that had to wait; from then on the order is looked for */
#define LOW 6u        /* files ahead: asked for again below LOW, up to HIGH */
#define HIGH 16u
#define LISTED 20000u /* names in a directory; the order of more takes too long to find out */
#define KNOWN 16u     /* files in a row that were in memory: nobody waits for a disk here */
#define NOBODY UINT32_MAX

static void begin(struct ahead *ahead) {
    bool by_name = ahead->by_name;
    uint64_t directory = ahead->directory;
    free(ahead->order);
    *ahead = (struct ahead){.directory = directory, .by_name = by_name, .last = NOBODY};
}

void ahead_forget(struct lane *self, uint64_t directory) {
    if (self->ahead.directory != directory) return;
    begin(&self->ahead);
    self->ahead.directory = 0;
}

static int compare(const void *one, const void *other, void *context) {
    const struct directory *directory = context;
    const char *left = directory->text + directory->names[*(const uint32_t *)one].at;
    const char *right = directory->text + directory->names[*(const uint32_t *)other].at;
    uint8_t size = (uint8_t)left[0], most = (uint8_t)right[0];
    int found = memcmp(left + 1, right + 1, size < most ? size : most);
    return found ? found : (int)size - (int)most;
}

/* Return the numbers of a directory's names in one of the two orders; NULL without memory, or for too many. */
static uint32_t *order_of(struct directory *directory, bool by_name) {
    if (!directory->base || directory->base > LISTED) return NULL;
    uint32_t *order = malloc(directory->base * sizeof *order);
    for (uint32_t at = 0; order && at < directory->base; at++) order[at] = at;
    if (order && by_name) qsort_r(order, directory->base, sizeof *order, compare, directory);
    return order;
}

/* Ask the disk for the beginning of a file; true if it is in memory, or has no data. */
static bool advise(const struct directory *directory, uint32_t number) {
    const struct name *name = &directory->names[number];
    const char *text = directory->text + name->at;
    char path[NAME_LIMIT + 1], one[1];
    if (name->place >= directory->shares_count || directory->shares[name->place] < 0) return true;
    memcpy(path, text + 1, (uint8_t)text[0]);
    path[(uint8_t)text[0]] = 0;
    int pin = openat(directory->shares[name->place], path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    int fd = pin >= 0 && !fstat(pin, &st) && S_ISREG(st.st_mode) ? lane_reopen(pin, O_RDONLY) : -1;
    if (pin >= 0) close(pin);
    if (fd < 0) return true;
    struct iovec to = {.iov_base = one, .iov_len = sizeof one};
    bool known = preadv2(fd, &to, 1, 0, RWF_NOWAIT) >= 0 || errno != EAGAIN;
    if (!known) posix_fadvise(fd, 0, STORED_MAX, POSIX_FADV_WILLNEED);
    close(fd);
    return known;
}

static uint32_t ask(struct ahead *ahead, const struct directory *directory) {
    uint32_t at = ahead->asked > ahead->here ? ahead->asked : ahead->here + 1, from = at;
    for (; at < ahead->count && at < ahead->here + HIGH; at++)
        ahead->known = advise(directory, ahead->order[at]) ? ahead->known + 1 : 0;
    ahead->asked = at;
    return at - from;
}

/* Follow an order from a place in it on. */
static uint32_t take(struct ahead *ahead, const struct directory *directory, uint32_t *order, uint32_t here) {
    ahead->order = order;
    ahead->count = directory->base;
    ahead->here = here;
    ahead->asked = here + 1;
    return ask(ahead, directory);
}

/* Find the order in which a file comes after the last one. */
static uint32_t look(struct ahead *ahead, struct directory *directory, uint32_t name) {
    for (int turn = 0; turn < 2; turn++) {
        bool by_name = ahead->by_name ^ (turn == 1);
        uint32_t *order = order_of(directory, by_name);
        for (uint32_t at = 1; order && at < directory->base; at++) {
            if (order[at] != name || order[at - 1] != ahead->last) continue;
            ahead->by_name = by_name;
            return take(ahead, directory, order, at);
        }
        free(order);
    }
    return 0;
}

/* Go on in another directory: at once, if the last one was followed to its end and this is the first file. */
static uint32_t enter(struct ahead *ahead, struct directory *directory, uint32_t name) {
    bool goes_on = ahead->order && ahead->here + 1 >= ahead->count;
    ahead->directory = directory->ino;
    begin(ahead);
    uint32_t *order = goes_on ? order_of(directory, ahead->by_name) : NULL;
    if (order && order[0] == name) return take(ahead, directory, order, 0);
    free(order);
    return 0;
}

uint32_t lane_ahead(lane *self, uint64_t number, uint32_t name, int waited) {
    struct ahead *ahead = &self->ahead;
    struct directory *directory = directory_find(self, number);
    if (!directory || !directory->live || name >= directory->count) return 0;
    uint32_t asked = 0;
    if (ahead->directory != number) {
        asked = enter(ahead, directory, name);
    } else if (ahead->order) {
        ahead->here++;
        if (ahead->here >= ahead->count || ahead->order[ahead->here] != name || ahead->known > KNOWN)
            begin(ahead);
        else if (ahead->asked < ahead->here + LOW)
            asked = ask(ahead, directory);
    }
    if (ahead->order) return asked;
    if (waited && ++ahead->waits >= WAITS && !(ahead->waits & (ahead->waits - 1))) asked = look(ahead, directory, name);
    ahead->last = name;
    return asked;
}
