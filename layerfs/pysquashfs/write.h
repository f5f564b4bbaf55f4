/* Writing: what Python sees of write.c. cffi parses this file as it is: no preprocessor lines. */
