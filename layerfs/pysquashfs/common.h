/* What both halves of the module share; not seen by cffi. */
#ifndef LAYERFS_PYSQUASHFS_COMMON_H
#define LAYERFS_PYSQUASHFS_COMMON_H

#include <stddef.h>
#include <stdint.h>

#endif
