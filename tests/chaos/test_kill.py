"""Brokers are killed under a continuous acks=all load: every acknowledged record is there, in
order, once; and the longest gap between acknowledgements is printed."""
import json
import subprocess
import threading

import pytest
from karst_cluster import KARST, wait_until

LINES_PER_SECOND = 2000


class Load:
    """Numbered lines into one partition, and what was acknowledged when."""

    def __init__(self, cluster, partition):
        self.cluster, self.partition = cluster, partition
        self.sent = 0
        self.acked = []  # (sequence, offset, ns)
        self.stopping = threading.Event()
        self.process = subprocess.Popen([KARST, "produce", "load", "--partition", str(partition),
                                         "--verifiable", "--client-config", "linger.ms=1"],
                                        env=cluster.environment(), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.feeder = threading.Thread(target=self.feed)
        self.reader = threading.Thread(target=self.read)
        self.feeder.start()
        self.reader.start()

    def feed(self):
        try:
            while not self.stopping.wait(0.01):
                chunk = range(self.sent, self.sent + LINES_PER_SECOND // 100)
                self.process.stdin.write(b"".join(b"%d\n" % i for i in chunk))
                self.process.stdin.flush()
                self.sent = chunk.stop
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended, which its exit code tells

    def read(self):
        for line in self.process.stdout:
            row = json.loads(line)
            self.acked.append((row["sequence"], row["offset"], row["ns"]))

    def wait_for_acks(self, more=1000):
        target = len(self.acked) + more
        wait_until(lambda: len(self.acked) >= target or self.process.poll() is not None,
                   f"{more} more acknowledgements")
        assert self.process.poll() is None, self.process.stderr.read().decode()

    def finish(self):
        self.stopping.set()
        self.feeder.join()
        self.reader.join()
        error = self.process.stderr.read().decode()
        assert self.process.wait(timeout=60) == 0, error

    def longest_gap_ms(self):
        times = sorted(ns for _, _, ns in self.acked)
        return max(b - a for a, b in zip(times, times[1:])) / 1e6

    def check(self):
        """All that was sent was acknowledged; the log has it, in order, once, at those offsets."""
        assert sorted(s for s, _, _ in self.acked) == list(range(self.sent))
        out = self.cluster.karst("consume", "load", "--partition", str(self.partition),
                                 "--from-beginning", "--exit-at-end")
        values = [int(line) for line in out.splitlines()]
        assert values == list(range(self.sent))
        assert all(values[offset] == sequence for sequence, offset, _ in self.acked)


@pytest.fixture
def start_load(cluster):
    """start_load(leads): into a partition that the active controller leads, or another broker."""
    cluster.create_topic("load", partitions=3, configs=["min.insync.replicas=2"])
    cluster.wait_in_sync("load")
    started = []

    def start(controller_leads):
        controller = wait_until(lambda: max(cluster.controller(), 0), "a controller")
        partition = next(i for i in range(3)
                         if (cluster.leader("load", i) == controller) == controller_leads)
        started.append(Load(cluster, partition))
        started[-1].wait_for_acks()
        return started[-1]

    yield start
    for load in started:
        load.stopping.set()
        load.process.kill()
        load.process.wait()


def finish(load, capsys, what):
    load.wait_for_acks()
    load.cluster.wait_in_sync("load")
    load.finish()
    load.check()
    with capsys.disabled():
        print(f"\n{what}: {load.sent} records acknowledged, longest gap "
              f"{load.longest_gap_ms():.0f} ms")


def kill_leader(load):
    leader = load.cluster.leader("load", load.partition)
    load.cluster.deploy("kill", str(leader))
    load.wait_for_acks()
    assert load.cluster.leader("load", load.partition) != leader
    load.cluster.deploy("start", str(leader))


def test_kill_the_leader(start_load, capsys):
    load = start_load(controller_leads=False)
    kill_leader(load)
    finish(load, capsys, "kill -9 of the leader")


def test_kill_the_controller(start_load, cluster, capsys):
    load = start_load(controller_leads=False)
    controller = cluster.controller()
    cluster.deploy("kill", str(controller))
    wait_until(lambda: cluster.controller() not in (-1, controller), "another controller")
    load.wait_for_acks()
    cluster.deploy("start", str(controller))
    finish(load, capsys, "kill -9 of the controller")


def test_kill_the_leader_that_is_the_controller(start_load, capsys):
    load = start_load(controller_leads=True)
    kill_leader(load)
    finish(load, capsys, "kill -9 of leader and controller in one")


def test_restart_all(start_load, cluster, capsys):
    load = start_load(controller_leads=False)
    for node in (1, 2, 3):
        cluster.deploy("kill", str(node))
    for node in (1, 2, 3):
        cluster.deploy("start", str(node))
    finish(load, capsys, "kill -9 of all three, and restart")
