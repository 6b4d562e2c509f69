"""A load of idempotent producers and of consumers, and what must be true of it after any fault.

Each record says who sent it and is made from its number alone, so that it can be known again:
no acknowledged record is lost, changed, doubled or out of order, what a consumer reads never goes
back, and the logs of all replicas are the same bytes.
"""
import array
import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import threading
import time
import zlib

from chaos_timeline import Timeline
from karst_cluster import KARST, wait_until

TOPIC = "load"
PRODUCER = 10 ** 12  # record number = producer * PRODUCER + its own count
LATE_SECONDS = 60    # for what was sent to be acknowledged, once all is healed
BATCH = struct.Struct(">qiibIhiqqqhii")  # the header of a record batch, format v2


def value_of(number):
    """20 to 280 bytes that follow from the number."""
    digest = b"%08x" % zlib.crc32(b"%d" % number)
    return b"%d " % number + digest * (1 + number * 7919 % 32)


class Process:
    """karst ARGUMENTS, its JSON lines given to row() by a thread."""

    def __init__(self, cluster, *arguments, stdin=subprocess.DEVNULL):
        self.process = subprocess.Popen([KARST, *arguments], env=cluster.environment(), stdin=stdin,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.row(json.loads(line))

    def row(self, row):
        raise NotImplementedError

    def running(self):
        return self.process.poll() is None

    def end(self, seconds):
        """Its exit code and what it said on standard error."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = "still running"
        self.abandon()
        return code, self.process.stderr.read().decode()

    def abandon(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()


class Producer(Process):
    def __init__(self, cluster, number, rate):
        self.number, self.rate = number, rate
        self.sent = 0
        self.acked = array.array("q")  # sequence, partition, offset, ns: four for each
        self.errors = []
        self.stopping = threading.Event()
        super().__init__(cluster, "produce", TOPIC, "--verifiable", "--client-config",
                         "linger.ms=2", stdin=subprocess.PIPE)
        self.feeder = threading.Thread(target=self.feed)
        self.feeder.start()

    def feed(self):
        try:
            began = time.monotonic()
            while not self.stopping.wait(0.01):
                due = int((time.monotonic() - began) * self.rate)
                due = min(due, self.sent + self.rate)  # a second's at once, after a pause
                if due > self.sent:
                    base = self.number * PRODUCER
                    self.process.stdin.write(b"".join(value_of(base + i) + b"\n"
                                                      for i in range(self.sent, due)))
                    self.process.stdin.flush()
                    self.sent = due
            self.process.stdin.close()
        except (BrokenPipeError, ValueError):
            pass  # it has ended, which its exit code tells

    def row(self, row):
        if "error" in row:
            self.errors.append((row["sequence"], row["error"]))
        else:
            self.acked.extend((row["sequence"], row["partition"], row["offset"], row["ns"]))

    def acknowledgements(self):
        for i in range(0, len(self.acked) // 4 * 4, 4):
            yield self.acked[i:i + 4]

    def stop(self):
        self.stopping.set()
        self.feeder.join()

    def abandon(self):
        self.stopping.set()
        super().abandon()
        self.feeder.join()


class Consumer(Process):
    """All partitions from the beginning, as the records come."""

    def __init__(self, cluster, partitions):
        self.read_numbers = [array.array("q") for _ in range(partitions)]  # [offset]
        self.broken = None
        super().__init__(cluster, "consume", TOPIC, "--from-beginning", "--verifiable")

    def row(self, row):
        numbers = self.read_numbers[row["partition"]]
        if row["offset"] != len(numbers) and self.broken is None:
            self.broken = (f"after offset {len(numbers) - 1} of {row['partition']} came "
                           f"{row['offset']}")
        numbers.append(row["sequence"])

    def ends(self):
        return [len(numbers) for numbers in self.read_numbers]


class Load:
    """with Load(cluster, NAME) as load: faults, then load.check(). Marks go to load.timeline."""

    def __init__(self, cluster, name, partitions=4, producers=3, consumers=2, rate=400,
                 may_fail=False):
        self.cluster, self.partitions, self.may_fail = cluster, partitions, may_fail
        self.nodes = range(1, cluster.brokers + 1)
        self.seed = int(os.environ.get("CHAOS_SEED", random.randrange(1 << 32)))
        print(f"CHAOS_SEED={self.seed}", flush=True)
        self.random = random.Random(self.seed)
        self.timeline = Timeline(cluster, f"{name}, seed {self.seed}")
        self.name = name
        cluster.create_topic(TOPIC, partitions=partitions, configs=["min.insync.replicas=2"])
        cluster.wait_in_sync(TOPIC)
        self.producers = [Producer(cluster, i + 1, rate) for i in range(producers)]
        self.consumers = [Consumer(cluster, partitions) for _ in range(consumers)]
        self.figures = {}

    def __enter__(self):
        try:
            self.wait_for_acks()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind, error, _):
        if kind is not None:
            print(self.cluster.run("topic", "describe", TOPIC).stdout.decode(), flush=True)
        for one in self.producers + self.consumers:
            one.abandon()
        verdict = "all promises kept" if kind is None else f"{kind.__name__}: {error}"
        self.timeline.draw(self.name, self.producers, verdict)

    # ---- while it runs ----

    def acked(self):
        return sum(len(p.acked) for p in self.producers) // 4

    def still_runs(self):
        """No client ends before it is told to; brokers only as the fault at hand has it."""
        for one in self.producers + self.consumers:
            assert one.running(), f"a client ended: {one.end(1)}"

    def wait_for_acks(self, partitions=None):
        """New acknowledgements in each of the partitions (all)."""
        missing = set(range(self.partitions) if partitions is None else partitions)
        seen = [len(p.acked) // 4 * 4 for p in self.producers]

        def come():
            self.still_runs()
            for i, producer in enumerate(self.producers):
                end = len(producer.acked) // 4 * 4
                missing.difference_update(producer.acked[seen[i] + 1:end:4])
                seen[i] = end
            return not missing
        wait_until(come, f"acknowledgements in partitions {missing}")

    def fault(self, what):
        return self.timeline.fault(what)

    # ---- at the end ----

    def check(self):
        """All is healed: everything must be in sync soon, and every promise kept."""
        self.still_runs()
        for node in self.nodes:
            assert self.cluster.pid(node), f"broker {node} ended: {self.cluster.log(node)[-1000:]}"
        began = time.monotonic()
        self.cluster.wait_in_sync(TOPIC)
        self.figures["in sync s"] = time.monotonic() - began
        self.wait_for_acks()
        for producer in self.producers:
            producer.stop()
        self.end_producers()
        log = [self.read(p) for p in range(self.partitions)]
        self.check_log(log)
        self.check_consumers(log)
        self.check_replicas([len(numbers) for numbers in log])
        self.timeline.find_gaps(self.producers)
        self.figures.update(self.timeline.figures())

    def end_producers(self):
        for producer in self.producers:
            code, said = producer.end(LATE_SECONDS)
            if not self.may_fail:
                assert code == 0 and not producer.errors, f"{code}: {said} {producer.errors[:3]}"
            told = sorted([a[0] for a in producer.acknowledgements()] +
                          [sequence for sequence, _ in producer.errors])
            assert told == list(range(producer.sent)), "each record's fate is told once"

    def read(self, partition):
        """The record numbers, by offset; each record is what was sent under its number."""
        out = self.cluster.karst("consume", TOPIC, "--partition", str(partition),
                                 "--from-beginning", "--exit-at-end", "--json")
        numbers = []
        for offset, line in enumerate(out.splitlines()):
            row = json.loads(line)
            number = int(row["value"].split(" ")[0])
            where = f"{partition}:{offset}"
            assert row["offset"] == offset, f"offset {row['offset']} stands at {where}"
            assert row["value"].encode() == value_of(number), f"{where} is changed: {row}"
            numbers.append(number)
        return numbers

    def check_log(self, log):
        seen = set()
        for partition, numbers in enumerate(log):
            last = {}
            for offset, number in enumerate(numbers):
                who, sequence = divmod(number, PRODUCER)
                where = f"{partition}:{offset}: record {sequence} of producer {who}"
                assert 1 <= who <= len(self.producers), f"{where}: nobody sent it"
                assert sequence < self.producers[who - 1].sent, f"{where}: nobody sent it"
                assert number not in seen, f"{where} is there twice"
                assert sequence > last.get(who, -1), f"{where} comes after {last[who]}"
                seen.add(number)
                last[who] = sequence
        for producer in self.producers:
            for sequence, partition, offset, _ in producer.acknowledgements():
                number, numbers = producer.number * PRODUCER + sequence, log[partition]
                assert offset < len(numbers) and numbers[offset] == number, (
                    f"record {sequence} of producer {producer.number}, acknowledged at "
                    f"{partition}:{offset}, is {'elsewhere' if number in seen else 'lost'}; the "
                    f"log ends at {len(numbers)}")

    def check_consumers(self, log):
        ends = [len(numbers) for numbers in log]
        for consumer in self.consumers:
            wait_until(lambda c=consumer: c.ends() == ends or c.broken or not c.running(),
                       f"a consumer at {consumer.ends()} of {ends}")
            assert consumer.broken is None, consumer.broken
            consumer.process.send_signal(signal.SIGTERM)
            code, said = consumer.end(10)
            assert code == 0, f"a consumer ended with {code}: {said}"
            for partition, numbers in enumerate(consumer.read_numbers):
                other = [i for i, (a, b) in enumerate(zip(numbers, log[partition])) if a != b]
                assert not other, f"a consumer read something else at {partition}:{other[0]}"

    def check_replicas(self, ends):
        described = self.cluster.json("topic", "describe", TOPIC)[0]["partitions"]
        for partition, end in enumerate(ends):
            logs = {}
            for node in described[partition]["replicas"]:
                folder = self.cluster.log_folder(node, f"{TOPIC}-{partition}")
                logs[node] = replica_batches(folder, end)
            one, first = next(iter(logs.items()))
            for node, batches in logs.items():
                where = f"{TOPIC}-{partition} of brokers {one} and {node}"
                for mine, other in zip(first, batches):
                    assert mine == other, f"{where}: {mine} and {other}"
                assert len(first) == len(batches), f"{where}: {len(first)}, {len(batches)} batches"


def replica_batches(folder, end):
    """(base offset, next offset, epoch, digest of all its bytes) of each batch below the end. They
    follow each other without a hole, and the log reaches the end."""
    batches, offset, epoch = [], None, -1
    for name in sorted(n for n in os.listdir(folder) if n.endswith(".log")):
        with open(os.path.join(folder, name), "rb") as file:
            data = file.read()
        at = 0
        while at + BATCH.size <= len(data):
            base, size, leader_epoch, magic, _, _, delta, *_ = BATCH.unpack_from(data, at)
            if size == 0 or base >= end:
                break
            assert magic == 2 and at + 12 + size <= len(data), f"{folder}/{name}: no batch at {at}"
            assert offset in (None, base), f"{folder}/{name}: offset {base} follows {offset}"
            assert leader_epoch >= epoch, f"{folder}/{name}: epoch {leader_epoch} follows {epoch}"
            offset, epoch = base + delta + 1, leader_epoch
            digest = hashlib.blake2b(data[at:at + 12 + size], digest_size=8).hexdigest()
            batches.append((base, offset, epoch, digest))
            at += 12 + size
    assert (offset or 0) >= end, f"{folder} ends at {offset}, below the high watermark {end}"
    return batches
