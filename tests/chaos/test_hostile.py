"""Clients that mean harm, beside one that means well: chaos_hostile.py has the kinds. What they
cost is printed by tools/bench/hostile."""
import contextlib
import json
import os
import subprocess

from chaos_hostile import Attack
from karst_cluster import KARST, wait_until

BUDGET = 16 << 20
SLACK_MIB = 80  # beside the budgets of requests, reads and answers: connections, what malloc keeps
COUNTS = {"drip": 200, "deaf": 100, "mute": 50, "storm": 0, "garbage": 0}
PARTITIONS = 2000


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) / 1024


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def produce(cluster):
    """Latencies in ms of 500 records a second, acks=all."""
    out = cluster.karst("bench", "produce", "good", "--records", "500", "--rate", "500",
                        "--linger-ms", "0", "--json")
    return json.loads(out)["latency_ms"]


def test_hostile_clients_cost_bounded_memory_and_others_are_served(make_cluster, capsys):
    cluster = make_cluster(brokers=1, settings=[f"queued.max.request.bytes={BUDGET}",
                                                "log.preallocate.bytes=65536"])
    for topic, partitions in (("good", 1), ("t", 1), ("wide", PARTITIONS)):
        cluster.create_topic(topic, partitions=partitions, replication=1)
    cluster.karst("bench", "produce", "t", "--records", "20000")
    pid, address = cluster.pid(1), cluster.address(1)
    alone = produce(cluster)
    memory, files = resident_mib(pid), descriptors(pid)
    with contextlib.ExitStack() as stack:
        for kind, count in COUNTS.items():
            stack.enter_context(Attack(address, kind, count))
        wait_until(lambda: descriptors(pid) > files + 300, "they are connected")
        attacked = produce(cluster)
        more = resident_mib(pid) - memory
    with capsys.disabled():
        print(f"\nhostile: p50 {alone['p50']:.1f}, p99 {alone['p99']:.1f} ms alone; "
              f"{attacked['p50']:.1f}, {attacked['p99']:.1f} ms beside them, who cost "
              f"{more:.0f} MiB")
    assert more < 3 * BUDGET / (1 << 20) + SLACK_MIB
    wait_until(lambda: descriptors(pid) < files + 20, "their connections are closed")
    produce(cluster)


def test_producers_over_the_memory_budget_are_served(make_cluster):
    """What they hold is given back when followers have it, whose reports must be read for that."""
    cluster = make_cluster(settings=["queued.max.request.bytes=2097152"])
    cluster.create_topic("t", partitions=6, configs=["min.insync.replicas=2"])
    command = [KARST, "bench", "produce", "t", "--records", "5000"]
    # pylint: disable-next=consider-using-with
    producers = [subprocess.Popen(command, env=cluster.environment(), stdout=subprocess.DEVNULL)
                 for _ in range(4)]
    try:
        assert [producer.wait(60) for producer in producers] == [0] * 4
    finally:
        for producer in producers:
            producer.kill()


def test_fetches_that_wait_give_their_memory_to_others(make_cluster):
    """Each of them has a row for every partition, and may wait for half a minute."""
    cluster = make_cluster(brokers=1, settings=["queued.max.request.bytes=2097152"])
    cluster.create_topic("good", replication=1)
    cluster.create_topic("wide", partitions=PARTITIONS, replication=1)
    with Attack(cluster.address(1), "wait", 10):
        wait_until(lambda: descriptors(cluster.pid(1)) > 40, "they are connected")
        produce(cluster)
