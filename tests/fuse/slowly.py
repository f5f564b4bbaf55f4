"""An import that takes as long as the test wants: until the file named by the environment is there."""

import os
import time

while not os.path.exists(os.environ["LAYERFS_TEST_IMPORTED"]):
    time.sleep(0.001)

if "LAYERFS_TEST_NO_EPOLL" in os.environ:  # as where trio is not what we know
    from layerfs.fuse import event_loop

    event_loop._trio_epoll = lambda another: -1
