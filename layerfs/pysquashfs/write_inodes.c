/* Writing: extended attributes, listings and inodes. */
#include "write_image.h"

#include <endian.h>

#define LONG_LIST 65536 /* bytes of a list of blocks that libsquashfs is given to put on its stack */

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

/* Whether the 16 bits of an index's length were enough. */
static bool index_fits(const sqfs_inode_generic_t *inode)
{
	const uint8_t *index = (const uint8_t *)inode->extra;
	size_t at = 0, count = 0;

	while (inode->base.type == SQFS_INODE_EXT_DIR && at < inode->payload_bytes_used) {
		sqfs_dir_index_t entry;

		memcpy(&entry, index + at, sizeof(entry));
		at += sizeof(entry) + entry.size + 1;
		++count;
	}
	return count <= UINT16_MAX;
}

int64_t sw_directory_end(sw_writer *w, uint32_t parent)
{
	sqfs_inode_generic_t *inode;
	int64_t index;
	int error = sqfs_dir_writer_end(w->directory);

	if (error)
		return error;
	/* Sizes are 32 bit, and count 3 more for "." and "..". */
	if (sqfs_dir_writer_get_size(w->directory) > UINT32_MAX - 3)
		return SQFS_ERROR_OVERFLOW;
	inode = sqfs_dir_writer_create_inode(w->directory, 0, SW_NO_XATTRS, parent);
	if (inode == NULL)
		return SQFS_ERROR_ALLOC;
	index = index_fits(inode) ? sw_list_append(&w->directories, inode) : SQFS_ERROR_OVERFLOW;
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

static struct content *take_content(sw_writer *w, uint64_t index, uint32_t links)
{
	struct content *content = index < w->contents.count ? w->contents.items[index] : NULL;

	if (content == NULL)
		return NULL;
	w->contents.items[index] = NULL;
	if (links > 1) {
		sqfs_inode_make_extended(content->inode);
		content->inode->data.file_ext.nlink = links;
	}
	return content;
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

/* A file's inode as it lies on disk: 16 bytes that all kinds have, and 40 of an extended file. */
struct file_head {
	uint16_t type, mode, uid, gid;
	uint32_t mtime, number;
	uint64_t start, size, sparse;
	uint32_t links, fragment, fragment_offset, xattrs;
} __attribute__((packed));

_Static_assert(sizeof(struct file_head) == 56, "squashfs_fs.h: struct squashfs_lreg_inode");

static struct file_head head_of(const sqfs_inode_generic_t *inode)
{
	const sqfs_inode_file_ext_t *file = &inode->data.file_ext;

	return (struct file_head){
		.type = htole16(inode->base.type),
		.mode = htole16(inode->base.mode & 07777),
		.uid = htole16(inode->base.uid_idx),
		.gid = htole16(inode->base.gid_idx),
		.mtime = htole32(inode->base.mod_time),
		.number = htole32(inode->base.inode_number),
		.start = htole64(file->blocks_start),
		.size = htole64(file->file_size),
		.sparse = htole64(file->sparse),
		.links = htole32(file->nlink),
		.fragment = htole32(file->fragment_idx),
		.fragment_offset = htole32(file->fragment_offset),
		.xattrs = htole32(file->xattr_idx),
	};
}

static int append_sizes(sw_writer *w, const uint32_t *sizes, uint64_t count)
{
	uint32_t part[2048];
	int error = 0;

	while (error == 0 && count > 0) {
		size_t now = count < 2048 ? count : 2048, i;

		for (i = 0; i < now; ++i)
			part[i] = sizes == NULL ? 0 : htole32(sizes[i]);
		error = sqfs_meta_writer_append(w->inode_table, part, now * sizeof(*part));
		sizes = sizes == NULL ? NULL : sizes + now;
		count -= now;
	}
	return error;
}

/* Write the inode of a file whose list of blocks is long or has holes: sqfs_meta_writer_write_inode puts a list on the
   stack, and a hole of any size need not be in memory. */
static int put_file(sw_writer *w, struct content *content)
{
	const uint64_t given = content->inode->payload_bytes_used / sizeof(uint32_t);
	struct file_head head;
	uint64_t from = 0;
	size_t i;
	int error;

	if ((error = sqfs_inode_make_extended(content->inode)) != 0)
		return error;
	head = head_of(content->inode);
	error = sqfs_meta_writer_append(w->inode_table, &head, sizeof(head));
	for (i = 0; error == 0 && i < content->hole_count; ++i) {
		const struct hole *hole = &content->holes[i];

		error = append_sizes(w, content->inode->extra + from, hole->before - from);
		from = hole->before;
		if (error == 0)
			error = append_sizes(w, NULL, hole->blocks);
	}
	return error ? error : append_sizes(w, content->inode->extra + from, given - from);
}

static int64_t put_inode(sw_writer *w, const sqfs_inode_generic_t *inode, struct content *content)
{
	sqfs_u64 block;
	sqfs_u32 offset;
	int error;

	sqfs_meta_writer_get_position(w->inode_table, &block, &offset);
	if (content != NULL && (content->hole_count || inode->payload_bytes_used > LONG_LIST))
		error = put_file(w, content);
	else
		error = sqfs_meta_writer_write_inode(w->inode_table, inode);
	if (error)
		return error;
	return block > UINT32_MAX ? SQFS_ERROR_OVERFLOW : (int64_t)(block << 16 | offset);
}

int64_t sw_inode(sw_writer *w, uint32_t number, uint32_t mode, uint32_t uid, uint32_t gid, uint32_t mtime,
		 uint32_t links, uint32_t xattrs, uint64_t what, const char *target, size_t target_size)
{
	struct content *content = NULL;
	sqfs_inode_generic_t *inode;
	int64_t done;

	if (S_ISDIR(mode))
		inode = take_directory(w, what, links);
	else if (S_ISREG(mode))
		inode = (content = take_content(w, what, links)) == NULL ? NULL : content->inode;
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
		done = put_inode(w, inode, content);
	if (content != NULL)
		sw_content_free(content);
	else
		free(inode);
	return done;
}
