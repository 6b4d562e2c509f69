#!/usr/bin/python3
"""Writes the seed corpora that can be made of the .proto files and of a few words: messages,
metadata, controller, raft, quorum, store, log, options, producers. The others were cut from real
files. Usage: seeds.py [FOLDER] (default: the corpus beside it)"""
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

import karst_rpc  # noqa: E402

SERVICES = ["Data", "Replica", "Cluster", "Admin", "Quorum"]  # as in src/wire/method.c
APPEND, APPENDED, VOTE, VOTED, INSTALL, TIMEOUT_NOW = range(1, 7)
VOTER, STANDBY = 1, 0


def write(target, name, data):
    corpus = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "corpus")
    folder = os.path.join(corpus, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)


def value_of(field, nth):
    if field.cpp_type == field.CPPTYPE_STRING:
        return bytes(range(nth, nth + 16)) if field.type == field.TYPE_BYTES else f"name{nth}"
    if field.cpp_type == field.CPPTYPE_BOOL:
        return True
    if field.cpp_type == field.CPPTYPE_ENUM:
        return field.enum_type.values[0].number
    return field.number + nth


def fill(message):
    """Every field set, lists with two members."""
    for field in message.DESCRIPTOR.fields:
        many = field.label == field.LABEL_REPEATED
        for nth in range(2 if many else 1):
            if field.cpp_type == field.CPPTYPE_MESSAGE:
                place = getattr(message, field.name)
                fill(place.add() if many else place)
            elif many:
                getattr(message, field.name).append(value_of(field, nth))
            else:
                setattr(message, field.name, value_of(field, nth))
    return message


def messages():
    pool = karst_rpc.message_class("Hello").DESCRIPTOR.file.pool
    place = 0
    for service in SERVICES:
        for method in pool.FindServiceByName(f"karst.{service}").methods:
            for nth, kind in enumerate([method.input_type, method.output_type]):
                packed = fill(karst_rpc.make(kind.name)).SerializeToString()
                write("messages", kind.name, bytes([place * 2 + nth]) + packed)
            place += 1


def metadata():
    """Rows of fuzz_metadata.c: a small cluster's life; and each record by itself."""
    topic, broker = bytes(range(16)), bytes(range(1, 17))
    listeners = [karst_rpc.make("Listener", name=f"L{n}", host="h", port=n + 1) for n in range(4)]
    life = [
        (1, karst_rpc.make("FeatureLevelRecord", level=1)),
        (2, karst_rpc.make("ClusterRecord", cluster_id=topic, quorum_recovery_id=broker)),
        (3, karst_rpc.make("RegisterBrokerRecord", node_id=1, broker_epoch=3, incarnation=broker,
                           boot_id=broker, listeners=listeners, feature_min=1, feature_max=1,
                           clean_start=True, online_directories=[topic])),
        (4, karst_rpc.make("BrokerChangeRecord", node_id=1, broker_epoch=3, state=1)),
        (5, karst_rpc.make("TopicRecord", topic_id=topic, name="t", request_id=broker)),
        (7, karst_rpc.make("PartitionRecord", topic_id=topic, index=0, replicas=[1], isr=[1],
                           leader=1, leader_epoch=0, partition_epoch=0)),
    ]
    rows = [struct.pack(">BH", kind, record.ByteSize()) + record.SerializeToString()
            for kind, record in life]
    write("metadata", "rows", b"".join(rows))
    write("metadata", "rows-broker", rows[0] + rows[2])
    types = karst_rpc.message_class("MetadataRecord").DESCRIPTOR.file.enum_types_by_name
    for value in types["RecordType"].values:
        words = value.name.split("_")[1:]
        name = "".join(word.capitalize() for word in words) + "Record"
        packed = fill(karst_rpc.make(name)).SerializeToString()
        write("metadata", name, rows[0] + struct.pack(">BH", value.number, len(packed)) + packed)


BROKER_EPOCHS = (2, 4)  # the offsets of the entries that register them
REGISTER, HEARTBEAT, ALTER, ALLOCATE, CREATE, DELETE, ELECT, PROBE = range(8)


def controller():
    """Requests of fuzz_controller.c: two brokers register, and topics live and die."""
    cluster, topic, boot = b"0123456789abcdef", b"topicid000000001", b"boot000000000000"
    epochs = {1: BROKER_EPOCHS[0], 2: BROKER_EPOCHS[1]}

    def request(method, name, **fields):
        packed = karst_rpc.make(name, **fields).SerializeToString()
        return struct.pack(">BH", method, len(packed)) + packed

    def register(node):
        return request(REGISTER, "RegisterBrokerRequest", cluster_id=cluster, node_id=node,
                       incarnation=b"incarnation%05d" % node, boot_id=boot, clean_start=True,
                       listeners=[karst_rpc.make("Listener", name="RPC", host="h", port=9091)],
                       online_directories=[b"directory%07d" % node])

    def heartbeat(node, **fields):
        return request(HEARTBEAT, "HeartbeatRequest", node_id=node, broker_epoch=epochs[node],
                       metadata_offset=100, **fields)

    def alter(isr):
        members = [karst_rpc.make("IsrMember", node_id=n, broker_epoch=epochs[n]) for n in isr]
        item = karst_rpc.make("AlterPartitionItem", topic_id=topic, index=0, leader_epoch=0,
                              partition_epoch=0, isr=members)
        return request(ALTER, "AlterPartitionRequest", node_id=1, broker_epoch=epochs[1],
                       partitions=[item])

    write("controller", "one", register(1) + heartbeat(1) + request(
        CREATE, "CreateTopicsRequest", timeout_ms=1, topics=[karst_rpc.make(
            "CreateTopic", name="t", partitions=2, replication_factor=1)]))
    brokers = register(1) + heartbeat(1) + register(2) + heartbeat(2)
    create = request(CREATE, "CreateTopicsRequest", timeout_ms=1, topics=[karst_rpc.make(
        "CreateTopic", name="t", partitions=2, replication_factor=2, topic_id=topic)])
    write("controller", "create", brokers + create)
    write("controller", "alter", brokers + create + alter([1]) + alter([1, 2]))
    write("controller", "leave", brokers + create + heartbeat(1, want_shutdown=True) +
          heartbeat(2, failed_directories=[b"directory0000002"]) + register(1) +
          request(ELECT, "ElectLeadersRequest", unclean=True, partitions=[
              karst_rpc.make("ElectPartition", topic_id=topic, index=0)]))
    write("controller", "delete", brokers + create + request(
        DELETE, "DeleteTopicsRequest", timeout_ms=1,
        topics=[karst_rpc.make("DeleteTopic", name="t")]) + create +
        request(ALLOCATE, "AllocateProducerIdsRequest", node_id=1, broker_epoch=epochs[1]) +
        request(PROBE, "ProbeRequest"))


def raft_message(kind, **fields):
    message = karst_rpc.make("RaftMessage", type=kind, to=2, **{"from": 1, "term": 5, **fields})
    packed = message.SerializeToString()
    return struct.pack(">H", len(packed)) + packed


def configuration(*members):
    data = struct.pack("<BQ", 1, len(members))
    for node, address, role in members:
        data += struct.pack("<Q", node) + address.encode() + b"\0" + bytes([role])
    return data + b"\0" * (-len(data) % 8)


MEMBERS = configuration((1, "a:9091", VOTER), (2, "b:9091", STANDBY))
CHANGED = configuration((1, "a:9091", VOTER), (3, "[::1]:9091/DTfaMVpJRq-2upslt-zguw", VOTER))


def raft():
    entries = [karst_rpc.make("RaftEntry", term=3, type=1, data=b"\0\0\0\4abcd"),
               karst_rpc.make("RaftEntry", term=4, type=3, data=MEMBERS),
               karst_rpc.make("RaftEntry", term=5, type=2, data=b"\0" * 8)]
    servers = [karst_rpc.make("RaftServer", node_id=0, address="a:9091", role=VOTER),
               karst_rpc.make("RaftServer", node_id=1, address="b:9091", role=STANDBY)]
    write("raft", "append", raft_message(APPEND, prev_log_index=7, prev_log_term=2,
                                         leader_commit=6, entries=entries))
    write("raft", "changed", raft_message(APPEND, prev_log_index=7, prev_log_term=2, entries=[
        karst_rpc.make("RaftEntry", term=5, type=3, data=CHANGED)]))
    write("raft", "results", raft_message(APPENDED, rejected=0, last_log_index=9) +
          raft_message(VOTED, vote_granted=True, pre_vote_result=1) +
          raft_message(TIMEOUT_NOW, last_log_index=9, last_log_term=4))
    write("raft", "vote", raft_message(VOTE, last_log_index=9, last_log_term=4, pre_vote=True,
                                       disrupt_leader=False))
    whole = {"snapshot_index": 9, "snapshot_term": 4, "configuration_index": 2, "servers": servers,
             "piece_at": 0}
    write("raft", "snapshot", raft_message(INSTALL, snapshot_bytes=5, piece=b"image", **whole))
    write("raft", "snapshots", raft_message(INSTALL, snapshot_bytes=5, piece=b"im", **whole) +
          raft_message(INSTALL, snapshot_bytes=4, piece=b"imag", **{**whole, "term": 6}))


def quorum():
    def varint(field, value):
        return bytes([field << 3, value])

    def text(field, value):
        return bytes([field << 3 | 2, len(value)]) + value

    head = (varint(1, 9) + varint(2, 3) + text(3, b"0123456789abcdef") + varint(4, 1) +
            text(5, varint(1, 1) + text(2, b"a:1") + varint(3, VOTER)) + varint(6, 5))
    write("quorum", "snapshot", b"\0" + struct.pack(">III", 0x4B534E50, 1, len(head)) + head +
          b"image" + b"\0" * 4)
    key = struct.pack(">BQQHQ", 1, 9, 3, 1, 8)
    write("quorum", "entry-command", b"\1" + key + b"\0\0\0\4abcd")
    write("quorum", "entry-change", b"\1" + key[:17] + b"\0\3" + key[19:] + MEMBERS)
    write("quorum", "entry-changed", b"\1" + key[:17] + b"\0\3" + key[19:] + CHANGED)


def store():
    for which, name in enumerate(["vote", "segment", "checkpoint", "epochs", "snapshot"]):
        write("store", f"wound-{name}", bytes([which, 0, 0, 20]) + b"wound")
        write("store", f"cut-{name}", bytes([which, 0, 0, 30]))
        write("store", f"dense-{name}", bytes([which, 0x80, 0, 50]) + b"wound")
    write("store", "vote-sealed", bytes([0, 1, 0, 8]) + struct.pack(">QQQ", 9, 7, 1))
    write("store", "vote-newest-sealed", bytes([0, 1, 16, 8]) + struct.pack(">QQQ", 9, 7, 1))


def log():
    names = ["checkpoint", "epochs", "metadata", "segment", "index", "manifest", "meta", "marker"]
    for which, name in enumerate(names):
        for flags in 0x80, 0x81:
            write("log", f"dense-{name}-{flags:x}", bytes([which, flags, 0, 12]) + b"\7")


def options():
    write("options", "least", b"node.id = 7\nlog.dirs = /data/a,/data/b\n")
    write("options", "forms", b"# all forms\n\nnode.id=1  \r\n\tlog.dirs =  /d\n"
          b"min.insync.replicas = 2\nlog.flush.before.ack = false\n"
          b"broker.heartbeat.interval.ms = 100\nlog.level = info")
    write("options", "wrong", b"node.id = 99999999999999999999\nmin.insync.replica = x\n=\n")


def producers():
    batch = struct.pack(">IIQQ", 0, 1, 2, 4)
    body = struct.pack(">IIIQB", 0x4B505253, 1, 2, 9, 1)
    body += struct.pack(">QHBQ", 4, 0, 1, 1) + batch
    body += struct.pack(">QHBQ", 5, 1, 2, 7) + batch + struct.pack(">IIQQ", 2, 2, 4, 5)
    write("producers", "two", b"\x0a" + body + b"\0" * 4)
    body = struct.pack(">IIIQB", 0x4B505253, 1, 1, 9, 1) + struct.pack(">QHBQ", 4, 0, 5, 7)
    for nth in range(5):
        body += struct.pack(">IIQQ", nth, nth, nth, nth + 1)
    write("producers", "full", b"\x0a" + body + b"\0" * 4)


if __name__ == "__main__":
    for make in (messages, metadata, controller, raft, quorum, store, log, options, producers):
        make()
