"""Threads that read one image at once, each all of it in an order of its own.

    python -m tests.pysquashfs.side_by_side IMAGE [MODULE]

MODULE is a build of the extension to use in the place of the installed one.
"""

import argparse
import random
import stat
import sys
import threading

from tests.sanitized import use

MODULE = "layerfs.pysquashfs._squashfs"
THREADS = 4


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("image")
    parser.add_argument("module", nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.module:
        use(MODULE, options.module)
    from layerfs.pysquashfs import SquashfsImage

    sys.setswitchinterval(1e-5)
    found: list[dict[bytes, object]] = []

    def look(image: SquashfsImage, seed: int) -> None:
        dice, seen = random.Random(seed), dict[bytes, object]()
        paths = [path for path, _ in image.walk()]
        dice.shuffle(paths)
        for path in paths:
            inode = image.lookup(path)
            seen[path] = inode, image.xattrs(inode.ref), content(image, path)
        found.append(seen)

    def content(image: SquashfsImage, path: bytes) -> object:
        inode = image.lookup(path)
        if stat.S_ISREG(inode.mode):
            return image.read(inode.ref, 0, min(inode.size, 1 << 17))
        if stat.S_ISDIR(inode.mode):
            return image.readdir(inode.ref), image.find(inode.ref, b"absent")
        return image.readlink(inode.ref) if stat.S_ISLNK(inode.mode) else None

    for turn in range(options.rounds):
        with SquashfsImage(options.image) as image:
            threads = [threading.Thread(target=look, args=(image, turn * THREADS + seed)) for seed in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert len(found) == options.rounds * THREADS and all(each == found[0] for each in found)
    print(f"{len(found[0])} paths")


if __name__ == "__main__":
    main()
