"""Disks whose calls fail or last, under load: tests/lib/io_errors.c is between the broker and
them. Each broker has two directories of logs, and one for the metadata log."""
import errno
import signal

import chaos_faults as faults
import pytest
from chaos_checker import TOPIC
from chaos_io_errors import LOSE, SYNC, TORN, WRITE

DISKS = {"io_errors": True, "directories": ("data", "more"), "metadata": "meta"}


def directory_of(cluster, node, partition):
    return cluster.log_folder(node, f"{TOPIC}-{partition}").split("/")[-2]


def test_a_failed_sync_of_a_follower_and_of_a_leader(chaos_load):
    """What was written since the last good sync is lost, too, where it fails."""
    with chaos_load(**DISKS) as load:
        for i in faults.rounds(1):
            partition = load.random.randrange(load.partitions)
            leader = load.cluster.leader(TOPIC, partition)
            follower = load.random.choice([n for n in load.nodes if n != leader])
            for node, number in ((follower, signal.SIGTERM), (leader, signal.SIGKILL)):
                faults.fail_sync(load, node, directory_of(load.cluster, node, partition), LOSE,
                                 skip=i, number=number)
                faults.in_sync(load)
        load.check()


def test_failed_and_short_writes(chaos_load):
    with chaos_load(**DISKS) as load:
        for _ in faults.rounds(1):
            node = load.random.choice(load.nodes)
            for error in (errno.EIO, errno.ENOSPC):
                faults.fail_write(load, node, load.random.choice(("data", "more")), error)
                faults.in_sync(load)
            faults.shorten(load, node, 1)
        load.check()


def test_failed_reads(chaos_load):
    with chaos_load(**DISKS) as load:
        for _ in faults.rounds(1):
            percent = load.random.choice((10, 100))
            faults.fail_reads(load, load.random.choice(load.nodes), 1, percent)
        load.check()


def test_slow_syncs_of_a_follower_do_not_stop_the_others(chaos_load):
    """It says so, or stands still: long before replica.lag.time.max.ms it is waited for no more,
    and it comes back."""
    with chaos_load(partitions=2, **DISKS) as load:
        leaders = {load.cluster.leader(TOPIC, i) for i in range(2)}
        follower = next(node for node in load.nodes if node not in leaders)
        for _ in faults.rounds(1):
            faults.slow_syncs(load, follower, "", 3000, 5)
            faults.in_sync(load)
        load.check()
        assert load.figures["longest gap ms"] < 7000, load.timeline.gaps[:3]


@pytest.mark.parametrize("calls, kind", [(SYNC, LOSE), (WRITE, TORN)], ids=["sync", "write"])
def test_a_metadata_log_that_can_not_be_kept_ends_its_broker(chaos_load, calls, kind):
    with chaos_load(**DISKS) as load:
        for _ in faults.rounds(1):
            faults.fail_metadata(load, load.cluster.controller_now(), calls, kind)
            faults.in_sync(load)
        load.check()
