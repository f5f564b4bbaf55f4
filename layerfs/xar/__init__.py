"""XAR packages: a text header before a squashfs image; what they depend on, and images as layers without a mount."""
