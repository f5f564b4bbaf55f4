/* Writing: compressors around libsquashfs's. */
#include "write_image.h"

/* Metadata: libsquashfs has no switch for it, but stores as it is what a compressor says it cannot compress. */

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

sqfs_compressor_t sw_stored = {
	.base = {.destroy = sw_keep, .copy = NULL},
	.get_configuration = stored_configuration,
	.write_options = stored_options,
	.read_options = stored_options,
	.do_block = stored_block,
};

/* The compressor of blocks, and a way to hurry the threads. What does not shrink is stored as it is. */

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

	sqfs_s32 done;

	if (__atomic_load_n(h->given_up, __ATOMIC_RELAXED))
		return 0;
	done = h->inner->do_block(h->inner, in, size, out, out_size);
	/* libsquashfs's lz4 gives 5 bytes for 4; unsquashfs takes a metadata block that grew for damage. */
	return done >= 0 && (sqfs_u32)done >= size ? 0 : done;
}

static sqfs_object_t *hurried_copy(const sqfs_object_t *object);

/* Takes `inner`, also when there is no memory. */
sqfs_compressor_t *sw_hurried(sqfs_compressor_t *inner, const bool *given_up)
{
	struct hurried *h = calloc(1, sizeof(*h));

	if (h == NULL || inner == NULL) {
		free(h);
		sqfs_destroy(inner);
		return NULL;
	}
	h->base = sw_stored; /* only blocks are asked of it */
	h->base.base = (sqfs_object_t){.destroy = hurried_destroy, .copy = hurried_copy};
	h->base.do_block = hurried_block;
	h->inner = inner;
	h->given_up = given_up;
	return &h->base;
}

static sqfs_object_t *hurried_copy(const sqfs_object_t *object)
{
	const struct hurried *h = (const struct hurried *)object;

	return (sqfs_object_t *)sw_hurried(sqfs_copy(h->inner), h->given_up);
}
