"""The file system of one broker fills and empties. Needs root, as CI has it, to mount one."""
import os

import chaos_faults as faults
import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
MIB = 1 << 20
SETTINGS = ["log.dir.min.free.bytes=16000000", "log.preallocate.bytes=1048576"]


def test_a_disk_that_fills_and_empties(chaos_load):
    """What the broker led is led by the others; with room it comes back by itself."""
    with chaos_load(small_disks={3: 128}, settings=SETTINGS) as load:
        for _ in faults.rounds(1):
            faults.fill(load, 3, leave=8 * MIB, seconds=2)
            faults.in_sync(load)
            faults.fill(load, 3, leave=0, seconds=2, kill_too=True)
            faults.in_sync(load)
        load.check()
        assert load.figures["longest gap ms"] < 5000, load.timeline.gaps[:3]


def test_all_disks_full(chaos_load):
    """Replicated data fill all voters alike, and none may be kept from starting by it (R16)."""
    with chaos_load(small_disks={1: 96, 2: 96, 3: 96}, settings=SETTINGS) as load:
        for i in faults.rounds(1):
            faults.fill_all(load, leave=i % 3 * MIB, seconds=2)
            faults.in_sync(load)
        load.check()
