"""Disks of brokers that fail and last on demand: rules for tests/lib/io_errors.c, which a broker
loads when it starts. A rule names calls, a pattern of paths and what comes of them."""
import errno
import mmap
import os
import struct

from karst_cluster import BUILD, wait_until

LIBRARY = os.path.join(BUILD, "tests", "lib", "libkarst_io_errors.so")
READ, WRITE, SYNC, SYNC_FS, OPEN, CREATE, ALLOCATE, SIZE, RENAME, UNLINK = (1 << i
                                                                           for i in range(10))
FAIL, SHORT, TORN, LOSE = range(4)  # as io_errors.c says
ANY_SYNC = SYNC | SYNC_FS
ALWAYS = 1 << 30
RULES, ON, HITS_AT = 16, struct.Struct("<I"), 32
RULE = struct.Struct("<IIIiIIiiI220s")


class IoErrors:
    """The rules of one broker, in a file that it has in its memory. They outlive the process."""

    def __init__(self, path):
        self.path, self.used = path, 0
        with open(path, "w+b") as file:
            file.truncate(RULES * RULE.size)
            self.memory = mmap.mmap(file.fileno(), RULES * RULE.size)

    def environment(self):
        return {"LD_PRELOAD": LIBRARY, "KARST_IO_ERRORS": self.path}

    # pylint: disable-next=too-many-arguments
    def add(self, calls, pattern, kind=FAIL, error=errno.EIO, delay_ms=0, percent=100, skip=0,
            left=1):
        """After `skip` calls that match, so many fail or, with error 0, are only late. Returns the
        rule, for hits()."""
        assert self.used < RULES, "clear() first"
        at, self.used = self.used * RULE.size, self.used + 1
        RULE.pack_into(self.memory, at, 0, calls, kind, error, delay_ms, percent, skip, left, 0,
                       pattern.encode())
        ON.pack_into(self.memory, at, 1)  # last: it is read meanwhile
        return at

    def hits(self, rule):
        return ON.unpack_from(self.memory, rule + HITS_AT)[0]

    def wait_for_hits(self, rule, count=1):
        wait_until(lambda: self.hits(rule) >= count, f"{count} calls that meet the rule")

    def clear(self):
        for i in range(self.used):
            ON.pack_into(self.memory, i * RULE.size, 0)
        self.used = 0
