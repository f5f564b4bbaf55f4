/* Data blocks: each is decompressed by itself, by several threads at once. */
#include "read_image.h"

#include <stdlib.h>

#define IDLE_MOST 4 /* workers kept for the next block, each with a block's room; more threads make their own */

static void worker_free(struct worker *worker)
{
	sqfs_destroy(worker->compressor);
	free(worker->stored);
	free(worker);
}

void blocks_forget(squash_image *image)
{
	struct worker *worker;

	while ((worker = image->workers)) {
		image->workers = worker->next;
		worker_free(worker);
	}
}

static int64_t worker_take(squash_image *image, struct worker **result)
{
	struct worker *worker;
	int64_t status;

	pthread_mutex_lock(&image->pool);
	worker = image->workers;
	if (worker) {
		image->workers = worker->next;
		image->idle--;
	}
	pthread_mutex_unlock(&image->pool);
	if (!worker) {
		worker = calloc(1, sizeof(*worker));
		if (!worker)
			return failure(SQFS_ERROR_ALLOC, WHY_MEMORY, 0);
		worker->stored = malloc(image->super.block_size);
		status = worker->stored ? image_compressor(image, &worker->compressor)
					: failure(SQFS_ERROR_ALLOC, WHY_MEMORY, 0);
		if (status < 0) {
			worker_free(worker);
			return status;
		}
	}
	*result = worker;
	return 0;
}

static void worker_give_back(squash_image *image, struct worker *worker)
{
	pthread_mutex_lock(&image->pool);
	if (image->idle < IDLE_MOST) {
		worker->next = image->workers;
		image->workers = worker;
		image->idle++;
		worker = NULL;
	}
	pthread_mutex_unlock(&image->pool);
	if (worker)
		worker_free(worker);
}

int64_t squash_load(squash_image *image, uint64_t position, uint32_t stored, void *data, uint32_t length)
{
	uint32_t size = stored & STORED_SIZE;
	struct worker *worker;
	int64_t status;

	if (stored & ~(STORED_SIZE | STORED_PLAIN) || size == 0 || size > image->super.block_size)
		return corrupt(WHY_BLOCK_STORED);
	if (!image_holds(image, position, size))
		return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_BLOCK_PLACE, 0);
	if (stored & STORED_PLAIN) {
		if (size > length)
			return corrupt(WHY_BLOCK_STORED);
		status = image_read(image, position, data, size);
		return status < 0 ? status : size;
	}
	status = worker_take(image, &worker);
	if (status < 0)
		return status;
	status = image_read(image, position, worker->stored, size);
	if (status == 0) {
		/* 0 is what most of libsquashfs's decompressors say of a block that would be longer than `length`. */
		status = worker->compressor->do_block(worker->compressor, worker->stored, size, data, length);
		if (status <= 0 || status > length)
			status = failure(SQFS_ERROR_COMPRESSOR, WHY_BLOCK_DATA, 0);
	}
	worker_give_back(image, worker);
	return status;
}
