#define _GNU_SOURCE
#include "threads.h"

#include <signal.h>
#include <sys/resource.h>

enum { STACK = 256 << 10 };

unsigned threads_start(pthread_t *threads, unsigned most, void *(*run)(void *), void *context)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    unsigned started = 0;

    if (pthread_attr_init(&attributes))
        return 0;
    pthread_attr_setstacksize(&attributes, STACK);
    sigfillset(&all); /* signals are for whoever starts us */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (started < most && !pthread_create(&threads[started], &attributes, run, context))
        started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return started;
}

long threads_slept(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_THREAD, &usage) ? 0 : usage.ru_nvcsw;
}
