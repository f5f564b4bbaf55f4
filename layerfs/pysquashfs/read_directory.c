/* Listings: runs of at most 256 entries whose inodes lie in one metadata block, and the index that large ones have. */
#include "read_image.h"

#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#define RUN_MOST 256
#define RUN_HEAD 12
#define ENTRY_HEAD 8
#define ENDING 3 /* a listing's size counts "." and "..", which are not in it; some writers forgot that */

struct name_record { /* as read.h has it */
	uint64_t ref;
	uint32_t format, number;
} __attribute__((packed));

struct entry {
	uint64_t ref;
	uint32_t format, number, length;
	unsigned char name[NAME_MOST];
};

_Static_assert(sizeof(((squash_listing *)0)->records) == RUN_MOST * sizeof(struct record), "one batch");

static const uint32_t formats[] = {0, S_IFDIR, S_IFREG, S_IFLNK, S_IFBLK, S_IFCHR, S_IFIFO, S_IFSOCK};

static int64_t open_listing(squash_image *image, uint64_t ref, squash_listing *listing, struct inode *inode)
{
	int64_t status = inode_read(image, ref, inode);

	if (status < 0)
		return status;
	if (!S_ISDIR(inode->record.mode))
		return failure(SQFS_ERROR_NOT_DIR, WHY_NOT_DIRECTORY, 0);
	listing->block = image->super.directory_table + inode->start;
	listing->offset = inode->listing_offset;
	listing->left = inode->record.size > ENDING ? inode->record.size - ENDING : 0;
	listing->run = 0;
	listing->last_length = 0;
	listing->taken = 0;
	listing->unsorted = 0;
	return 0;
}

/* Read from the listing. Its size says only, as in the kernel, whether another run begins: where a run goes on behind it
 * the size is wrong, not the run. */
static int64_t take(squash_image *image, squash_listing *listing, void *data, uint32_t length)
{
	struct cursor cursor = {.block = listing->block, .offset = listing->offset, .limit = image->directory_end};
	int64_t status = meta_read(image, &cursor, data, length);

	listing->block = cursor.block;
	listing->offset = cursor.offset;
	listing->left -= length < listing->left ? length : listing->left;
	listing->taken += length;
	return status;
}

static int64_t open_run(squash_image *image, squash_listing *listing)
{
	unsigned char head[RUN_HEAD];
	int64_t status = take(image, listing, head, sizeof(head));

	if (status < 0)
		return status;
	if (le32(head) >= RUN_MOST)
		return corrupt(WHY_LISTING);
	listing->run = le32(head) + 1;
	listing->inode_block = le32(head + 4);
	listing->base = le32(head + 8);
	return 0;
}

/* A name that the kernel above could take for another path, or that has no end, is an attack. */
static bool name_is_proper(const struct entry *entry)
{
	const unsigned char *name = entry->name;

	if (name[0] == '.' && (entry->length == 1 || (entry->length == 2 && name[1] == '.')))
		return false;
	return !memchr(name, '/', entry->length) && !memchr(name, 0, entry->length);
}

static int compare(const void *a, uint32_t a_length, const void *b, uint32_t b_length)
{
	int order = memcmp(a, b, a_length < b_length ? a_length : b_length);

	return order ? order : (a_length > b_length) - (a_length < b_length);
}

/* Give the next entry: 1, or 0 at the end. Names should ascend; the kernel reads them all the same where they do not. */
static int64_t next_entry(squash_image *image, squash_listing *listing, struct entry *entry)
{
	unsigned char head[ENTRY_HEAD];
	unsigned kind;
	int64_t status = 0;

	if (listing->run == 0 && listing->left == 0)
		return 0;
	if (listing->run == 0)
		status = open_run(image, listing);
	if (status == 0)
		status = take(image, listing, head, sizeof(head));
	if (status < 0)
		return status;
	kind = le16(head + 4);
	entry->length = (uint32_t)le16(head + 6) + 1;
	if (entry->length > NAME_MOST)
		return corrupt(WHY_NAME);
	if (kind == 0 || kind > 14)
		return corrupt(WHY_KIND_UNKNOWN);
	status = take(image, listing, entry->name, entry->length);
	if (status < 0)
		return status;
	if (!name_is_proper(entry))
		return corrupt(WHY_NAME);
	if (listing->last_length) {
		int order = compare(entry->name, entry->length, listing->last, listing->last_length);
		if (order == 0)
			return corrupt(WHY_TWICE);
		listing->unsorted |= order < 0;
	}
	memcpy(listing->last, entry->name, entry->length);
	listing->last_length = entry->length;
	entry->ref = listing->inode_block << 16 | le16(head);
	entry->number = listing->base + (int16_t)le16(head + 2);
	entry->format = formats[(kind - 1) % 7 + 1];
	listing->run--;
	return 1;
}

static int64_t entry_inode(squash_image *image, const struct entry *entry, void *record)
{
	struct inode inode;
	int64_t status = inode_read(image, entry->ref, &inode);

	if (status < 0)
		return status;
	if ((inode.record.mode & S_IFMT) != entry->format)
		return corrupt(WHY_ENTRY_KIND);
	memcpy(record, &inode.record, sizeof(inode.record));
	return 0;
}

int64_t squash_list_start(squash_image *image, uint64_t ref, squash_listing *listing)
{
	struct inode inode;
	int64_t status;

	pthread_mutex_lock(&image->lock);
	status = open_listing(image, ref, listing, &inode);
	pthread_mutex_unlock(&image->lock);
	return status;
}

/* One damaged inode costs its own name, not the directory. */
static int64_t list_inode(squash_image *image, const struct entry *entry, struct record *record)
{
	int64_t status = entry_inode(image, entry, record);

	if (status == 0 || status == failure(SQFS_ERROR_ALLOC, WHY_MEMORY, 0))
		return status;
	*record = (struct record){.ref = entry->ref, .mode = entry->format, .xattr = UINT32_MAX};
	return 0;
}

static int64_t list_entry(squash_image *image, const struct entry *entry, unsigned char *records, uint32_t at, bool inodes)
{
	if (inodes)
		return list_inode(image, entry, (struct record *)records + at);
	((struct name_record *)records)[at] = (struct name_record){entry->ref, entry->format, entry->number};
	return 0;
}

static int64_t fill_batch(squash_image *image, squash_listing *listing, bool inodes)
{
	uint32_t count = 0, used = 0;

	while (count < RUN_MOST && used + NAME_MOST + 1 <= sizeof(listing->names)) {
		struct entry entry;
		int64_t status = next_entry(image, listing, &entry);

		if (status == 0)
			break;
		if (status > 0)
			status = list_entry(image, &entry, listing->records, count, inodes);
		if (status < 0)
			return status;
		if (count)
			listing->names[used++] = 0;
		memcpy(listing->names + used, entry.name, entry.length);
		used += entry.length;
		count++;
	}
	listing->names_length = used;
	return count;
}

int64_t squash_list(squash_image *image, squash_listing *listing, int inodes)
{
	int64_t status;

	pthread_mutex_lock(&image->lock);
	status = fill_batch(image, listing, inodes);
	pthread_mutex_unlock(&image->lock);
	return status;
}

/* Begin at the last run whose first name is not behind `name`. An index entry has the run's place in the listing. */
static int64_t skip_by_index(squash_image *image, const struct inode *inode, squash_listing *listing, const char *name,
			     uint32_t length)
{
	struct cursor cursor = inode->rest;
	uint32_t place = 0;
	uint64_t block = inode->start;

	for (uint32_t i = 0; i < inode->index_count; i++) {
		unsigned char head[12], first[NAME_MOST];
		int64_t status = meta_read(image, &cursor, head, sizeof(head));

		if (status == 0 && le32(head + 8) >= NAME_MOST)
			status = corrupt(WHY_INDEX);
		if (status == 0)
			status = meta_read(image, &cursor, first, le32(head + 8) + 1);
		if (status < 0)
			return status;
		if (compare(first, le32(head + 8) + 1, name, length) > 0)
			break;
		place = le32(head);
		block = le32(head + 4);
	}
	if (place > listing->left)
		return corrupt(WHY_INDEX);
	listing->block = image->super.directory_table + block;
	listing->offset = (listing->offset + place) % META_SIZE;
	listing->left -= place;
	return 0;
}

static int64_t find(squash_image *image, uint64_t ref, const char *name, uint32_t length, void *record)
{
	squash_listing listing;
	struct inode inode;
	struct entry entry;
	int64_t status = open_listing(image, ref, &listing, &inode);

	if (status == 0 && inode.index_count)
		status = skip_by_index(image, &inode, &listing, name, length);
	if (status < 0)
		return status;
	while ((status = next_entry(image, &listing, &entry)) > 0) {
		int order = compare(entry.name, entry.length, name, length);
		if (order == 0) {
			status = entry_inode(image, &entry, record);
			return status < 0 ? status : 1;
		}
		/* Without an index only the first byte is counted on, as by the kernel: names may be out of order. */
		if (order > 0 && (inode.index_count || entry.name[0] > (unsigned char)name[0]))
			return 0;
	}
	return status;
}

int64_t squash_find(squash_image *image, uint64_t ref, const char *name, uint32_t length, void *record)
{
	int64_t status;

	pthread_mutex_lock(&image->lock);
	status = find(image, ref, name, length, record);
	pthread_mutex_unlock(&image->lock);
	return status;
}

int64_t squash_listing_room(squash_image *image)
{
	uint64_t at = image->super.directory_table;
	int64_t room = 0;

	while (image->directory_end >= 3 && at <= image->directory_end - 3) {
		unsigned char head[2];
		int64_t status = image_read(image, at, head, sizeof(head));
		uint32_t size = le16(head) & 0x7fff;

		if (status < 0)
			return status;
		if (size == 0 || size > META_SIZE)
			break;
		room += META_SIZE;
		at += 2 + size;
	}
	return room;
}
