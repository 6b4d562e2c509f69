"""What is done to a cluster under load, by the tests of tests/chaos and at random by the storm.
Each fault ends with everything healed, and with acknowledgements in all partitions again."""
import contextlib
import errno
import os
import signal
import time

from chaos_checker import TOPIC
from chaos_io_errors import ALWAYS, ANY_SYNC, FAIL, READ, SHORT, SYNC, TORN, WRITE
from karst_cluster import wait_until

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "0"))


def rounds(few):
    """CHAOS_ROUNDS, or the few that CI has time for."""
    return range(ROUNDS or few)


def stay(seconds):
    """A fault lasts for a while: that is what makes it one."""
    time.sleep(seconds)


def in_sync(load):
    load.cluster.wait_in_sync(TOPIC)


def kill(load, *nodes, down=0.0, why="kill -9"):
    """At once, and back after so many seconds. One alone: the others must go on without it."""
    cluster = load.cluster
    with load.fault(f"{why} {', '.join(map(str, nodes))}"):
        for node in nodes:
            had_run = cluster.signal(node, signal.SIGKILL, 10)
            assert had_run, f"broker {node} had ended: {cluster.log(node)}"
        if len(nodes) == 1:
            load.wait_for_acks()
        stay(down)
        for node in nodes:
            cluster.start(node)
    load.wait_for_acks()


def kill_controller(load, down=0.0):
    """It leads partitions, too: there are more of them than brokers."""
    kill(load, load.cluster.controller_now(), down=down, why="kill -9 leader + controller")


def restart(load, node):
    """SIGTERM, and started again when it has ended."""
    with load.fault(f"SIGTERM {node}"):
        assert load.cluster.signal(node, signal.SIGTERM, 60)
        load.wait_for_acks()
        load.cluster.start(node)
    load.wait_for_acks()


def pause(load, node, seconds):
    with load.fault(f"SIGSTOP {node}, {seconds:.1f} s"):
        load.cluster.signal(node, signal.SIGSTOP)
        stay(seconds)
        load.cluster.signal(node, signal.SIGCONT)
    load.wait_for_acks()


@contextlib.contextmanager
def network_fault(load, what):
    with load.fault(what):
        try:
            yield load.cluster.network
        finally:
            load.cluster.network.heal()
    load.wait_for_acks()


def isolate(load, node, seconds, with_clients):
    """Silence between a broker and the others. What it led goes to those within its session."""
    what = f"{node} alone{' without clients' if with_clients else ''}"
    with network_fault(load, what) as network:
        network.isolate(node, also=[0] if with_clients else [])
        stay(seconds)


def half_open(load, sender, receiver, seconds):
    with network_fault(load, f"{sender} unheard by {receiver}") as network:
        network.cut((sender, receiver))
        stay(seconds)


def deaf(load, node, seconds):
    """It speaks to all and hears nobody."""
    with network_fault(load, f"{node} is deaf") as network:
        network.cut(*[(other, node) for other in network.inside if other != node])
        stay(seconds)


def lose(load, percent, seconds):
    with network_fault(load, f"{percent} % lost") as network:
        network.lose(percent)
        stay(seconds)


def slow(load, node, seconds):
    with network_fault(load, f"{node} is slow") as network:
        network.slow(node, "2mbit")
        stay(seconds)


def flap(load, node, times):
    with network_fault(load, f"{node} flaps") as network:
        for _ in range(times):
            network.isolate(node)
            stay(0.3)
            network.heal()
            stay(0.2)


def fill(load, node, leave, seconds, kill_too=False):
    """The disk of a broker has only so much left; the others go on. With kill_too it starts on the
    full disk."""
    disk = load.cluster.disk(node)
    with load.fault(f"disk of {node} full{', kill -9' if kill_too else ''}"):
        disk.fill(leave)
        load.wait_for_acks()
        stay(seconds)
        if kill_too:
            load.cluster.signal(node, signal.SIGKILL, 10)
            load.cluster.start(node)
            stay(seconds)
        load.wait_for_acks()
        assert load.cluster.pid(node), f"broker {node} ended: {load.cluster.log(node)[-1000:]}"
        disk.empty()
    load.wait_for_acks()


def fill_all(load, leave, seconds):
    """No disk has room, and all brokers are killed: they start, elect a controller and serve reads,
    and take records again when there is room."""
    cluster = load.cluster
    nodes = list(cluster.processes.nodes())
    with load.fault("all disks full, kill -9 all"):
        for node in nodes:
            cluster.disk(node).fill(leave)
        stay(seconds)
        for node in nodes:
            assert cluster.signal(node, signal.SIGKILL, 10), f"broker {node} ended by itself"
        for node in nodes:
            cluster.start(node)
        cluster.controller_now()
        wait_until(lambda: all(b["state"] == "active" for b in cluster.status()["brokers"]),
                   "all brokers are active again, on full disks")
        cluster.karst("consume", TOPIC, "--from-beginning", "--max-messages", "1")
        for node in nodes:
            cluster.disk(node).empty()
    load.wait_for_acks()


# ---- calls to the disk that fail or last; directory: a name of the broker's ----


def ended(load, node):
    return lambda: load.cluster.pid(node) is None


def end(load, node, number):
    """In order or at once, or it has ended by itself."""
    if load.cluster.pid(node):
        load.cluster.signal(node, number, 60)


def fail_sync(load, node, directory, kind=FAIL, skip=0, number=signal.SIGTERM):
    """One sync fails, and every later one would succeed: the directory is offline all the same, and
    the broker does not start on it before it was verified (R14). The others go on."""
    # pylint: disable=too-many-arguments
    cluster, path = load.cluster, load.cluster.directory(node, directory)
    mark = os.path.join(path, ".failed_sync")
    with load.fault(f"sync fails, {directory} of {node}"):
        rule = cluster.io(node).add(ANY_SYNC, f"{path}*", kind=kind, skip=skip)
        cluster.io(node).wait_for_hits(rule)
        load.wait_for_acks()
        wait_until(lambda: os.path.exists(mark), f"{mark}, or a restart would believe the cache")
        end(load, node, number)
        cluster.io(node).clear()
        cluster.start(node)
        wait_until(ended(load, node), f"broker {node} refuses {path}, which was not verified")
        assert "karstd verify" in cluster.log(node)[-1000:], cluster.log(node)[-1000:]
        cluster.verify(node)
        cluster.start(node)
    load.wait_for_acks()


def fail_write(load, node, directory, error=errno.EIO):
    """To a log of the load, half of it is written. What the broker led there is led by others; on a
    full disk the log is mended at once, else with the next start (R19)."""
    cluster = load.cluster
    with load.fault(f"a write fails, {directory} of {node}: {errno.errorcode[error]}"):
        rule = cluster.io(node).add(WRITE, f"{cluster.directory(node, directory)}/{TOPIC}-*.log",
                                    kind=TORN, error=error)
        cluster.io(node).wait_for_hits(rule)
        load.wait_for_acks()
        cluster.io(node).clear()
        if error != errno.ENOSPC:
            end(load, node, signal.SIGTERM)
            cluster.start(node)
    load.wait_for_acks()


def shorten(load, node, seconds):
    """Reads and writes bring half of what was asked, which nobody may notice."""
    with load.fault(f"short reads and writes on {node}"):
        rule = load.cluster.io(node).add(READ | WRITE, "*", kind=SHORT, percent=50, left=ALWAYS)
        load.cluster.io(node).wait_for_hits(rule)
        stay(seconds)
        load.cluster.io(node).clear()
    load.wait_for_acks()


def fail_reads(load, node, seconds, percent=100):
    """Of logs of the load, while somebody reads all from the beginning. Others lead what it led,
    until it starts again."""
    cluster = load.cluster
    with load.fault(f"{percent} % of reads fail on {node}"):
        cluster.io(node).add(READ, f"*/{TOPIC}-*.log", percent=percent, left=ALWAYS)
        with cluster.begin("consume", TOPIC, "--from-beginning") as reader:
            stay(seconds)
            reader.kill()
        load.wait_for_acks()
        cluster.io(node).clear()
        end(load, node, signal.SIGTERM)
        cluster.start(node)
    load.wait_for_acks()


def slow_syncs(load, node, directory, ms, seconds):
    cluster = load.cluster
    with load.fault(f"syncs take {ms} ms, {directory} of {node}"):
        rule = cluster.io(node).add(ANY_SYNC, f"{cluster.directory(node, directory)}*", error=0,
                                    delay_ms=ms, left=ALWAYS)
        cluster.io(node).wait_for_hits(rule)
        stay(seconds)
        load.wait_for_acks()
        cluster.io(node).clear()
    load.wait_for_acks()


def fail_metadata(load, node, calls=SYNC, kind=FAIL, error=errno.EIO):
    """The metadata log can not be kept: the broker ends at once, and starts again when it can."""
    # pylint: disable=too-many-arguments
    cluster = load.cluster
    with load.fault(f"metadata log fails, {node}"):
        rule = cluster.io(node).add(calls, "*/__cluster_metadata-0/*", kind=kind, error=error)
        while not cluster.io(node).hits(rule):  # something to write there
            cluster.run("topic", "create", f"topic-{time.monotonic_ns()}")
        wait_until(ended(load, node), f"broker {node} ends")
        load.wait_for_acks()
        cluster.io(node).clear()
        cluster.start(node)
    load.wait_for_acks()
