"""squashfs images, read and written through libsquashfs."""
