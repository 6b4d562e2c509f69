"""Karst's RPC by hand, to say what no client would: frames over a plain socket."""
import os
import socket
import struct
import subprocess
import tempfile

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HELLO, REQUEST, REPLY, ERROR, ONEWAY = 1, 2, 3, 4, 5
METHODS = {"Produce": 256, "Fetch": 257, "ListOffsets": 258, "Metadata": 259, "ReplicaFetch": 512,
           "CreateTopics": 1024, "DeleteTopics": 1025}


def load_messages():
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "set")
        proto = os.path.join(ROOT, "proto")
        subprocess.run(["protoc-c", f"--descriptor_set_out={out}", f"--proto_path={proto}",
                        f"--c_out={folder}", os.path.join(proto, "metadata.proto"),
                        os.path.join(proto, "rpc.proto")], check=True)
        with open(out, "rb") as file:
            files = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    factory = message_factory.MessageFactory(pool)

    def message(name):
        return factory.GetPrototype(pool.FindMessageTypeByName(f"karst.{name}"))
    return message


message_class = load_messages()


def make(name, /, **fields):
    return message_class(name)(**fields)


def frame(kind, method, correlation, message=b"", attachment=b""):
    body = struct.pack(">BBHII", kind, 1, method, correlation, len(message)) + message + attachment
    return struct.pack(">I", len(body)) + body


class Connection:
    def __init__(self, address, hello=True):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        if hello:
            self.hello()

    def hello(self, **fields):
        fields = {"magic": 0x4B525354, "version": 1, **fields}
        self.send(frame(HELLO, 0, 0, make("Hello", **fields).SerializeToString()))
        return self.receive()

    def send(self, data):
        self.socket.sendall(data)

    def read(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise EOFError(f"closed after {len(data)} of {count} bytes")
            data += part
        return data

    def receive(self):
        """(kind, method, correlation, message, attachment)"""
        body = self.read(struct.unpack(">I", self.read(4))[0])
        kind, _, method, correlation, size = struct.unpack(">BBHII", body[:12])
        return kind, method, correlation, body[12:12 + size], body[12 + size:]

    def call(self, method, request, attachment=b"", reply=None):
        self.send(frame(REQUEST, METHODS[method], 7, request.SerializeToString(), attachment))
        kind, _, correlation, message, rest = self.receive()
        assert correlation == 7
        if kind == ERROR:
            return message_class("Error").FromString(message), rest
        assert kind == REPLY
        return message_class(reply or method + "Reply").FromString(message), rest

    def closed(self):
        """True once the broker has closed the connection."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True

    def close(self):
        self.socket.close()


def crc32c(data):
    table = []
    for i in range(256):
        for _ in range(8):
            i = (i >> 1) ^ (0x82F63B78 if i & 1 else 0)
        table.append(i)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def varint(value):
    value = (value << 1) ^ (value >> 63)
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def batch(values, count=None, crc=None):
    """A record batch of format v2; count and crc may lie."""
    records = b""
    for i, value in enumerate(values):
        body = b"\0" + varint(0) + varint(i) + varint(-1) + varint(len(value)) + value + varint(0)
        records += varint(len(body)) + body
    count = len(values) if count is None else count
    tail = struct.pack(">hiqqqhii", 0, count - 1, 1000, 1000, -1, -1, -1, count) + records
    crc = crc32c(tail) if crc is None else crc
    rest = struct.pack(">ibI", -1, 2, crc) + tail
    return struct.pack(">qi", 0, len(rest)) + rest
