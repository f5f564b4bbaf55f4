/* Writing images: libsquashfs compresses and lays out, this file keeps its objects together and knows three things that
   it does not: an image may begin anywhere in a file, a hole need not be read, and metadata may stay uncompressed.

   Not thread-safe: one sw_writer belongs to one caller at a time. All positions are relative to the image's start. */
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

#define CHUNK (1 << 20)    /* bytes a read(2); guessed, not yet measured */
/* Blocks that wait for threads, by their bytes, but within limits. The end of a file counts as a block until it is in a
   fragment block, so that with few of them only one thread has work. Measured: 20,000 files of 2 to 18 KiB in blocks of
   128 KiB, zstd, two threads: 27 s with 20 blocks, 12 s with 512. */
#define BACKLOG (64 << 20)
#define BACKLOG_LEAST 128
#define BACKLOG_MOST 1024
#define CANDIDATES 64      /* earlier blocks with the same hash that are tried: bounds the time of hostile content */
#define NONE UINT64_MAX    /* end of a chain */
#define MAX_BLOCKS (1 << 29) /* of one file; 2 GiB of block list */

static const uint8_t zeros[65536];

/* ---- the file: an image at a position of a descriptor ---- */

struct target {
	sqfs_file_t base;
	int fd;
	int error;         /* errno of what failed last */
	uint64_t position; /* of the image in the file */
	uint64_t size;     /* of the image so far */
};

static int target_read(sqfs_file_t *file, sqfs_u64 offset, void *buffer, size_t size)
{
	struct target *t = (struct target *)file;
	uint8_t *at = buffer;

	while (size > 0) {
		ssize_t got = pread(t->fd, at, size, t->position + offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			t->error = got < 0 ? errno : EIO;
			return SQFS_ERROR_IO;
		}
		at += got;
		offset += got;
		size -= got;
	}
	return 0;
}

static int target_write(sqfs_file_t *file, sqfs_u64 offset, const void *buffer, size_t size)
{
	struct target *t = (struct target *)file;
	const uint8_t *at = buffer;

	while (size > 0) {
		ssize_t put = pwrite(t->fd, at, size, t->position + offset);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0) {
			t->error = put < 0 ? errno : EIO;
			return SQFS_ERROR_IO;
		}
		at += put;
		offset += put;
		size -= put;
	}
	if (offset > t->size)
		t->size = offset;
	return 0;
}

static sqfs_u64 target_size(const sqfs_file_t *file)
{
	return ((const struct target *)file)->size;
}

/* Only a number: what lies behind is overwritten, or cut off by sw_finish. */
static int target_truncate(sqfs_file_t *file, sqfs_u64 size)
{
	((struct target *)file)->size = size;
	return 0;
}

static void nothing(sqfs_object_t *object)
{
	(void)object;
}

/* ---- a compressor that says of everything that it cannot be compressed: libsquashfs then stores it as it is ---- */

static void stored_configuration(const sqfs_compressor_t *compressor, sqfs_compressor_config_t *config)
{
	(void)compressor;
	memset(config, 0, sizeof(*config));
}

static int stored_options(sqfs_compressor_t *compressor, sqfs_file_t *file)
{
	(void)compressor;
	(void)file;
	return 0;
}

static sqfs_s32 stored_block(sqfs_compressor_t *compressor, const sqfs_u8 *in, sqfs_u32 size, sqfs_u8 *out,
			     sqfs_u32 out_size)
{
	(void)compressor;
	(void)in;
	(void)size;
	(void)out;
	(void)out_size;
	return 0;
}

static sqfs_compressor_t stored = {
	.base = {.destroy = nothing, .copy = NULL},
	.get_configuration = stored_configuration,
	.write_options = stored_options,
	.read_options = stored_options,
	.do_block = stored_block,
};

/* ---- the compressor of the threads, and a way to hurry them: after `*given_up` nothing is compressed any more ---- */

struct hurried {
	sqfs_compressor_t base;
	sqfs_compressor_t *inner; /* owned */
	const bool *given_up;
};

static void hurried_destroy(sqfs_object_t *object)
{
	sqfs_destroy(((struct hurried *)object)->inner);
	free(object);
}

static sqfs_s32 hurried_block(sqfs_compressor_t *compressor, const sqfs_u8 *in, sqfs_u32 size, sqfs_u8 *out,
			      sqfs_u32 out_size)
{
	struct hurried *h = (struct hurried *)compressor;

	return __atomic_load_n(h->given_up, __ATOMIC_RELAXED) ? 0 : h->inner->do_block(h->inner, in, size, out, out_size);
}

static sqfs_object_t *hurried_copy(const sqfs_object_t *object);

/* Takes `inner`, also when there is no memory. */
static sqfs_compressor_t *hurried_create(sqfs_compressor_t *inner, const bool *given_up)
{
	struct hurried *h = calloc(1, sizeof(*h));

	if (h == NULL || inner == NULL) {
		free(h);
		sqfs_destroy(inner);
		return NULL;
	}
	h->base = stored; /* only blocks are asked of it */
	h->base.base = (sqfs_object_t){.destroy = hurried_destroy, .copy = hurried_copy};
	h->base.do_block = hurried_block;
	h->inner = inner;
	h->given_up = given_up;
	return &h->base;
}

static sqfs_object_t *hurried_copy(const sqfs_object_t *object)
{
	const struct hurried *h = (const struct hurried *)object;

	return (sqfs_object_t *)hurried_create(sqfs_copy(h->inner), h->given_up);
}

/* ---- block writer: libsquashfs's own compares each file with all blocks before it, which is quadratic; this one looks
   the file's first block up. Blocks lie in the file without gaps, so equal runs of blocks are equal ranges of bytes. ---- */

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

static struct chain *chain_of(struct block_writer *b, uint64_t hash)
{
	return &b->chains[((hash * 0x9E3779B97F4A7C15u) >> 20) & (b->chain_count - 1)];
}

static void chain_append(struct block_writer *b, uint64_t index)
{
	struct chain *chain = chain_of(b, b->blocks[index].hash);

	b->blocks[index].next = NONE;
	if (chain->first == NONE)
		chain->first = index;
	else
		b->blocks[chain->last].next = index;
	chain->last = index;
}

static int chains_grow(struct block_writer *b)
{
	uint64_t count = b->chain_count ? b->chain_count * 4 : 1024, i;
	struct chain *chains = malloc(count * sizeof(*chains));

	if (chains == NULL)
		return SQFS_ERROR_ALLOC;
	for (i = 0; i < count; ++i)
		chains[i].first = chains[i].last = NONE;
	free(b->chains);
	b->chains = chains;
	b->chain_count = count;
	for (i = 0; i < b->indexed; ++i)
		chain_append(b, i);
	return 0;
}

static int index_blocks(struct block_writer *b)
{
	int error;

	if (b->count > b->chain_count && (error = chains_grow(b)) != 0)
		return error;
	for (; b->indexed < b->count; ++b->indexed)
		chain_append(b, b->indexed);
	return 0;
}

static int remember_block(struct block_writer *b, uint64_t position, uint64_t hash)
{
	if (b->count == b->room) {
		uint64_t room = b->room ? b->room * 2 : 1024;
		struct block *blocks = realloc(b->blocks, room * sizeof(*blocks));

		if (blocks == NULL)
			return SQFS_ERROR_ALLOC;
		b->blocks = blocks;
		b->room = room;
	}
	b->blocks[b->count++] = (struct block){.position = position, .hash = hash, .next = NONE};
	return 0;
}

static int same_bytes(struct target *t, uint64_t one, uint64_t other, uint64_t size, bool *same)
{
	uint8_t left[16384], right[16384];
	int error;

	*same = true;
	while (size > 0 && *same) {
		size_t part = size < sizeof(left) ? size : sizeof(left);

		if ((error = target_read(&t->base, one, left, part)) != 0 ||
		    (error = target_read(&t->base, other, right, part)) != 0)
			return error;
		*same = memcmp(left, right, part) == 0;
		one += part;
		other += part;
		size -= part;
	}
	return 0;
}

static bool same_hashes(const struct block_writer *b, uint64_t candidate, uint64_t count)
{
	uint64_t i;

	if (candidate + count > b->file_first)
		return false;
	for (i = 0; i < count; ++i)
		if (b->blocks[candidate + i].hash != b->blocks[b->file_first + i].hash)
			return false;
	return true;
}

/* Find the first earlier run of blocks that equals the file just written. */
static int find_duplicate(struct block_writer *b, uint64_t count, uint64_t *found)
{
	uint64_t hash = b->blocks[b->file_first].hash, size = b->target->size - b->file_start, at;
	int tried = 0, error;
	bool same;

	*found = NONE;
	if (b->chain_count == 0)
		return 0;
	for (at = chain_of(b, hash)->first; at != NONE && tried < CANDIDATES; at = b->blocks[at].next) {
		if (b->blocks[at].hash != hash)
			continue;
		++tried;
		if (!same_hashes(b, at, count))
			continue;
		error = same_bytes(b->target, b->blocks[at].position, b->file_start, size, &same);
		if (error)
			return error;
		if (same) {
			*found = at;
			return 0;
		}
	}
	return 0;
}

static int end_of_file(struct block_writer *b, bool deduplicate, sqfs_u64 *location)
{
	uint64_t count = b->count - b->file_first, found = NONE;
	int error;

	b->in_file = false;
	*location = count ? b->file_start : 0;
	if (count && deduplicate && (error = find_duplicate(b, count, &found)) != 0)
		return error;
	if (found == NONE)
		return index_blocks(b);
	*location = b->blocks[found].position;
	b->count = b->file_first;
	b->target->size = b->file_start;
	return 0;
}

static int block_write(sqfs_block_writer_t *base, void *user, sqfs_u32 size, sqfs_u32 checksum, sqfs_u32 flags,
		       const sqfs_u8 *data, sqfs_u64 *location)
{
	struct block_writer *b = (struct block_writer *)base;
	int error;

	(void)user;
	*location = b->target->size;
	if (__atomic_load_n(&b->given_up, __ATOMIC_RELAXED))
		return 0;
	if (flags & SQFS_BLK_FIRST_BLOCK) {
		b->file_start = b->target->size;
		b->file_first = b->count;
		b->in_file = true;
	} else if (b->in_file == ((flags & SQFS_BLK_FRAGMENT_BLOCK) != 0)) {
		return SQFS_ERROR_SEQUENCE; /* a file's blocks come together, or else runs were no ranges */
	}
	if (size != 0 && !(flags & SQFS_BLK_IS_SPARSE)) {
		uint64_t hash = (uint64_t)size << 33 | (uint64_t)!!(flags & SQFS_BLK_IS_COMPRESSED) << 32 | checksum;

		if ((error = remember_block(b, b->target->size, hash)) != 0 ||
		    (error = target_write(&b->target->base, b->target->size, data, size)) != 0)
			return error;
	}
	if (flags & SQFS_BLK_LAST_BLOCK)
		return end_of_file(b, !(flags & SQFS_BLK_DONT_DEDUPLICATE), location);
	return b->in_file ? 0 : index_blocks(b);
}

static sqfs_u64 block_count(const sqfs_block_writer_t *base)
{
	return ((const struct block_writer *)base)->count;
}

/* ---- the writer ---- */

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
	sqfs_compressor_t *for_inodes, *for_xattrs; /* borrowed: compressor or stored */
	sqfs_compressor_t *for_threads;
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

static int64_t list_append(struct list *list, void *item)
{
	if (list->count == list->room) {
		size_t room = list->room ? list->room * 2 : 256;
		void **items = realloc(list->items, room * sizeof(*items));

		if (items == NULL)
			return SQFS_ERROR_ALLOC;
		list->items = items;
		list->room = room;
	}
	list->items[list->count] = item;
	return (int64_t)list->count++;
}

static void content_free(struct content *content)
{
	if (content == NULL)
		return;
	free(content->inode);
	free(content->holes);
	free(content);
}

void sw_give_up(sw_writer *w)
{
	__atomic_store_n(&w->blocks.given_up, true, __ATOMIC_RELAXED);
}

/* libsquashfs loses the memory of blocks that are in its threads' hands when a processor is destroyed. */
static void drain(sw_writer *w)
{
	uint32_t tries = w->backlog + 1; /* each ends with the error of a block, which is then gone */

	sw_give_up(w);
	while (sqfs_block_processor_sync(w->processor) != 0 && tries > 0)
		--tries;
}

void sw_destroy(sw_writer *w)
{
	size_t i;

	if (w == NULL)
		return;
	if (w->processor != NULL)
		drain(w);
	sqfs_destroy(w->processor); /* before what its threads use */
	sqfs_destroy(w->directory);
	sqfs_destroy(w->directory_table);
	sqfs_destroy(w->inode_table);
	sqfs_destroy(w->xattrs);
	sqfs_destroy(w->ids);
	sqfs_destroy(w->fragments);
	sqfs_destroy(w->uncompressor);
	sqfs_destroy(w->for_threads);
	sqfs_destroy(w->compressor);
	for (i = 0; i < w->contents.count; ++i)
		content_free(w->contents.items[i]);
	for (i = 0; i < w->directories.count; ++i)
		free(w->directories.items[i]);
	content_free(w->current);
	free(w->contents.items);
	free(w->directories.items);
	free(w->blocks.blocks);
	free(w->blocks.chains);
	free(w->chunk);
	free(w);
}

int sw_errno(const sw_writer *w)
{
	return w->target.error;
}

static int make_compressors(sw_writer *w, int id, int level)
{
	sqfs_compressor_config_t config;
	int error;

	error = sqfs_compressor_config_init(&config, id, w->block_size, w->flags & SW_LZ4_HC ? SQFS_COMP_FLAG_LZ4_HC : 0);
	if (error)
		return error;
	if (level >= 0)
		config.level = level;
	error = sqfs_compressor_create(&config, &w->compressor);
	if (error)
		return error;
	config.flags |= SQFS_COMP_FLAG_UNCOMPRESS;
	error = sqfs_compressor_create(&config, &w->uncompressor);
	if (error)
		return error;
	w->for_inodes = w->flags & SW_COMPRESS_INODES ? w->compressor : &stored;
	w->for_xattrs = w->flags & SW_COMPRESS_XATTRS ? w->compressor : &stored;
	return 0;
}

/* The superblock's place is taken; the compressor's options follow it (always with lz4). */
static int begin_file(sw_writer *w, int compressor)
{
	int done;

	if ((done = sqfs_super_init(&w->super, w->block_size, 0, compressor)) != 0 ||
	    (done = sqfs_super_write(&w->super, &w->target.base)) != 0)
		return done;
	done = w->compressor->write_options(w->compressor, &w->target.base);
	if (done > 0)
		w->super.flags |= SQFS_FLAG_COMPRESSOR_OPTIONS;
	return done < 0 ? done : 0;
}

static uint32_t backlog_of(uint32_t block_size, uint32_t threads)
{
	uint32_t blocks = BACKLOG / block_size;

	if (blocks < BACKLOG_LEAST)
		blocks = BACKLOG_LEAST;
	if (blocks > BACKLOG_MOST)
		blocks = BACKLOG_MOST; /* libsquashfs keeps them in a list */
	return blocks + 4 * threads;
}

static int make_processor(sw_writer *w, uint32_t threads)
{
	uint32_t backlog = backlog_of(w->block_size, threads);
	sqfs_block_processor_desc_t wanted = {
		.size = sizeof(wanted),
		.max_block_size = w->block_size,
		.num_workers = threads,
		.max_backlog = backlog,
		.cmp = hurried_create(sqfs_copy(w->compressor), &w->blocks.given_up),
		.wr = &w->blocks.base,
		.tbl = w->fragments,
		.file = &w->target.base,
		.uncmp = w->uncompressor,
	};

	w->backlog = backlog;
	w->for_threads = wanted.cmp;
	return wanted.cmp == NULL ? SQFS_ERROR_ALLOC : sqfs_block_processor_create_ex(&wanted, &w->processor);
}

static int make_tables(sw_writer *w)
{
	w->ids = sqfs_id_table_create(0);
	w->xattrs = sqfs_xattr_writer_create(0);
	w->fragments = sqfs_frag_table_create(0);
	w->inode_table = sqfs_meta_writer_create(&w->target.base, w->for_inodes, 0);
	w->directory_table =
		sqfs_meta_writer_create(&w->target.base, w->for_inodes, SQFS_META_WRITER_KEEP_IN_MEMORY);
	w->chunk = malloc(CHUNK);
	if (!w->ids || !w->xattrs || !w->fragments || !w->inode_table || !w->directory_table || !w->chunk)
		return SQFS_ERROR_ALLOC;
	w->directory = sqfs_dir_writer_create(w->directory_table,
					      w->flags & SW_EXPORT ? SQFS_DIR_WRITER_CREATE_EXPORT_TABLE : 0);
	return w->directory == NULL ? SQFS_ERROR_ALLOC : 0;
}

int sw_create(int fd, uint64_t position, int compressor, int level, uint32_t block_size, uint32_t threads,
	      uint32_t flags, sw_writer **out)
{
	sw_writer *w = calloc(1, sizeof(*w));
	int error;

	*out = w;
	if (w == NULL)
		return SQFS_ERROR_ALLOC;
	w->flags = flags;
	w->block_size = block_size;
	w->target = (struct target){
		.base = {.base = {.destroy = nothing, .copy = NULL},
			 .read_at = target_read,
			 .write_at = target_write,
			 .get_size = target_size,
			 .truncate = target_truncate},
		.fd = fd,
		.position = position,
	};
	w->blocks.base = (sqfs_block_writer_t){
		.base = {.destroy = nothing, .copy = NULL}, .write_data_block = block_write, .get_block_count = block_count};
	w->blocks.target = &w->target;
	if ((error = make_compressors(w, compressor, level)) != 0 || (error = make_tables(w)) != 0 ||
	    (error = begin_file(w, compressor)) != 0)
		return error;
	return make_processor(w, threads);
}

/* ---- content ---- */

int sw_file_begin(sw_writer *w)
{
	uint32_t flags = 0;

	if (w->current != NULL || w->processor == NULL)
		return SQFS_ERROR_SEQUENCE;
	if (!(w->flags & SW_COMPRESS_DATA))
		flags |= SQFS_BLK_DONT_COMPRESS;
	if (!(w->flags & SW_FRAGMENTS))
		flags |= SQFS_BLK_DONT_FRAGMENT;
	if (!(w->flags & SW_DEDUPLICATE))
		flags |= SQFS_BLK_DONT_DEDUPLICATE;
	w->current = calloc(1, sizeof(*w->current));
	if (w->current == NULL)
		return SQFS_ERROR_ALLOC;
	return sqfs_block_processor_begin_file(w->processor, &w->current->inode, NULL, flags);
}

int sw_append(sw_writer *w, const void *data, size_t size)
{
	if (w->current == NULL)
		return SQFS_ERROR_SEQUENCE;
	w->current->given += size;
	return sqfs_block_processor_append(w->processor, data, size);
}

/* Whole blocks of a hole are not shown to libsquashfs at all: add_holes puts them into the finished inode. */
static int skip_blocks(struct content *content, uint64_t blocks, uint32_t block_size)
{
	uint64_t before = content->given / block_size;
	struct hole *holes;

	if (blocks > MAX_BLOCKS || content->hole_blocks + blocks > MAX_BLOCKS)
		return SQFS_ERROR_OVERFLOW;
	content->hole_blocks += blocks;
	if (content->hole_count && content->holes[content->hole_count - 1].before == before) {
		content->holes[content->hole_count - 1].blocks += blocks;
		return 0;
	}
	if ((content->hole_count & (content->hole_count - 1)) == 0) { /* full at each power of two */
		holes = realloc(content->holes, (content->hole_count ? content->hole_count * 2 : 1) * sizeof(*holes));
		if (holes == NULL)
			return SQFS_ERROR_ALLOC;
		content->holes = holes;
	}
	content->holes[content->hole_count++] = (struct hole){.before = before, .blocks = blocks};
	return 0;
}

int sw_zeros(sw_writer *w, uint64_t count)
{
	if (w->current == NULL)
		return SQFS_ERROR_SEQUENCE;
	while (count > 0) {
		uint64_t filled = w->current->given % w->block_size, part = w->block_size - filled;
		int error;

		if (filled == 0 && count >= w->block_size) {
			part = count - count % w->block_size;
			error = skip_blocks(w->current, count / w->block_size, w->block_size);
		} else {
			part = part < count ? part : count;
			part = part < sizeof(zeros) ? part : sizeof(zeros);
			error = sw_append(w, zeros, part);
		}
		if (error)
			return error;
		count -= part;
	}
	return 0;
}

static int copy_data(sw_writer *w, int fd, uint64_t position, uint64_t end)
{
	while (position < end) {
		size_t want = end - position < CHUNK ? end - position : CHUNK;
		ssize_t got = pread(fd, w->chunk, want, position);
		int error;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			w->target.error = errno;
			return SW_SOURCE;
		}
		if (got == 0)
			return SW_CHANGED;
		if ((error = sw_append(w, w->chunk, got)) != 0)
			return error;
		position += got;
	}
	return 0;
}

/* Where the data at or after `position` begin; `end` if there are none. Files that know no holes are data. */
static uint64_t data_at(int fd, uint64_t position, uint64_t end)
{
	off_t found = lseek(fd, position, SEEK_DATA);

	if (found < 0)
		return errno == ENXIO ? end : position;
	return (uint64_t)found < end ? (uint64_t)found : end;
}

static uint64_t hole_at(int fd, uint64_t position, uint64_t end)
{
	off_t found = lseek(fd, position, SEEK_HOLE);

	return found < 0 || (uint64_t)found > end ? end : (uint64_t)found;
}

int64_t sw_copy(sw_writer *w, int fd, uint64_t position, uint64_t end, uint64_t budget)
{
	uint64_t copied = 0;

	while (position < end && copied < budget) {
		uint64_t data = data_at(fd, position, end), hole;
		int error = sw_zeros(w, data - position);

		if (error)
			return error;
		position = data;
		if (position == end)
			break;
		hole = hole_at(fd, position, end);
		if (hole > position + (budget - copied))
			hole = position + (budget - copied);
		if ((error = copy_data(w, fd, position, hole)) != 0)
			return error;
		copied += hole - position;
		position = hole;
	}
	return (int64_t)position;
}

int64_t sw_file_end(sw_writer *w)
{
	int64_t index;
	int error;

	if (w->current == NULL)
		return SQFS_ERROR_SEQUENCE;
	if ((error = sqfs_block_processor_end_file(w->processor)) != 0)
		return error;
	index = list_append(&w->contents, w->current);
	if (index >= 0)
		w->current = NULL;
	return index;
}

/* Put the holes that libsquashfs was not shown into a file's block list. */
static int add_holes(struct content *content, uint32_t block_size)
{
	size_t given = content->inode->payload_bytes_used / sizeof(uint32_t), total = given + content->hole_blocks;
	size_t from = 0, to = 0, i;
	uint64_t skipped = content->hole_blocks * block_size;
	sqfs_inode_generic_t *inode;
	int error;

	if (total > MAX_BLOCKS)
		return SQFS_ERROR_OVERFLOW;
	if ((error = sqfs_inode_make_extended(content->inode)) != 0)
		return error;
	inode = calloc(1, sizeof(*inode) + total * sizeof(uint32_t));
	if (inode == NULL)
		return SQFS_ERROR_ALLOC;
	memcpy(inode, content->inode, sizeof(*inode));
	for (i = 0; i < content->hole_count; ++i) {
		size_t part = content->holes[i].before - from;

		memcpy(inode->extra + to, content->inode->extra + from, part * sizeof(uint32_t));
		from += part;
		to += part + content->holes[i].blocks;
	}
	memcpy(inode->extra + to, content->inode->extra + from, (given - from) * sizeof(uint32_t));
	inode->payload_bytes_available = inode->payload_bytes_used = total * sizeof(uint32_t);
	inode->data.file_ext.file_size += skipped;
	inode->data.file_ext.sparse += skipped;
	free(content->inode);
	content->inode = inode;
	return 0;
}

int sw_content_end(sw_writer *w)
{
	size_t i;
	int error;

	if (w->current != NULL || w->processor == NULL)
		return SQFS_ERROR_SEQUENCE;
	if ((error = sqfs_block_processor_finish(w->processor)) != 0)
		return error;
	sqfs_destroy(w->processor);
	w->processor = NULL;
	for (i = 0; i < w->contents.count; ++i) {
		struct content *content = w->contents.items[i];

		if (content->hole_count && (error = add_holes(content, w->block_size)) != 0)
			return error;
	}
	w->super.inode_table_start = w->target.size;
	return 0;
}

/* ---- metadata ---- */

int sw_xattr_begin(sw_writer *w)
{
	return sqfs_xattr_writer_begin(w->xattrs, 0);
}

int sw_xattr_add(sw_writer *w, const char *name, const void *value, size_t size)
{
	return sqfs_xattr_writer_add(w->xattrs, name, value, size);
}

int64_t sw_xattr_end(sw_writer *w)
{
	sqfs_u32 index;
	int error = sqfs_xattr_writer_end(w->xattrs, &index);

	return error ? error : (int64_t)index;
}

int sw_directory_begin(sw_writer *w)
{
	return sqfs_dir_writer_begin(w->directory, 0);
}

int sw_directory_entry(sw_writer *w, const char *name, uint32_t number, uint64_t reference, uint32_t mode)
{
	return sqfs_dir_writer_add_entry(w->directory, name, number, reference, mode);
}

int64_t sw_directory_end(sw_writer *w, uint32_t parent)
{
	sqfs_inode_generic_t *inode;
	int64_t index;
	int error = sqfs_dir_writer_end(w->directory);

	if (error)
		return error;
	/* Sizes are 32 bit, and count 3 more for "." and ".."; the index's count is 16 bit. */
	if (sqfs_dir_writer_get_size(w->directory) > UINT32_MAX - 3 ||
	    sqfs_dir_writer_get_index_size(w->directory) > UINT16_MAX)
		return SQFS_ERROR_OVERFLOW;
	inode = sqfs_dir_writer_create_inode(w->directory, 0, SW_NO_XATTRS, parent);
	if (inode == NULL)
		return SQFS_ERROR_ALLOC;
	index = list_append(&w->directories, inode);
	if (index < 0)
		free(inode);
	return index;
}

static uint16_t plain_type(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return SQFS_INODE_DIR;
	case S_IFREG:
		return SQFS_INODE_FILE;
	case S_IFLNK:
		return SQFS_INODE_SLINK;
	case S_IFBLK:
		return SQFS_INODE_BDEV;
	case S_IFCHR:
		return SQFS_INODE_CDEV;
	case S_IFIFO:
		return SQFS_INODE_FIFO;
	case S_IFSOCK:
		return SQFS_INODE_SOCKET;
	}
	return 0;
}

static sqfs_inode_generic_t *take_directory(sw_writer *w, uint64_t index, uint32_t links)
{
	sqfs_inode_generic_t *inode = index < w->directories.count ? w->directories.items[index] : NULL;

	if (inode == NULL)
		return NULL;
	w->directories.items[index] = NULL;
	/* libsquashfs counts every entry as a link; a directory's links are its subdirectories. */
	if (inode->base.type == SQFS_INODE_DIR)
		inode->data.dir.nlink = links;
	else
		inode->data.dir_ext.nlink = links;
	return inode;
}

static sqfs_inode_generic_t *take_content(sw_writer *w, uint64_t index, uint32_t links)
{
	struct content *content = index < w->contents.count ? w->contents.items[index] : NULL;
	sqfs_inode_generic_t *inode;

	if (content == NULL)
		return NULL;
	w->contents.items[index] = NULL;
	inode = content->inode;
	content->inode = NULL;
	content_free(content);
	if (links > 1) {
		sqfs_inode_make_extended(inode);
		inode->data.file_ext.nlink = links;
	}
	return inode;
}

static sqfs_inode_generic_t *make_inode(uint16_t type, uint32_t links, uint64_t device, const char *target, size_t size)
{
	sqfs_inode_generic_t *inode = calloc(1, sizeof(*inode) + size + 1);

	if (inode == NULL || type == 0) {
		free(inode);
		return NULL;
	}
	inode->base.type = type;
	if (type == SQFS_INODE_SLINK) {
		inode->data.slink.nlink = links;
		inode->data.slink.target_size = size;
		memcpy(inode->extra, target, size);
		inode->payload_bytes_available = inode->payload_bytes_used = size;
	} else if (type == SQFS_INODE_BDEV || type == SQFS_INODE_CDEV) {
		inode->data.dev.nlink = links;
		inode->data.dev.devno = device;
	} else {
		inode->data.ipc.nlink = links;
	}
	return inode;
}

static int64_t put_inode(sw_writer *w, const sqfs_inode_generic_t *inode)
{
	sqfs_u64 block;
	sqfs_u32 offset;
	int error;

	sqfs_meta_writer_get_position(w->inode_table, &block, &offset);
	if ((error = sqfs_meta_writer_write_inode(w->inode_table, inode)) != 0)
		return error;
	return block > UINT32_MAX ? SQFS_ERROR_OVERFLOW : (int64_t)(block << 16 | offset);
}

int64_t sw_inode(sw_writer *w, uint32_t number, uint32_t mode, uint32_t uid, uint32_t gid, uint32_t mtime,
		 uint32_t links, uint32_t xattrs, uint64_t what, const char *target, size_t target_size)
{
	sqfs_inode_generic_t *inode;
	int64_t done;

	if (S_ISDIR(mode))
		inode = take_directory(w, what, links);
	else if (S_ISREG(mode))
		inode = take_content(w, what, links);
	else
		inode = make_inode(plain_type(mode), links, what, target, target_size);
	if (inode == NULL)
		return SQFS_ERROR_ARG_INVALID;
	inode->base.mode = mode;
	inode->base.mod_time = mtime;
	inode->base.inode_number = number;
	if ((done = sqfs_id_table_id_to_index(w->ids, uid, &inode->base.uid_idx)) == 0)
		done = sqfs_id_table_id_to_index(w->ids, gid, &inode->base.gid_idx);
	if (done == 0 && xattrs != SW_NO_XATTRS)
		done = sqfs_inode_set_xattr_index(inode, xattrs);
	if (done == 0)
		done = put_inode(w, inode);
	free(inode);
	return done;
}

static int write_tables(sw_writer *w, uint32_t inodes, uint64_t root)
{
	sqfs_file_t *file = &w->target.base;
	int error;

	if ((error = sqfs_meta_writer_flush(w->inode_table)) != 0)
		return error;
	w->super.directory_table_start = w->target.size;
	if ((error = sqfs_meta_writer_flush(w->directory_table)) != 0 ||
	    (error = sqfs_meta_write_write_to_file(w->directory_table)) != 0 ||
	    (error = sqfs_frag_table_write(w->fragments, file, &w->super, w->for_inodes)) != 0)
		return error;
	if ((w->flags & SW_EXPORT) && (error = sqfs_dir_writer_write_export_table(w->directory, file, w->for_inodes, inodes,
										   root, &w->super)) != 0)
		return error;
	if ((error = sqfs_id_table_write(w->ids, file, &w->super, w->for_inodes)) != 0)
		return error;
	return sqfs_xattr_writer_flush(w->xattrs, file, &w->super, w->for_xattrs);
}

static uint16_t image_flags(const sw_writer *w)
{
	uint16_t flags = w->super.flags & ~SQFS_FLAG_NO_DUPLICATES;

	if (!(w->flags & SW_COMPRESS_INODES))
		flags |= SQFS_FLAG_UNCOMPRESSED_INODES | SQFS_FLAG_UNCOMPRESSED_IDS;
	if (!(w->flags & SW_COMPRESS_XATTRS))
		flags |= SQFS_FLAG_UNCOMPRESSED_XATTRS;
	if (!(w->flags & SW_COMPRESS_DATA))
		flags |= SQFS_FLAG_UNCOMPRESSED_DATA | SQFS_FLAG_UNCOMPRESSED_FRAGMENTS;
	/* Named by its opposite in libsquashfs: mksquashfs sets this bit when duplicates are removed. */
	if (w->flags & SW_DEDUPLICATE)
		flags |= SQFS_FLAG_NO_DUPLICATES;
	return flags;
}

int64_t sw_finish(sw_writer *w, uint32_t inodes, uint64_t root, uint32_t mtime, uint32_t padding)
{
	uint64_t length;
	int error;

	if (w->processor != NULL)
		return SQFS_ERROR_SEQUENCE;
	if ((error = write_tables(w, inodes, root)) != 0)
		return error;
	w->super.inode_count = inodes;
	w->super.root_inode_ref = root;
	w->super.modification_time = mtime;
	w->super.bytes_used = w->target.size;
	w->super.flags = image_flags(w);
	if ((error = sqfs_super_write(&w->super, &w->target.base)) != 0)
		return error;
	length = (w->target.size + padding - 1) / padding * padding;
	/* First shorter, since duplicates were written behind the end; then longer, which gives zeros. */
	if (ftruncate(w->target.fd, w->target.position + w->target.size) != 0 ||
	    ftruncate(w->target.fd, w->target.position + length) != 0) {
		w->target.error = errno;
		return SQFS_ERROR_IO;
	}
	return (int64_t)length;
}
