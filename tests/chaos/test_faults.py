"""Brokers that die, stop and stand still under a load of several idempotent producers and
consumers; chaos_checker.py says what must be true then. CHAOS_ROUNDS=50 for more rounds, CHAOS_SEED
for the same choices."""
import os
import signal
import time

import chaos_faults as faults
from chaos_checker import TOPIC
from karst_cluster import wait_until
from karst_rpc import ERROR, METHODS, REQUEST, Connection, batch, frame, make, message_class

SESSION_SECONDS = 2  # broker.session.timeout.ms, as it comes


def test_kill_leader_and_controller_in_one(chaos_load):
    with chaos_load() as load:
        for _ in faults.rounds(2):
            faults.kill_controller(load)
            faults.in_sync(load)
        load.check()


def test_kill_in_a_loop(chaos_load):
    """No waiting until all is in sync: the next ones die while the last ones come back."""
    with chaos_load() as load:
        for i in faults.rounds(3):
            if i % 5 == 4:
                faults.kill(load, 1, 2, 3, down=load.random.random())
            elif load.random.random() < 0.3:
                two = load.random.sample((1, 2, 3), 2)
                faults.kill(load, *two)
            else:
                faults.kill(load, load.random.choice((1, 2, 3)), down=load.random.random())
        load.check()


def test_rolling_restart(chaos_load):
    """No client sees an error."""
    with chaos_load() as load:
        for _ in faults.rounds(1):
            for node in (1, 2, 3):
                faults.restart(load, node)
                faults.in_sync(load)
        load.check()
        assert load.figures["longest gap ms"] < 3000, load.timeline.gaps[:3]


def stands_still(pid):
    """All its threads, which takes a moment on a busy machine: until then it is no zombie."""
    states = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/stat", encoding="utf-8") as file:
            states.append(file.read().rpartition(")")[2].split()[0])
    return set(states) == {"T"}


class Zombie:
    """Requests that wait in a paused broker's socket, of a client that believes it leads."""

    @staticmethod
    def of_a_leader(load):
        """None: who led a moment ago leads no more."""
        zombie = Zombie(load, load.cluster.leader(TOPIC, 0), 0)
        zombie.ask_to_read()
        return zombie if dict(zombie.answers()) == {"fetch": 0, "latest": 0} else None

    def __init__(self, load, node, partition):
        self.node = node
        self.connection = Connection(load.cluster.address(node))
        metadata, _ = self.connection.call("Metadata", make("MetadataRequest", topics=[TOPIC]))
        self.row = {"topic_id": metadata.topics[0].topic_id, "index": partition}
        self.asked, self.count = {}, 0

    def ask(self, method, name, attachment=b"", row=None, **fields):
        correlation = self.count = self.count + 1
        self.asked[correlation] = (name, method)
        request = make(f"{method}Request", partitions=[{**self.row, **(row or {})}], **fields)
        self.connection.send(frame(REQUEST, METHODS[method], correlation,
                                   request.SerializeToString(), attachment))

    def ask_to_write(self):
        data = batch([b"from the dead"])
        for name, acks in (("acks=all", -1), ("acks=1", 1)):
            self.ask("Produce", name, data, row={"bytes": len(data)}, acks=acks, timeout_ms=5000)

    def ask_to_read(self):
        self.ask("Fetch", "fetch", row={"offset": 0, "bytes_max": 1 << 20}, wait_ms_max=0,
                 bytes_min=1, bytes_max=1 << 20)
        self.ask("ListOffsets", "latest", row={"timestamp": -1})

    def answers(self):
        """(what was asked, error code) of each answer; a closed connection answers nothing more."""
        self.connection.socket.settimeout(10)
        while self.asked:
            try:
                kind, _, correlation, message, _ = self.connection.receive()
            except (EOFError, ConnectionError):
                return
            name, method = self.asked.pop(correlation)
            if kind == ERROR:
                yield name, message_class("Error").FromString(message).code
            else:
                reply = message_class(f"{method}Reply").FromString(message)
                yield name, reply.partitions[0].error


def test_a_zombie_acknowledges_and_answers_nothing(chaos_load):
    """SIGSTOP longer than its session. It wakes with requests in its sockets: its lease has ended,
    and it leads no more. Nor is a record from the dead in the log: check() knows who sent what."""
    with chaos_load() as load:
        for _ in faults.rounds(1):
            zombie = wait_until(lambda: Zombie.of_a_leader(load), "a leader that serves")
            node = zombie.node
            with load.fault(f"SIGSTOP {node}"):
                load.cluster.signal(node, signal.SIGSTOP)
                wait_until(lambda dead=node: stands_still(load.cluster.pid(dead)), "a pause")
                paused = time.monotonic()
                zombie.ask_to_write()
                zombie.ask_to_read()
                wait_until(lambda dead=node: load.cluster.leader(TOPIC, 0) != dead,
                           "another leader")
                load.wait_for_acks()
                faults.stay(max(0, paused + SESSION_SECONDS * 1.2 - time.monotonic()))
                load.cluster.signal(node, signal.SIGCONT)
                answers = dict(zombie.answers())
            assert 0 not in answers.values(), f"broker {node} served after its lease: {answers}"
            load.figures["answers of the dead"] = ", ".join(f"{k}: {v}" for k, v in answers.items())
            zombie.connection.close()
            faults.in_sync(load)
        load.check()
