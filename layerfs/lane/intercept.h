/* Requests that libfuse's user cannot serve: who serves them, and where libfuse's reader puts them. */

#ifndef LAYERFS_INTERCEPT_H
#define LAYERFS_INTERCEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The opcodes that are not for libfuse, a bit for each. Python sets it, by its name in this library, before it serves. */
extern uint64_t layerfs_raw_opcodes;

/* Where a message of `size` bytes is about a file or directory that the kernel has opened by itself, put the number in the
 * place of the handle, which is 0: whoever serves it goes by that. */
void layerfs_name_handle(char *message, size_t size);

struct custom_io;
/* The session of libfuse's that has read last, and the function by which its user reads and writes; NULL if there is none. */
extern void *layerfs_session;
extern int (*layerfs_custom_io)(void *session, const struct custom_io *io, int fd);

static inline bool is_raw(uint32_t opcode) { return opcode < 64 && layerfs_raw_opcodes >> opcode & 1; }

#endif
