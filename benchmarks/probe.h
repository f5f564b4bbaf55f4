/* What the parts of the probe share. A failure ends the program with a message. */
#ifndef PROBE_H
#define PROBE_H

#include <stddef.h>
#include <stdint.h>

extern uint64_t bytes, found; /* what was counted */
extern char *block;           /* where data are read, and what is written */
extern size_t block_size;

uint64_t now(void); /* ns */
void fail(const char *what);
void *prefaulted(size_t size);

/* What a tree holds, independent of the order of listing; added to `sum`. */
uint64_t digest(int at, const char *name, const char *path, uint64_t sum);

/* Start all commands of a list at once and print their times. */
int commands(char *list, size_t size);

#endif
