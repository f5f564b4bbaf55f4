/* Writing: the content of files. */
#include "write_image.h"

static const uint8_t zeros[65536];

void sw_content_free(struct content *content)
{
	if (content == NULL)
		return;
	free(content->inode);
	free(content->holes);
	free(content);
}

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

/* Whole blocks of a hole are not shown to libsquashfs at all: count_holes adds them to the finished inode. */
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

/* Where the data at or after `position` begin; `end`, or where the file ends by now, if there are none. Files that know no
   holes are data. */
static uint64_t data_at(int fd, uint64_t position, uint64_t end)
{
	off_t found = lseek(fd, position, SEEK_DATA);
	struct stat status;

	if (found < 0 && errno != ENXIO)
		return position;
	if (found < 0)
		found = fstat(fd, &status) == 0 && status.st_size >= 0 ? status.st_size : 0;
	if ((uint64_t)found < position)
		return position;
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
	index = sw_list_append(&w->contents, w->current);
	if (index >= 0)
		w->current = NULL;
	return index;
}

/* Let a file's inode count the holes that libsquashfs was not shown; sw_inode puts them into the list of blocks. */
static int count_holes(struct content *content, uint32_t block_size)
{
	size_t given = content->inode->payload_bytes_used / sizeof(uint32_t);
	uint64_t skipped = content->hole_blocks * block_size;
	int error;

	if (given + content->hole_blocks > MAX_BLOCKS)
		return SQFS_ERROR_OVERFLOW;
	if ((error = sqfs_inode_make_extended(content->inode)) != 0)
		return error;
	content->inode->data.file_ext.file_size += skipped;
	content->inode->data.file_ext.sparse += skipped;
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

		if (content->hole_count && (error = count_holes(content, w->block_size)) != 0)
			return error;
	}
	w->super.inode_table_start = w->target.size;
	return 0;
}
