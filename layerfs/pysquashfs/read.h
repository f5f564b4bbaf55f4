/* Reading: what Python sees of read.c. cffi parses this file as it is: no preprocessor lines. */

int squash_reader_version(void);
