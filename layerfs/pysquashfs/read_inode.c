/* Inodes, and what a symbolic link says. */
#include "read_image.h"

#include <string.h>
#include <sys/stat.h>

#include <sqfs/inode.h>

#define TARGET_MOST 65535

_Static_assert(sizeof(struct record) == 60, "Python counts on this");

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
	if (inode->record.number == 0) /* the kernel does not compare it with the superblock's count either */
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
