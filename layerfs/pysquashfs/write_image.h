/* What the files of the writing half share; Python does not see it. libsquashfs compresses and lays out. These files keep
   its objects together and know what it does not: an image may begin anywhere in a file, a hole need not be read, metadata
   may stay uncompressed, and duplicates are found without comparing all with all.

   Not thread-safe: one sw_writer belongs to one caller at a time. All positions are relative to the image's start. */
#ifndef LAYERFS_PYSQUASHFS_WRITE_IMAGE_H
#define LAYERFS_PYSQUASHFS_WRITE_IMAGE_H

#define _GNU_SOURCE /* SEEK_DATA, SEEK_HOLE */
#include "common.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqfs/block.h>
#include <sqfs/block_processor.h>
#include <sqfs/block_writer.h>
#include <sqfs/compressor.h>
#include <sqfs/dir.h>
#include <sqfs/dir_writer.h>
#include <sqfs/error.h>
#include <sqfs/frag_table.h>
#include <sqfs/id_table.h>
#include <sqfs/inode.h>
#include <sqfs/io.h>
#include <sqfs/meta_writer.h>
#include <sqfs/super.h>
#include <sqfs/xattr.h>
#include <sqfs/xattr_writer.h>

#include "write.h"

#define CHUNK (1 << 20)      /* bytes a read(2); guessed, not yet measured */
#define MAX_BLOCKS (1 << 29) /* of one file; 2 GiB of block list */

/* libsquashfs's file: an image at a position of a descriptor. */
struct target {
	sqfs_file_t base;
	int fd;
	int error;         /* errno of what failed last */
	uint64_t position; /* of the image in the file */
	uint64_t size;     /* of the image so far */
};

/* libsquashfs's block writer, but for how it finds duplicates. Blocks lie in the file without gaps, so equal runs of blocks
   are equal ranges of bytes. */
struct block {
	uint64_t position;
	uint64_t hash; /* size on disk and hash of the content */
	uint64_t next; /* with the same hash modulo the number of chains, later in the image */
};

struct chain {
	uint64_t first, last;
};

struct block_writer {
	sqfs_block_writer_t base;
	struct target *target;
	struct block *blocks;
	uint64_t count, room;
	uint64_t indexed; /* blocks before this one are in chains */
	struct chain *chains;
	uint64_t chain_count; /* a power of two */
	uint64_t file_start;  /* where the current file began, and its first block */
	uint64_t file_first;
	bool in_file;
	bool given_up; /* nothing is written any more */
};

struct hole {
	uint64_t before; /* blocks of the file that libsquashfs was given before it */
	uint64_t blocks;
};

struct content {
	sqfs_inode_generic_t *inode; /* libsquashfs keeps a pointer to this pointer until all blocks are done */
	struct hole *holes;
	size_t hole_count;
	uint64_t hole_blocks;
	uint64_t given; /* bytes given to libsquashfs */
};

struct list {
	void **items;
	size_t count, room;
};

struct sw_writer {
	struct target target;
	struct block_writer blocks;
	uint32_t flags, block_size;
	sqfs_super_t super;
	sqfs_compressor_t *compressor, *uncompressor;
	sqfs_compressor_t *for_inodes, *for_xattrs; /* borrowed: for_metadata or stored */
	sqfs_compressor_t *for_metadata, *for_threads;
	uint32_t backlog; /* blocks that may wait for a thread */
	sqfs_frag_table_t *fragments;
	sqfs_block_processor_t *processor;
	sqfs_id_table_t *ids;
	sqfs_xattr_writer_t *xattrs;
	sqfs_meta_writer_t *inode_table, *directory_table;
	sqfs_dir_writer_t *directory;
	struct content *current;
	struct list contents;    /* struct content */
	struct list directories; /* sqfs_inode_generic_t, complete but for what sw_inode knows */
	uint8_t *chunk;
};

/* write_file.c */
void sw_target_begin(struct target *t, int fd, uint64_t position);
void sw_keep(sqfs_object_t *object); /* "destroys" what is a part of something else */

/* write_compress.c: one that leaves everything as it is; one that does so with what would grow, and from the
   moment that `*given_up` is true with everything. */
extern sqfs_compressor_t sw_stored;
sqfs_compressor_t *sw_hurried(sqfs_compressor_t *inner, const bool *given_up);

/* write_blocks.c */
void sw_blocks_begin(struct block_writer *b, struct target *t);
void sw_blocks_end(struct block_writer *b);

/* write_content.c */
void sw_content_free(struct content *content);

/* write_list.c */
int64_t sw_list_append(struct list *list, void *item);

#endif
