/* Writing: an image's beginning and end. */
#include "write_image.h"

/* Blocks that wait for threads, by their bytes, but within limits. The end of a file counts as a block until it is in a
   fragment block, so that with few of them only one thread has work. Measured on a busy machine, 20,000 files of 2 to
   18 KiB in blocks of 128 KiB, two threads: with 20 blocks zstd 27 s, gzip 6 to 10 s; with 512 zstd 12 s, gzip 5 s. */
#define BACKLOG (64 << 20)
#define BACKLOG_LEAST 128
#define BACKLOG_MOST 1024

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
	sqfs_destroy(w->for_metadata);
	sqfs_destroy(w->compressor);
	for (i = 0; i < w->contents.count; ++i)
		sw_content_free(w->contents.items[i]);
	for (i = 0; i < w->directories.count; ++i)
		free(w->directories.items[i]);
	sw_content_free(w->current);
	free(w->contents.items);
	free(w->directories.items);
	sw_blocks_end(&w->blocks);
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
	w->for_metadata = sw_hurried(sqfs_copy(w->compressor), &w->blocks.given_up);
	if (w->for_metadata == NULL)
		return SQFS_ERROR_ALLOC;
	w->for_inodes = w->flags & SW_COMPRESS_INODES ? w->for_metadata : &sw_stored;
	w->for_xattrs = w->flags & SW_COMPRESS_XATTRS ? w->for_metadata : &sw_stored;
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
		.cmp = sw_hurried(sqfs_copy(w->compressor), &w->blocks.given_up),
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
	sw_target_begin(&w->target, fd, position);
	sw_blocks_begin(&w->blocks, &w->target);
	if ((error = make_compressors(w, compressor, level)) != 0 || (error = make_tables(w)) != 0 ||
	    (error = begin_file(w, compressor)) != 0)
		return error;
	return make_processor(w, threads);
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
