"""Clients that mean harm, each kind a process of its own:

  /usr/bin/python3 tests/lib/chaos_hostile.py KIND HOST:PORT COUNT

drip     COUNT connections, each with a byte a second of a large frame
deaf     COUNT connections that ask for records again and again and read no answer
mute     COUNT that ask for the metadata of the topic "wide", and read no answer either
storm    connections that are closed at once, half of them without a hello, one after another
garbage  connections that bring random bytes, half of them after a hello
wide     COUNT connections with requests for all partitions of the topic "wide" at once: fetches
         that wait, offsets, metadata, records. They read the answers and ask again
wait     the same with fetches that wait only
They go on until they are killed. deaf wants records in the topic "t".
"""
import itertools
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time

import karst_rpc as rpc

LARGE = 1 << 20
IN_FLIGHT = 4  # requests of a wide connection
PACE_SECONDS = 0.0005  # between two connections: the broker's work is to be measured, not ours


def hello_frame():
    return rpc.frame(rpc.HELLO, 0, 0,
                     rpc.make("Hello", magic=0x4B525354, version=1).SerializeToString())


def connect(address, hello=True, receive_bytes=0):
    """A socket that does not block, or None: refused for now."""
    host, port = address.rsplit(":", 1)
    one = socket.socket()
    if receive_bytes:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    try:
        one.settimeout(5)
        one.connect((host, int(port)))
        one.setblocking(False)
        if hello:
            one.send(hello_frame())
        return one
    except OSError:
        one.close()
        return None


def reset(one):
    """Without a trace at this end, so that ports do not run out."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


def keep(address, connections, count, **arguments):
    """As many as wanted again, a few at a time; returns the new ones."""
    new = []
    while len(connections) < count and len(new) < 20:
        one = connect(address, **arguments)
        if one is None:
            break
        connections.append(one)
        new.append(one)
    return new


def drop(connections, one):
    connections.remove(one)
    one.close()


def drip(address, count):
    connections = []
    while True:
        for one in keep(address, connections, count):
            one.send(struct.pack(">I", LARGE))
        for one in list(connections):
            try:
                one.send(b"\1")
            except OSError:
                drop(connections, one)
        time.sleep(1 if len(connections) == count else 0.01)


def metadata_of(address, topic):
    connection = rpc.Connection(address)
    reply, _ = connection.call("Metadata", rpc.make("MetadataRequest", topics=[topic]))
    connection.close()
    return reply.topics[0].topic_id, len(reply.topics[0].partitions)


def fetch(rows, wait_ms=0):
    return rpc.make("FetchRequest", wait_ms_max=wait_ms, bytes_min=1, bytes_max=LARGE,
                    partitions=rows).SerializeToString()


def deaf(address, count):
    topic, _ = metadata_of(address, "t")
    ask_in_vain(address, count, "Fetch", fetch([{"topic_id": topic, "index": 0, "offset": 0,
                                                 "bytes_max": LARGE}]))


def mute(address, count):
    ask_in_vain(address, count, "Metadata",
                rpc.make("MetadataRequest", topics=["wide"]).SerializeToString())


def ask_in_vain(address, count, method, request):
    connections = []
    for correlation in itertools.count():
        keep(address, connections, count, receive_bytes=4096)
        asked = rpc.frame(rpc.REQUEST, rpc.METHODS[method], correlation & 0xFFFFFF, request)
        for one in list(connections):
            try:
                one.send(asked)
            except BlockingIOError:
                pass  # its requests wait in its socket
            except OSError:
                drop(connections, one)
        time.sleep(0.02)


def storm(address, _count):
    for i in itertools.count():
        one = connect(address, hello=i % 2 == 0)
        if one is not None:
            reset(one)
        time.sleep(PACE_SECONDS)


def garbage(address, _count):
    chance = random.Random(1)
    for i in itertools.count():
        one = connect(address, hello=i % 2 == 0)
        if one is None:
            continue
        data = bytearray(rpc.frame(chance.randrange(8), chance.randrange(1400), 1,
                                   chance.randbytes(200)))
        for _ in range(chance.randrange(6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            one.send(data)
        except OSError:
            pass
        reset(one)
        time.sleep(PACE_SECONDS)


def wide_requests(address):
    topic, partitions = metadata_of(address, "wide")
    rows = [{"topic_id": topic, "index": i} for i in range(partitions)]
    data = rpc.batch([b"x" * 50])
    return [
        ("Fetch", fetch([{**row, "offset": 0, "bytes_max": LARGE} for row in rows], 30000), b""),
        ("ListOffsets", rpc.make("ListOffsetsRequest", partitions=[
            {**row, "timestamp": -1} for row in rows]).SerializeToString(), b""),
        ("Metadata", rpc.make("MetadataRequest", topics=["wide"]).SerializeToString(), b""),
        ("Produce", rpc.make("ProduceRequest", acks=-1, timeout_ms=5000, partitions=[
            {**row, "bytes": len(data)} for row in rows[:200]]).SerializeToString(), data * 200),
    ]


class Asker:
    """A connection that asks for everything, all the time."""

    def __init__(self, connection, requests):
        self.connection, self.requests = connection, requests
        self.out, self.asked, self.head, self.left = b"", 0, b"", 0
        for _ in range(IN_FLIGHT):
            self.ask()

    def ask(self):
        method, message, attachment = self.requests[self.asked % len(self.requests)]
        self.out += rpc.frame(rpc.REQUEST, rpc.METHODS[method], self.asked, message, attachment)
        self.asked += 1

    def write(self):
        self.out = self.out[self.connection.send(self.out):]

    def read(self):
        """An answer for each frame that ends in what has come."""
        data = self.connection.recv(1 << 18)
        if not data:
            raise ConnectionResetError
        at = 0
        while at < len(data):
            if self.left == 0:
                need = 4 - len(self.head)
                self.head += data[at:at + need]
                at += need
                if len(self.head) < 4:
                    return
                self.left, self.head = struct.unpack(">I", self.head)[0], b""
            take = min(self.left, len(data) - at)
            self.left, at = self.left - take, at + take
            if self.left == 0:
                self.ask()


def wait(address, count):
    wide(address, count, 1)


def wide(address, count, kinds=4):
    requests = wide_requests(address)[:kinds]
    askers, connections = {}, []
    poll = select.poll()
    while True:
        for one in keep(address, connections, count):
            askers[one.fileno()] = Asker(one, requests)
            poll.register(one, select.POLLIN | select.POLLOUT)
        for number, what in poll.poll(100):
            asker = askers[number]
            try:
                if what & select.POLLOUT and asker.out:
                    asker.write()
                if what & (select.POLLIN | select.POLLHUP | select.POLLERR):
                    asker.read()
            except BlockingIOError:
                pass
            except OSError:
                poll.unregister(number)
                del askers[number]
                drop(connections, asker.connection)
                continue
            poll.modify(number, select.POLLIN | (select.POLLOUT if asker.out else 0))


KINDS = {"drip": drip, "deaf": deaf, "mute": mute, "storm": storm, "garbage": garbage, "wide": wide,
         "wait": wait}


class Attack:
    """with Attack(address, kind, count): ..."""

    def __init__(self, address, kind, count):
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(["/usr/bin/python3", os.path.abspath(__file__), kind,
                                         address, str(count)], stdin=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        running = self.process.poll() is None
        self.process.kill()
        self.process.wait()
        assert running, f"the attack ended by itself: {self.process.returncode}"


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    KINDS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
