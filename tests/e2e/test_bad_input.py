"""Whatever comes over the wire: a clear error, nothing lost, and the broker goes on."""
import json
import random
import struct

import pytest
from karst_rpc import ERROR, REQUEST, Connection, batch, frame, make, message_class


@pytest.fixture
def broker(make_cluster):
    cluster = make_cluster(brokers=1, settings=["socket.request.max.bytes=2000000"])
    cluster.create_topic("t", replication=1)
    yield cluster
    # Whatever the test did: what was acknowledged before is there, and the broker serves.
    cluster.karst("produce", "t", stdin=b"after\n")
    assert cluster.karst("consume", "t", "--from-beginning", "--exit-at-end").endswith(b"after\n")


def topic_id(cluster, connection):
    reply, _ = connection.call("Metadata", make("MetadataRequest", topics=["t"]))
    return reply.topics[0].topic_id


def produce(cluster, connection, data, **row):
    row = {"topic_id": topic_id(cluster, connection), "index": 0, "bytes": len(data), **row}
    request = make("ProduceRequest", acks=-1, timeout_ms=5000, partitions=[row])
    return connection.call("Produce", request, data)[0]


def test_a_batch_made_by_hand_is_taken(broker):
    connection = Connection(broker.address(1))
    reply = produce(broker, connection, batch([b"one", b"two"]))
    assert (reply.partitions[0].error, reply.partitions[0].base_offset) == (0, 0)
    assert broker.karst("consume", "t", "--from-beginning", "--exit-at-end") == b"one\ntwo\n"


@pytest.mark.parametrize("data, error", [
    (batch([b"x"], crc=1), 2),                       # CORRUPT_MESSAGE
    (batch([b"x", b"y"], count=3), 2),               # lying counts
    (batch([b"x"])[:-1], 2),                         # cut short
    (b"\0" * 80, 2),
    (batch([b"x"])[:16] + b"\1" + batch([b"x"])[17:], 43),  # magic 1
    (b"", 2),
], ids=["wrong CRC", "lying counts", "cut short", "zeros", "magic 1", "nothing"])
def test_a_bad_batch_is_refused_and_leaves_nothing(broker, data, error):
    connection = Connection(broker.address(1))
    row = produce(broker, connection, data).partitions[0]
    assert row.error in (error, 87) and row.message
    assert produce(broker, connection, batch([b"good"])).partitions[0].base_offset == 0


def test_unknown_partitions_are_named_so(broker):
    connection = Connection(broker.address(1))
    good = batch([b"x"])
    assert produce(broker, connection, good, index=9).partitions[0].error == 3
    row = produce(broker, connection, good, topic_id=b"\7" * 16).partitions[0]
    assert row.error in (3, 100) and row.message
    error = produce(broker, connection, good, index=-1)
    assert error.code == 42 and error.message
    assert connection.closed()


def test_slices_that_do_not_fit_the_attachment_are_refused(broker):
    connection = Connection(broker.address(1))
    error = produce(broker, connection, batch([b"x"]), bytes=5000)
    assert error.code == 42 and error.message


def test_an_unknown_method_is_answered_and_the_connection_goes_on(broker):
    connection = Connection(broker.address(1))
    connection.send(frame(REQUEST, 0x6363, 9))
    kind, _, correlation, message, _ = connection.receive()
    assert (kind, correlation) == (ERROR, 9)
    assert message_class("Error").FromString(message).code == 35
    assert topic_id(broker, connection)


def test_a_malformed_message_is_answered(broker):
    connection = Connection(broker.address(1))
    connection.send(frame(REQUEST, 256, 9, b"\xff\xff\xff"))
    kind, _, _, message, _ = connection.receive()
    assert kind == ERROR and message_class("Error").FromString(message).code == 42


def test_nothing_is_answered_before_the_hello(broker):
    connection = Connection(broker.address(1), hello=False)
    connection.send(frame(REQUEST, 259, 1, make("MetadataRequest").SerializeToString()))
    assert connection.closed()


def test_a_peer_of_another_cluster_is_refused(broker):
    connection = Connection(broker.address(1), hello=False)
    kind, _, _, message, _ = connection.hello(cluster_id=b"\1" * 16, node_id=2,
                                              incarnation=b"\2" * 16)
    assert kind == ERROR and message_class("Error").FromString(message).code == 104
    assert connection.closed()


def test_a_client_can_not_acknowledge_as_a_replica(broker):
    connection = Connection(broker.address(1))
    connection.send(frame(5, 512, 0, make("ReplicaFetchRequest", node_id=2,
                                          broker_epoch=1).SerializeToString()))
    assert connection.closed()


@pytest.mark.parametrize("data", [
    struct.pack(">I", 0xFFFFFFFF), struct.pack(">I", 3_000_000), struct.pack(">I", 1) + b"x",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 64,
], ids=["huge", "over the limit", "too short", "http", "zeros"])
def test_impossible_frames_close_the_connection(broker, data):
    connection = Connection(broker.address(1))
    connection.send(data)
    assert connection.closed()


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) / 1024


def test_clients_that_never_read_cost_bounded_memory(make_cluster):
    cluster = make_cluster(brokers=1, settings=["queued.max.request.bytes=16000000"])
    cluster.create_topic("t", replication=1)
    cluster.karst("bench", "produce", "t", "--records", "20000")  # 20 MB
    before = resident_mib(cluster.pid(1))
    greedy = [Connection(cluster.address(1)) for _ in range(20)]
    wanted = {"topic_id": topic_id(cluster, greedy[0]), "index": 0, "offset": 0,
              "bytes_max": 1000000}
    request = make("FetchRequest", wait_ms_max=0, bytes_min=1, bytes_max=1000000,
                   partitions=[wanted]).SerializeToString()
    for connection in greedy:  # 2 GB of answers, which nobody takes
        connection.send(b"".join(frame(REQUEST, 257, i, request) for i in range(100)))
    result = json.loads(cluster.karst("bench", "consume", "t", "--json"))
    assert result["records"] == 20000
    # What they may hold: the budget, and what the limits of 20 connections let through before it.
    assert resident_mib(cluster.pid(1)) - before < 150


def test_random_bytes_never_stop_the_broker(broker):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(200):
        connection = Connection(broker.address(1))
        data = bytearray(frame(rng.randrange(8), rng.randrange(1400), 1, rng.randbytes(60)))
        for _ in range(rng.randrange(6)):
            data[rng.randrange(4, len(data))] = rng.randrange(256)
        connection.send(bytes(data)[:rng.randrange(1, len(data) + 1)])
        connection.close()


def test_the_command_line_says_what_is_wrong_and_what_to_do(broker):
    for arguments, code, part in [
            (["topic", "create", "bad/name"], 1, "legal"),
            (["topic", "create", "x", "--replication-factor", "5"], 1, "replication factor"),
            (["topic", "create", "t"], 1, "exists"),
            (["topic", "create", "x", "--config", "retention.mss=1"], 1, "retention.ms"),
            (["topic", "delete", "nothing"], 1, "no such topic"),
            (["topic", "describe", "nothing"], 1, "no such topic"),
            (["consume", "t", "--partition", "7", "--exit-at-end"], 1, "partition"),
            (["produce"], 2, "TOPIC"), (["nonsense"], 2, "usage"),
            (["topic", "create"], 2, "NAME")]:
        done = broker.run(*arguments)
        error = done.stderr.decode()
        assert done.returncode == code, f"{arguments}: {done.returncode} {error}"
        assert part.lower() in error.lower(), f"{arguments}: {error}"
