"""A cluster of real processes does what it is for."""
import hashlib
import json
import random

import pytest
from karst_cluster import wait_until
from karst_rpc import Connection, make


def lines(count, seed=1):
    rng = random.Random(seed)
    return b"".join(b"%d %s\n" % (i, rng.randbytes(rng.randrange(60)).hex().encode())
                    for i in range(count))


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_what_goes_in_comes_out_byte_for_byte(make_cluster, shards):
    cluster = make_cluster(brokers=1, settings=[f"num.shards={shards}"])
    cluster.create_topic("a", replication=1)
    data = lines(50000)
    cluster.karst("produce", "a", stdin=data)
    assert cluster.karst("consume", "a", "--from-beginning", "--exit-at-end") == data


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_three_replicas_hold_what_many_partitions_took(make_cluster, shards):
    cluster = make_cluster(settings=[f"num.shards={shards}"])
    cluster.create_topic("many", partitions=12)
    data = lines(20000)
    cluster.karst("produce", "many", stdin=data)
    out = cluster.karst("consume", "many", "--from-beginning", "--exit-at-end")
    assert sorted(out.splitlines()) == sorted(data.splitlines())
    cluster.wait_in_sync("many")
    leaders = {p["leader"] for p in
               cluster.json("topic", "describe", "many")[0]["partitions"]}
    assert leaders == {1, 2, 3}


def test_keys_keep_their_partition_and_their_order(cluster):
    cluster.create_topic("keyed", partitions=4)
    data = b"".join(b"k%d\t%d\n" % (i % 20, i) for i in range(2000))
    cluster.karst("produce", "keyed", "--key-separator", "\t", stdin=data)
    seen = {}
    for partition in range(4):
        out = cluster.karst("consume", "keyed", "--from-beginning", "--exit-at-end", "--partition",
                            str(partition))
        for line in out.splitlines():
            key = int(line) % 20
            assert seen.setdefault(key, (partition, -1))[0] == partition
            assert int(line) > seen[key][1]
            seen[key] = (partition, int(line))
    assert len(seen) == 20


def test_any_broker_takes_what_the_controller_decides(cluster):
    controller = cluster.controller()
    other = cluster.address(1 if controller != 1 else 2)
    cluster.karst("topic", "create", "x", "--partitions", "3", "--replication-factor", "3",
                  bootstrap=other)
    described = cluster.json("topic", "describe", "x", bootstrap=other)[0]
    assert len(described["partitions"]) == 3
    assert "x" in [t["topic"] for t in cluster.json("topic", "list", bootstrap=other)]
    cluster.karst("topic", "delete", "x", bootstrap=other)
    assert cluster.json("topic", "list", bootstrap=other) == []
    cluster.karst("topic", "create", "x", "--partitions", "1", "--replication-factor", "1",
                  bootstrap=other)
    assert cluster.karst("consume", "x", "--from-beginning", "--exit-at-end") == b""


def test_a_broker_sends_on_what_only_the_controller_decides(cluster):
    controller = wait_until(lambda: max(cluster.controller(), 0), "a controller")
    other = Connection(cluster.address(1 if controller != 1 else 2))
    topic = make("CreateTopic", name="f", partitions=1, replication_factor=3)
    reply, _ = other.call("CreateTopics", make("CreateTopicsRequest", topics=[topic],
                                               timeout_ms=5000))
    assert (reply.error, reply.topics[0].error) == (0, 0)
    request = make("MetadataRequest", topics=["f"])
    wait_until(lambda: other.call("Metadata", request)[0].topics[0].error == 0,
               "it knows the topic")
    reply, _ = other.call("DeleteTopics", make("DeleteTopicsRequest", timeout_ms=5000,
                                               topics=[make("DeleteTopic", name="f")]))
    assert (reply.error, reply.topics[0].error) == (0, 0)


def test_five_brokers_three_voters_an_observer_leads_and_is_killed(make_cluster):
    cluster = make_cluster(brokers=5, voters=3)
    cluster.create_topic("o", partitions=20, replication=3)
    described = cluster.json("topic", "describe", "o")[0]["partitions"]
    led = [p["partition"] for p in described if p["leader"] == 5]
    assert led, "placement gives node 5 something to lead"
    data = lines(5000)
    cluster.karst("produce", "o", stdin=data)
    cluster.deploy("kill", "5")
    wait_until(lambda: cluster.partition("o", led[0])["leader"] not in (-1, 5), "another leads")
    cluster.karst("produce", "o", stdin=b"after\n" * 40)
    out = cluster.karst("consume", "o", "--from-beginning", "--exit-at-end")
    assert sorted(out.splitlines()) == sorted(data.splitlines() + [b"after"] * 40)
    cluster.deploy("start", "5")
    cluster.wait_in_sync("o")


def test_all_are_killed_and_nothing_is_lost(cluster):
    cluster.create_topic("kept", partitions=3)
    data = lines(10000)
    cluster.karst("produce", "kept", stdin=data)
    for node in (1, 2, 3):
        cluster.deploy("kill", str(node))
    for node in (1, 2, 3):
        cluster.deploy("start", str(node))
    cluster.deploy("up")
    out = cluster.karst("consume", "kept", "--from-beginning", "--exit-at-end")
    assert sorted(out.splitlines()) == sorted(data.splitlines())


def test_a_stopped_broker_hands_over_and_comes_back(cluster):
    cluster.create_topic("s")
    first = cluster.leader("s")
    cluster.karst("produce", "s", stdin=b"one\n")
    cluster.deploy("stop", str(first))
    assert "code=0" in cluster.log(first)
    cluster.karst("produce", "s", stdin=b"two\n")
    assert cluster.leader("s") != first
    cluster.deploy("start", str(first))
    cluster.wait_in_sync("s")
    assert cluster.karst("consume", "s", "--from-beginning", "--exit-at-end") == b"one\ntwo\n"


def test_a_silent_broker_is_fenced_and_comes_back(make_cluster):
    cluster = make_cluster(settings=["broker.session.timeout.ms=500"])
    cluster.create_topic("p", partitions=3)
    controller = wait_until(lambda: max(cluster.controller(), 0), "a controller")
    partition = next(i for i in range(3) if cluster.leader("p", i) != controller)
    silent = cluster.leader("p", partition)
    others = ",".join(cluster.address(node) for node in (1, 2, 3) if node != silent)
    target = ("p", "--partition", str(partition))
    cluster.karst("produce", *target, stdin=b"one\n")
    cluster.deploy("pause", str(silent))
    cluster.karst("produce", *target, stdin=b"two\n", bootstrap=others)
    cluster.deploy("resume", str(silent))
    cluster.wait_in_sync("p")
    assert cluster.karst("consume", *target, "--from-beginning", "--exit-at-end") == b"one\ntwo\n"


def test_followers_get_no_larger_frames_than_they_take(make_cluster):
    cluster = make_cluster(settings=["socket.request.max.bytes=2000000"])
    cluster.create_topic("b", partitions=6)
    behind = next(n for n in (1, 2, 3) if n != cluster.controller())
    cluster.deploy("kill", str(behind))
    # A client gathers up to 4 MiB of batches in one request; six of these fit into the limit.
    cluster.karst("bench", "produce", "b", "--records", "20000", "--size", "1000", "--batch-size",
                  "200000")
    cluster.deploy("start", str(behind))
    cluster.wait_in_sync("b")


def test_too_few_in_sync_refuses_acks_all(cluster):
    cluster.create_topic("m", configs=["min.insync.replicas=3"])
    cluster.karst("produce", "m", stdin=b"one\n")
    leader = cluster.leader("m")
    cluster.deploy("kill", str(next(n for n in (1, 2, 3) if n != leader)))
    wait_until(lambda: len(cluster.partition("m")["isr"]) == 2, "the killed one left the ISR")
    done = cluster.run("produce", "m", "--client-config", "delivery.timeout.ms=1000",
                       stdin=b"two\n")
    assert done.returncode == 1 and b"min.insync.replicas" in done.stderr
    assert cluster.karst("consume", "m", "--from-beginning", "--exit-at-end") == b"one\n"


def test_verifiable_output_names_every_record(cluster):
    cluster.create_topic("v")
    out = cluster.karst("produce", "v", "--verifiable", stdin=lines(1000))
    acked = [json.loads(line) for line in out.splitlines()]
    assert [row["offset"] for row in acked] == list(range(1000))
    assert [row["sequence"] for row in acked] == list(range(1000))
    out = cluster.karst("consume", "v", "--from-beginning", "--exit-at-end", "--verifiable")
    read = [json.loads(line) for line in out.splitlines()]
    assert [(r["partition"], r["offset"]) for r in read] == [(0, i) for i in range(1000)]
    assert all(a["ns"] <= b["ns"] for a, b in zip(read, read[1:]))


def test_a_large_file_survives(cluster):
    cluster.create_topic("large")
    data = lines(400000, seed=7)
    cluster.karst("produce", "large", stdin=data)
    out = cluster.karst("consume", "large", "--from-beginning", "--exit-at-end")
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()
