/* Writing images. */
#include "common.h"

#include "write.h"
