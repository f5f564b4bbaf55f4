/* Inodes, what a symbolic link says, and where a file's blocks lie. */
#include "read_image.h"

#include <string.h>
#include <sys/stat.h>

#include <sqfs/inode.h>

#define TARGET_MOST 65535
#define PIECES_MOST (sizeof(((squash_blocks *)0)->records) / sizeof(struct piece))

struct piece { /* as read.h has it */
	uint64_t offset;
	uint32_t length;
	int64_t position;
	uint32_t stored, start;
} __attribute__((packed));

_Static_assert(sizeof(struct record) == 60 && sizeof(struct piece) == 28, "Python counts on these");

/* Sizes of what follows the 16 bytes that all kinds share, by kind; see sqfs/inode.h. */
static const unsigned char fixed[] = {
	[SQFS_INODE_DIR] = 16,     [SQFS_INODE_FILE] = 16,     [SQFS_INODE_SLINK] = 8,     [SQFS_INODE_BDEV] = 8,
	[SQFS_INODE_CDEV] = 8,     [SQFS_INODE_FIFO] = 4,      [SQFS_INODE_SOCKET] = 4,    [SQFS_INODE_EXT_DIR] = 24,
	[SQFS_INODE_EXT_FILE] = 40, [SQFS_INODE_EXT_SLINK] = 8, [SQFS_INODE_EXT_BDEV] = 12, [SQFS_INODE_EXT_CDEV] = 12,
	[SQFS_INODE_EXT_FIFO] = 8, [SQFS_INODE_EXT_SOCKET] = 8,
};

static const uint32_t formats[] = {
	0, S_IFDIR, S_IFREG, S_IFLNK, S_IFBLK, S_IFCHR, S_IFIFO, S_IFSOCK,
	S_IFDIR, S_IFREG, S_IFLNK, S_IFBLK, S_IFCHR, S_IFIFO, S_IFSOCK,
};

static void take_directory(struct inode *inode, const unsigned char *p, bool extended)
{
	struct record *record = &inode->record;

	if (extended) {
		record->nlink = le32(p);
		record->size = le32(p + 4);
		inode->start = le32(p + 8);
		record->parent = le32(p + 12);
		inode->index_count = le16(p + 16);
		inode->listing_offset = le16(p + 18);
		record->xattr = le32(p + 20);
		return;
	}
	inode->start = le32(p);
	record->nlink = le32(p + 4);
	record->size = le16(p + 8);
	inode->listing_offset = le16(p + 10);
	record->parent = le32(p + 12);
}

static void take_file(struct inode *inode, const unsigned char *p, bool extended)
{
	struct record *record = &inode->record;

	if (extended) {
		inode->start = le64(p);
		record->size = le64(p + 8);
		record->sparse = le64(p + 16);
		record->nlink = le32(p + 24);
		inode->fragment = le32(p + 28);
		inode->fragment_offset = le32(p + 32);
		record->xattr = le32(p + 36);
		return;
	}
	inode->start = le32(p);
	inode->fragment = le32(p + 4);
	inode->fragment_offset = le32(p + 8);
	record->size = le32(p + 12);
	record->nlink = 1;
}

/* The xattr index of an extended link lies behind its target. */
static int64_t take_link(squash_image *image, struct inode *inode, const unsigned char *p, bool extended)
{
	struct cursor behind = inode->rest;
	unsigned char xattr[4];
	int64_t status;

	inode->record.nlink = le32(p);
	inode->record.size = le32(p + 4);
	if (inode->record.size == 0 || inode->record.size > TARGET_MOST)
		return corrupt(WHY_LINK_LENGTH);
	if (!extended)
		return 0;
	status = meta_skip(image, &behind, inode->record.size);
	if (status == 0)
		status = meta_read(image, &behind, xattr, sizeof(xattr));
	if (status == 0)
		inode->record.xattr = le32(xattr);
	return status;
}

static int64_t take_kind(squash_image *image, struct inode *inode, const unsigned char *p, unsigned kind)
{
	struct record *record = &inode->record;
	const unsigned char *xattr = p + 4;
	bool extended = kind >= SQFS_INODE_EXT_DIR;

	switch (record->mode & S_IFMT) {
	case S_IFDIR:
		take_directory(inode, p, extended);
		return 0;
	case S_IFREG:
		take_file(inode, p, extended);
		return record->size > INT64_MAX ? corrupt(WHY_FILE_SIZE) : 0;
	case S_IFLNK:
		return take_link(image, inode, p, extended);
	case S_IFBLK:
	case S_IFCHR:
		record->rdev = le32(p + 4);
		xattr = p + 8;
		break;
	}
	record->nlink = le32(p);
	if (extended)
		record->xattr = le32(xattr);
	return 0;
}

int64_t inode_read(squash_image *image, uint64_t ref, struct inode *inode)
{
	unsigned char head[16], body[40];
	unsigned kind;
	int64_t status = meta_ids(image);

	if (status < 0)
		return status;
	if (ref >> 48 || (ref & 0xffff) >= META_SIZE)
		return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_REF, 0);
	memset(inode, 0, sizeof(*inode));
	inode->fragment = NO_FRAGMENT;
	inode->rest = (struct cursor){.block = image->super.inode_table + (ref >> 16), .offset = ref & 0xffff,
				      .limit = image->super.directory_table};
	status = meta_read(image, &inode->rest, head, sizeof(head));
	if (status < 0)
		return status;
	kind = le16(head);
	if (kind == 0 || kind >= sizeof(fixed))
		return corrupt(WHY_KIND_UNKNOWN);
	if (le16(head + 4) >= image->super.id_count || le16(head + 6) >= image->super.id_count)
		return corrupt(WHY_ID);
	inode->record = (struct record){
		.ref = ref, .number = le32(head + 12), .mode = formats[kind] | (le16(head + 2) & 07777),
		.uid = image->ids[le16(head + 4)], .gid = image->ids[le16(head + 6)], .mtime = le32(head + 8),
		.xattr = UINT32_MAX,
	};
	if (inode->record.number == 0 || inode->record.number > image->super.inode_count)
		return corrupt(WHY_NUMBER);
	status = meta_read(image, &inode->rest, body, fixed[kind]);
	return status < 0 ? status : take_kind(image, inode, body, kind);
}

int64_t squash_inode(squash_image *image, uint64_t ref, void *record)
{
	struct inode inode;
	int64_t status;

	pthread_mutex_lock(&image->lock);
	status = inode_read(image, ref, &inode);
	pthread_mutex_unlock(&image->lock);
	if (status == 0)
		memcpy(record, &inode.record, sizeof(inode.record));
	return status;
}

int64_t squash_by_number(squash_image *image, uint32_t number, void *record)
{
	unsigned char ref[8];
	int64_t status;

	if (image->super.export_table == NOWHERE)
		return failure(SQFS_ERROR_UNSUPPORTED, WHY_EXPORT, 0);
	if (number == 0 || number > image->super.inode_count)
		return failure(SQFS_ERROR_NO_ENTRY, WHY_NUMBER, 0);
	pthread_mutex_lock(&image->lock);
	status = meta_entry(image, image->super.export_table, number - 1, ref, sizeof(ref));
	pthread_mutex_unlock(&image->lock);
	return status < 0 ? status : squash_inode(image, le64(ref), record);
}

int64_t squash_readlink(squash_image *image, uint64_t ref, char *target, uint32_t room)
{
	struct inode inode;
	int64_t status;

	pthread_mutex_lock(&image->lock);
	status = inode_read(image, ref, &inode);
	if (status == 0 && !S_ISLNK(inode.record.mode))
		status = failure(SQFS_ERROR_ARG_INVALID, WHY_NOT_LINK, 0);
	if (status == 0 && inode.record.size > room)
		status = corrupt(WHY_LINK_LENGTH);
	if (status == 0)
		status = meta_read(image, &inode.rest, target, inode.record.size);
	pthread_mutex_unlock(&image->lock);
	if (status == 0 && memchr(target, 0, inode.record.size))
		status = corrupt(WHY_LINK_LENGTH);
	return status < 0 ? status : (int64_t)inode.record.size;
}

static int64_t take_fragment(squash_image *image, const struct inode *inode, squash_blocks *blocks)
{
	uint32_t tail = inode->record.size % image->super.block_size;
	unsigned char entry[16];
	int64_t status;

	if (inode->fragment >= image->super.fragment_count || inode->fragment_offset > image->super.block_size ||
	    tail > image->super.block_size - inode->fragment_offset)
		return corrupt(WHY_FRAGMENT);
	status = meta_entry(image, image->super.fragment_table, inode->fragment, entry, sizeof(entry));
	if (status < 0)
		return status;
	blocks->fragment_position = le64(entry);
	blocks->fragment_stored = le32(entry + 8);
	blocks->fragment_start = inode->fragment_offset;
	if (!image_holds(image, le64(entry), blocks->fragment_stored & 0xffffff))
		return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_BLOCK_PLACE, 0);
	return 0;
}

/* What a list of block sizes may be: every metadata block left in the table, of 3 bytes at least, decompressed. */
static bool list_fits(const squash_image *image, uint64_t count)
{
	uint64_t room = image->super.directory_table - image->super.inode_table;

	return count <= (room / 3 + 1) * (META_SIZE / 4);
}

int64_t squash_blocks_start(squash_image *image, uint64_t ref, squash_blocks *blocks)
{
	uint32_t block_size = image->super.block_size;
	struct inode inode;
	int64_t status;

	pthread_mutex_lock(&image->lock);
	status = inode_read(image, ref, &inode);
	if (status == 0 && !S_ISREG(inode.record.mode))
		status = failure(SQFS_ERROR_NOT_FILE, WHY_NOT_FILE, 0);
	if (status == 0) {
		blocks->block = inode.rest.block;
		blocks->offset = inode.rest.offset;
		blocks->position = inode.start;
		blocks->size = inode.record.size;
		blocks->done = 0;
		blocks->total = inode.record.size / block_size;
		blocks->fragment_position = -1;
		if (inode.record.size % block_size && inode.fragment == NO_FRAGMENT)
			blocks->total++;
		else if (inode.record.size % block_size)
			status = take_fragment(image, &inode, blocks);
		if (status == 0 && !list_fits(image, blocks->total))
			status = failure(SQFS_ERROR_OVERFLOW, WHY_FILE_SIZE, 0);
	}
	pthread_mutex_unlock(&image->lock);
	return status;
}

static int64_t take_piece(const squash_image *image, squash_blocks *blocks, uint32_t stored, struct piece *piece)
{
	uint32_t size = stored & 0xffffff;
	uint64_t offset = blocks->done * image->super.block_size, left = blocks->size - offset;

	if (stored >> 25 || size > image->super.block_size)
		return corrupt(WHY_BLOCK_STORED);
	if (size && !image_holds(image, blocks->position, size))
		return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_BLOCK_PLACE, 0);
	*piece = (struct piece){
		.offset = offset, .length = left < image->super.block_size ? left : image->super.block_size,
		.position = size ? (int64_t)blocks->position : -1, .stored = size ? stored : 0,
	};
	blocks->position += size;
	blocks->done++;
	return 0;
}

static int64_t take_pieces(squash_image *image, squash_blocks *blocks, uint32_t most, bool keep)
{
	struct cursor list = {.block = blocks->block, .offset = blocks->offset, .limit = image->super.directory_table};
	struct piece *pieces = (struct piece *)blocks->records;
	unsigned char sizes[4 * 64];
	uint32_t done = 0;

	while (done < most && blocks->done < blocks->total) {
		uint64_t left = blocks->total - blocks->done;
		uint32_t part = most - done < 64 ? most - done : 64;
		int64_t status;

		part = left < part ? left : part;
		status = meta_read(image, &list, sizes, part * 4);
		for (uint32_t i = 0; status == 0 && i < part; i++)
			status = take_piece(image, blocks, le32(sizes + 4 * i), keep ? &pieces[done + i] : &(struct piece){0});
		if (status < 0)
			return status;
		done += part;
	}
	blocks->block = list.block;
	blocks->offset = list.offset;
	return done;
}

int64_t squash_pieces(squash_image *image, squash_blocks *blocks, uint32_t most, int keep)
{
	int64_t status;

	if (keep && most > PIECES_MOST)
		most = PIECES_MOST;
	pthread_mutex_lock(&image->lock);
	status = take_pieces(image, blocks, most, keep);
	pthread_mutex_unlock(&image->lock);
	return status;
}
