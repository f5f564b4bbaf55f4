/* Threads beside the one that Python runs on, and whether one had to sleep. Not for Python. */

#ifndef BATCH_THREADS_H
#define BATCH_THREADS_H

#include <pthread.h>

/* Start up to `most` threads with small stacks, to which no signal comes; return how many there are. */
unsigned threads_start(pthread_t *threads, unsigned most, void *(*run)(void *), void *context);

/* Return how often the calling thread has slept: a disk was waited for in between if that grew. */
long threads_slept(void);

#endif
