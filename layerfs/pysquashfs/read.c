/* Reading images. */
#include "common.h"

#include "read.h"

int squash_reader_version(void)
{
	return 1;
}
