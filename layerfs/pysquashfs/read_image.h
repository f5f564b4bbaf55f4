/* What the files of the reader share. Every count and every position in an image is taken for a lie until checked. */
#ifndef LAYERFS_PYSQUASHFS_READ_IMAGE_H
#define LAYERFS_PYSQUASHFS_READ_IMAGE_H

#include "common.h"

#include <pthread.h>
#include <stdbool.h>

#include <sqfs/compressor.h>
#include <sqfs/error.h>
#include <sqfs/super.h>

#include "read.h"

#define SUPER_SIZE 96
#define META_SIZE 8192
#define NAME_MOST 256
#define NOWHERE UINT64_MAX
#define NO_FRAGMENT UINT32_MAX
#define STORED_SIZE 0xffffff /* in the stored size of a block; the bit above says that it is not compressed */
#define STORED_PLAIN (1 << 24)

/* What went wrong, in words that follow "NAME: inode 7: ". */
#define REASONS(X) \
	X(NOTHING, "unknown error") \
	X(MEMORY, "out of memory") \
	X(READ, "cannot be read") \
	X(KIND, "neither a file nor a block device") \
	X(ENDS, "the file ends before the image does") \
	X(SMALL, "too small for a squashfs superblock") \
	X(MAGIC, "not a squashfs image (no magic number)") \
	X(VERSION, "not version 4.0 of squashfs") \
	X(BLOCK_SIZE, "the superblock's block size is not a power of two from 4 KiB to 1 MiB") \
	X(SUPER, "the superblock contradicts itself") \
	X(COMPRESSOR, "the installed libsquashfs has no such compressor") \
	X(META_PLACE, "a metadata block lies outside its table") \
	X(META_SIZE_WRONG, "a metadata block claims an impossible size") \
	X(META_DATA, "a metadata block does not decompress") \
	X(META_OFFSET, "a reference points behind the end of its metadata block") \
	X(TABLE, "a table's entry lies outside the image") \
	X(REF, "no such inode reference") \
	X(KIND_UNKNOWN, "an inode is of an unknown kind") \
	X(NUMBER, "an inode has no number, or none that the image has") \
	X(ID, "an owner is not in the table of ids") \
	X(NOT_DIRECTORY, "not a directory") \
	X(NOT_LINK, "not a symbolic link") \
	X(NOT_FILE, "not a regular file") \
	X(LINK_LENGTH, "a symbolic link claims an impossible length") \
	X(LISTING, "the listing has an impossible size or header") \
	X(NAME, "an entry's name is empty, too long, or one that no file may have") \
	X(TWICE, "a name appears twice") \
	X(ENTRY_KIND, "an entry and its inode disagree about the kind") \
	X(INDEX, "the directory index is wrong") \
	X(EXPORT, "the image has no export table") \
	X(FILE_SIZE, "a file claims more blocks than the image has room for") \
	X(BLOCK_STORED, "a data block claims an impossible size") \
	X(BLOCK_PLACE, "a data block lies outside the image") \
	X(BLOCK_DATA, "a data block does not decompress") \
	X(FRAGMENT, "a fragment is not in the table, or not within its block") \
	X(XATTR_INDEX, "an xattr index is not in the table") \
	X(XATTR_KIND, "an xattr has an impossible name") \
	X(XATTR_SIZE, "xattrs claim an impossible size")

#define AS_ENUM(name, text) WHY_##name,
enum reason { REASONS(AS_ENUM) };

struct meta_block { /* one decompressed metadata block; `at` is 0 while unused */
	uint64_t at, next, used;
	uint32_t length;
	unsigned char *data;
};

#define META_SETS 16
#define META_WAYS 4 /* 64 blocks of 8 KiB at most; a listing and its inodes alternate, so 1 way would thrash */

struct worker { /* a decompressor keeps state between blocks: one thread at a time */
	struct worker *next;
	sqfs_compressor_t *compressor;
	unsigned char *stored; /* room for a block as it lies in the image */
};

struct squash_image {
	int fd;
	uint64_t offset, size;
	squash_super super;
	uint64_t directory_end;

	pthread_mutex_t lock; /* guards what follows */
	struct meta_block blocks[META_SETS][META_WAYS];
	uint64_t clock;
	sqfs_compressor_t *compressor;
	unsigned char stored[META_SIZE + 2];
	uint32_t *ids;

	pthread_mutex_t pool; /* guards the list of workers; never held with the other */
	struct worker *workers;
	unsigned idle;
};

struct cursor { /* a place in metadata: a block's position in the image and an offset in it; blocks end before limit */
	uint64_t block, limit;
	uint32_t offset;
};

struct record { /* as read.h has it */
	uint64_t ref;
	uint32_t number, mode, uid, gid, mtime, nlink;
	uint64_t size;
	uint32_t rdev;
	uint64_t sparse;
	uint32_t xattr, parent;
} __attribute__((packed));

struct piece { /* as read.h has it */
	uint64_t offset;
	uint32_t length;
	int64_t position;
	uint32_t stored, start;
} __attribute__((packed));

struct inode {
	struct record record;
	struct cursor rest;     /* behind the fixed part: block sizes, the link's target, the directory index */
	uint64_t start;         /* a file's first block; a directory's listing, from the table's start */
	uint32_t fragment, fragment_offset;
	uint32_t listing_offset, index_count;
};

static inline int64_t failure(int code, enum reason reason, int error)
{
	return -((int64_t)-code | (int64_t)reason << 8 | (int64_t)error << 16);
}

static inline int64_t corrupt(enum reason reason)
{
	return failure(SQFS_ERROR_CORRUPTED, reason, 0);
}

static inline uint16_t le16(const unsigned char *p)
{
	return p[0] | p[1] << 8;
}

static inline uint32_t le32(const unsigned char *p)
{
	return le16(p) | (uint32_t)le16(p + 2) << 16;
}

static inline uint64_t le64(const unsigned char *p)
{
	return le32(p) | (uint64_t)le32(p + 4) << 32;
}

/* All of these want the image's lock, except the first three. */
int64_t image_read(const squash_image *image, uint64_t position, void *data, size_t length);
int64_t image_compressor(const squash_image *image, sqfs_compressor_t **compressor);
bool image_holds(const squash_image *image, uint64_t position, uint64_t length);
int64_t meta_read(squash_image *image, struct cursor *cursor, void *data, size_t length);
int64_t meta_skip(squash_image *image, struct cursor *cursor, size_t length);
int64_t meta_entry(squash_image *image, uint64_t table, uint64_t index, void *data, size_t length);
int64_t meta_ids(squash_image *image);
void meta_forget(squash_image *image);
void blocks_forget(squash_image *image);
int64_t inode_read(squash_image *image, uint64_t ref, struct inode *inode);

/* These take the lock by themselves, or one of their own. */
int64_t cache_read(squash_image *image, const struct piece *piece, uint64_t offset, void *data, uint32_t length);
void cache_forget(const squash_image *image);

#endif
