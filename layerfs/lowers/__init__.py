"""What may be a layer, and squashfs images as lowers of the union."""
