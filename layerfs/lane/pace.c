/* Whether to look for the next request, or to sleep until it comes: whatever has it come sooner on this machine.
 *
 * Whoever sleeps must be woken, and a processor that sleeps as well takes long to wake: 50 us where it is a virtual one.
 * Looking instead keeps the server awake; then it is the client that sleeps, on a processor of its own, and each answer
 * has to wake that. Where a kernel puts both on one processor, nobody has to be woken, and sleeping is quicker by far
 * (measured, Linux 6.18 with two virtual processors: 4 us from request to request, 18 where the server looks). On a busy
 * machine it is quicker, too: the client gets the processor that looking would keep. So both ways are tried in turns. */

#include "state.h"

#define BRISK 100000 /* ns; requests that come later tell nothing: the client did something else */
#define BLOCK 16u    /* requests after which the ways are compared; guessed, as the next two are */
#define AGAIN 32u    /* blocks after which the other way is tried again */
#define BETTER 8     /* by the how manieth part looking has to be better: it takes a processor */

static int64_t cost(int64_t gaps, bool looks) { return looks ? gaps + gaps / BETTER : gaps; }

/* Note the time [ns] from the moment when a request could come to the moment when it did. */
void pace_note(struct pace *self, bool looks, int64_t gap) {
    if (looks != self->looks) return; /* not everybody who waits may look */
    if (gap > BRISK) {
        if (!looks) return;
        gap = BRISK;
    }
    self->sum += gap > 0 ? gap : 1;
    self->count++;
    int64_t other = self->each[!looks];
    bool worse = other && cost(self->sum, looks) > BLOCK * cost(other, !looks);
    if (self->count < BLOCK && !worse) return;
    self->each[looks] = self->sum / self->count;
    self->sum = self->count = 0;
    if (!worse && other && ++self->blocks < AGAIN) return;
    self->looks = !looks;
    self->blocks = 0;
}

int lane_looks(const lane *self) { return self->pace.looks; }

void lane_came(lane *self, int64_t gap) { pace_note(&self->pace, self->pace.looks, gap); }
