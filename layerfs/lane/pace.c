/* How the next request is waited for: whatever has it come sooner on this machine.
 *
 * Whoever sleeps must be woken, and a processor that sleeps as well takes long to wake: 60 us where it is a virtual one.
 * Looking for the request keeps the server awake; then it is the client that sleeps, on a processor of its own, and each
 * answer has to wake that. Where both are on one processor nobody else has to be woken, and sleeping is quicker by far
 * (measured, Linux 6.18 with two virtual processors: 4 us from request to request, 18 where the server looks) and takes
 * nothing from others. Kernels like to give each thread a processor of its own, but do not always. So sleeping and
 * looking are tried in turns; and where many requests have followed each other closely, and slowly, the server goes
 * where its client is (beside.c), for as long as that is quicker. */

#include "state.h"

#define BRISK 100000 /* ns; requests that come later tell nothing of sleeping: the client did something else */
#define PAUSE 2000000 /* ns; that is no run of requests any more */
#define BLOCK 16u    /* requests after which the ways are compared; guessed, as the other numbers are */
#define AGAIN 32u    /* blocks after which the other way is tried again */
#define BETTER 8     /* by the how manieth part looking has to be better: it takes a processor */
#define MANY 64u     /* requests that have followed each other, until the client's processor pays */
#define SLOW 12000   /* ns from request to request, below which there is nothing to be had there */
#define STAY 256u    /* requests after which it is seen whether it was worth it, or the time of so many others */
#define REST 512u    /* requests until it is tried again, where it was not: twice as many each time, */
#define REST_MAX (256 * REST)

static int64_t cost(int64_t gaps, bool looks) { return looks ? gaps + gaps / BETTER : gaps; }

/* Compare sleeping and looking. */
static void choose(struct pace *self, int64_t gap) {
    bool looks = self->looks;
    self->sum += gap;
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

/* Return the gap [ns] of sleeping or looking, whatever is shorter; 0 where one is not known. */
static int64_t otherwise(const struct pace *self) {
    return self->each[0] < self->each[1] ? self->each[0] : self->each[1];
}

static void leave(struct pace *self) {
    self->beside = false;
    self->stay = self->stay_sum = 0;
    self->sum = self->count = 0;
}

/* See whether it is worth it to be where the client is. */
static void judge(struct pace *self, int64_t gap) {
    self->stay_sum += gap;
    self->stay++;
    bool worse = self->stay_sum >= STAY * otherwise(self);
    if (self->stay < STAY && !worse) return;
    self->stay = self->stay_sum = 0;
    if (!worse) {
        self->again = 0;
        return;
    }
    self->again = self->again ? self->again * 2 : REST;
    if (self->again > REST_MAX) self->again = REST_MAX;
    self->rest = self->again;
    leave(self);
}

/* Note the time [ns] from the moment when a request could come to the moment when it did, and what following took. */
void pace_note(struct pace *self, int64_t gap, int64_t following) {
    if (gap > PAUSE) {
        self->run = 0;
        if (self->beside) leave(self);
    }
    bool brisk = gap <= BRISK;
    self->run = brisk ? self->run + 1 : self->run / 2;
    gap = gap < 1 ? 1 : brisk ? gap : BRISK;
    if (self->rest) self->rest--;
    if (self->beside)
        judge(self, gap + following);
    else if (brisk || self->looks)
        choose(self, gap);
    if (!self->beside) self->beside = self->run >= MANY && !self->rest && otherwise(self) > SLOW;
}

enum lane_way pace_way(const struct pace *self) {
    return self->beside ? LANE_BESIDE : self->looks ? LANE_LOOKS : LANE_SLEEPS;
}

int lane_way_now(const lane *self) { return pace_way(&self->pace); }

void lane_came(lane *self, int64_t gap, uint32_t thread) {
    int64_t following = self->pace.beside ? beside_follow(self, thread, gap) : 0;
    pace_note(&self->pace, gap, following);
    if (!self->pace.beside) beside_leave(&self->beside);
}
