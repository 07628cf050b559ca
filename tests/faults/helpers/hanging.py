"""Work that hangs, is killed or crashes at chosen items."""

import os
import signal
import time


def work(item: int) -> int:
    """The item itself, unless it is one of the bad ones."""
    if item == 2:
        time.sleep(60)
    if item == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 6:
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == 7 and not os.path.exists(os.environ["ONCE"]):
        open(os.environ["ONCE"], "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 8:
        raise MemoryError
    if item == 9:
        return len(bytearray(int(0.7 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))))
    return item
