/* Extended attributes: an inode's index leads to a row of pairs; a value may be kept once for many. */
#include "read_image.h"

#include <stdlib.h>
#include <string.h>

#define VALUE_MOST 65536     /* xattr(7): XATTR_SIZE_MAX */
#define NAME_SIZE_MOST 255   /* XATTR_NAME_MAX, prefix included */
#define NAMES_MOST 65536     /* XATTR_LIST_MAX: what the kernel lists of one inode, NULs included */
#define TOGETHER_MOST (2 << 20) /* names and values of one inode */
#define ELSEWHERE 0x100      /* the value is a reference to where it is */

static const char *const prefixes[] = {"user.", "trusted.", "security."};

struct pairs {
	unsigned char *data;
	size_t length, room;
};

static int64_t grow(struct pairs *pairs, size_t more)
{
	size_t room = pairs->room ? pairs->room : 512;
	void *data;

	if (more > TOGETHER_MOST - pairs->length)
		return failure(SQFS_ERROR_OVERFLOW, WHY_XATTR_SIZE, 0);
	while (room < pairs->length + more)
		room *= 2;
	if (room == pairs->room)
		return 0;
	data = realloc(pairs->data, room);
	if (!data)
		return failure(SQFS_ERROR_ALLOC, WHY_MEMORY, 0);
	pairs->data = data;
	pairs->room = room;
	return 0;
}

/* Append `length` bytes of metadata, or `text` where that is given. */
static int64_t append(squash_image *image, struct pairs *pairs, struct cursor *cursor, const void *text, size_t length)
{
	int64_t status = grow(pairs, length);

	if (status == 0 && text)
		memcpy(pairs->data + pairs->length, text, length);
	else if (status == 0)
		status = meta_read(image, cursor, pairs->data + pairs->length, length);
	if (status == 0)
		pairs->length += length;
	return status;
}

static struct cursor at(const squash_image *image, uint64_t start, uint64_t ref)
{
	return (struct cursor){.block = start + (ref >> 16), .offset = ref & 0xffff, .limit = image->super.xattr_table};
}

static int64_t append_value(squash_image *image, struct pairs *pairs, struct cursor *cursor, uint64_t start, bool elsewhere,
			    uint32_t *length)
{
	unsigned char head[4], place[8];
	struct cursor other;
	int64_t status = meta_read(image, cursor, head, sizeof(head));

	if (status == 0 && elsewhere) {
		status = meta_read(image, cursor, place, sizeof(place));
		if (status == 0 && le64(place) >> 48)
			status = failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_META_PLACE, 0);
		if (status < 0)
			return status;
		other = at(image, start, le64(place));
		cursor = &other;
		status = meta_read(image, cursor, head, sizeof(head));
	}
	if (status < 0)
		return status;
	*length = le32(head);
	if (*length > VALUE_MOST)
		return corrupt(WHY_XATTR_SIZE);
	return append(image, pairs, cursor, NULL, *length);
}

/* The kernel passes over prefixes that it does not know; a value that is elsewhere has its place here. */
static int64_t skip_pair(squash_image *image, struct cursor *cursor, size_t name)
{
	unsigned char head[4];
	int64_t status = meta_skip(image, cursor, name);

	if (status == 0)
		status = meta_read(image, cursor, head, sizeof(head));
	return status < 0 ? status : meta_skip(image, cursor, le32(head));
}

static int64_t append_pair(squash_image *image, struct pairs *pairs, struct cursor *cursor, uint64_t start, size_t *names)
{
	unsigned char head[4];
	uint32_t lengths[2] = {0};
	size_t begin = pairs->length;
	const char *prefix;
	int64_t status = meta_read(image, cursor, head, sizeof(head));

	if (status < 0)
		return status;
	if ((le16(head) & 0xff) >= sizeof(prefixes) / sizeof(*prefixes) || le16(head) & ~(ELSEWHERE | 0xff)) {
		*names += le16(head + 2) + 1; /* passed over, but not any number of them */
		return skip_pair(image, cursor, le16(head + 2));
	}
	prefix = prefixes[le16(head) & 0xff];
	lengths[0] = strlen(prefix) + le16(head + 2);
	if (lengths[0] > NAME_SIZE_MOST || le16(head + 2) == 0)
		return corrupt(WHY_XATTR_KIND);
	status = append(image, pairs, cursor, lengths, sizeof(lengths));
	if (status == 0)
		status = append(image, pairs, cursor, prefix, strlen(prefix));
	if (status == 0)
		status = append(image, pairs, cursor, NULL, le16(head + 2));
	if (status == 0 && memchr(pairs->data + begin + sizeof(lengths), 0, lengths[0]))
		status = corrupt(WHY_XATTR_KIND);
	if (status == 0)
		status = append_value(image, pairs, cursor, start, le16(head) & ELSEWHERE, &lengths[1]);
	if (status == 0)
		memcpy(pairs->data + begin, lengths, sizeof(lengths));
	*names += lengths[0] + 1;
	return status;
}

static int64_t collect(squash_image *image, uint32_t index, struct pairs *pairs)
{
	unsigned char head[16], entry[16];
	struct cursor cursor;
	size_t names = 0;
	int64_t status = 0;

	if (!image_holds(image, image->super.xattr_table, sizeof(head)))
		return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_TABLE, 0);
	status = image_read(image, image->super.xattr_table, head, sizeof(head));
	if (status < 0)
		return status;
	if (index >= le32(head + 8))
		return corrupt(WHY_XATTR_INDEX);
	status = meta_entry(image, image->super.xattr_table + sizeof(head), index, entry, sizeof(entry));
	if (status < 0)
		return status;
	if (le64(entry) >> 48 || le64(head) > image->super.bytes_used)
		return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_META_PLACE, 0);
	cursor = at(image, le64(head), le64(entry));
	for (uint32_t i = 0; status == 0 && i < le32(entry + 8); i++) {
		status = append_pair(image, pairs, &cursor, le64(head), &names);
		if (status == 0 && names > NAMES_MOST)
			status = failure(SQFS_ERROR_OVERFLOW, WHY_XATTR_SIZE, 0);
	}
	return status;
}

int64_t squash_xattrs(squash_image *image, uint32_t index, char **result)
{
	struct pairs pairs = {0};
	int64_t status = 0;

	*result = NULL;
	if (index == UINT32_MAX || image->super.xattr_table == NOWHERE)
		return 0;
	pthread_mutex_lock(&image->lock);
	status = collect(image, index, &pairs);
	pthread_mutex_unlock(&image->lock);
	if (status < 0) {
		free(pairs.data);
		return status;
	}
	*result = (char *)pairs.data;
	return pairs.length;
}
