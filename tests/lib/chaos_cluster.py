"""Clusters whose network and disks can be broken: brokers in network namespaces, small disks.

A namespace has no name: it is held by descriptors of this process and by the brokers in it, and is
gone with them, however the test ends. Mounts are taken away by down().
"""
import contextlib
import ctypes
import os
import subprocess
import threading

from chaos_io_errors import IoErrors
from karst_cluster import Cluster, KARST, KARSTD, deploy_module, wait_until

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
MIB = 1 << 20


def checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def command(*words, stdin=None, **arguments):
    done = subprocess.run(words, input=stdin, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False, **arguments)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def this_namespace():
    return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)


class Network:
    """A bridge with a namespace for each broker. The thread that makes it lives on the bridge, with
    all processes and threads that it starts, until close()."""

    def __init__(self, nodes):
        self.home = this_namespace()
        checked(libc.unshare(CLONE_NEWNET))
        self.hub = this_namespace()
        self.inside = {}
        self.blocked = set()  # (from, to); 0: the clients
        self.loss = 0         # percent of what a broker gets
        command("ip", "link", "set", "lo", "up")
        command("ip", "link", "add", "bridge", "type", "bridge")
        command("ip", "address", "add", f"{self.address(0)}/24", "dev", "bridge")
        command("ip", "link", "set", "bridge", "up")
        for node in nodes:
            self.add(node)

    @staticmethod
    def address(node):
        return f"10.77.0.{node or 254}"

    def add(self, node):
        checked(libc.unshare(CLONE_NEWNET))
        self.inside[node] = this_namespace()
        command("ip", "link", "set", "lo", "up")
        hub = f"/proc/{os.getpid()}/fd/{self.hub}"
        command("ip", "link", "add", "eth0", "type", "veth", "peer", "name", f"node{node}",
                "netns", hub)
        command("ip", "address", "add", f"{self.address(node)}/24", "dev", "eth0")
        command("ip", "link", "set", "eth0", "up")
        command("nft", "-f", "-", stdin="add table ip chaos\n"
                "add chain ip chaos in { type filter hook input priority 0; }\n")
        checked(libc.setns(self.hub, CLONE_NEWNET))
        command("ip", "link", "set", f"node{node}", "master", "bridge", "up")

    @contextlib.contextmanager
    def at(self, node):
        """What this thread starts meanwhile is there."""
        checked(libc.setns(self.inside[node], CLONE_NEWNET))
        try:
            yield
        finally:
            checked(libc.setns(self.hub, CLONE_NEWNET))

    def apply(self):
        """A receiver drops without a word what is blocked: the sender learns nothing."""
        for node in self.inside:
            rules = ["flush chain ip chaos in"]
            rules += [f"add rule ip chaos in ip saddr {self.address(sender)} drop"
                      for sender, to in sorted(self.blocked) if to == node]
            if self.loss:
                rules.append("add rule ip chaos in iif eth0 numgen random mod 100 "
                             f"lt {self.loss} drop")
            with self.at(node):
                command("nft", "-f", "-", stdin="\n".join(rules) + "\n")

    def cut(self, *pairs):
        self.blocked |= set(pairs)
        self.apply()

    def isolate(self, node, also=()):
        """From the other brokers, both ways, and from whom `also` names (0: the clients, who send
        into silence)."""
        others = [n for n in self.inside if n != node]
        self.cut(*[(node, n) for n in others], *[(n, node) for n in others],
                 *[(who, node) for who in also])

    def lose(self, percent):
        self.loss = percent
        self.apply()

    def slow(self, node, rate):
        """What the node sends goes through a queue of so little a second: delay under load."""
        with self.at(node):
            command("tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", rate, "burst",
                    "16kb", "latency", "300ms")

    def heal(self):
        self.blocked, self.loss = set(), 0
        self.apply()
        for node in self.inside:
            with self.at(node):
                subprocess.run(["tc", "qdisc", "delete", "dev", "eth0", "root"], check=False,
                               stderr=subprocess.DEVNULL)

    def close(self):
        checked(libc.setns(self.home, CLONE_NEWNET))
        for descriptor in (self.home, self.hub, *self.inside.values()):
            os.close(descriptor)


class SmallDisk:
    """A file system of a few MiB, in memory, mounted where a broker has its data."""

    def __init__(self, path, mib):
        self.path, self.ballast = path, os.path.join(path, "ballast")
        os.makedirs(path, exist_ok=True)
        command("mount", "-t", "tmpfs", "-o", f"size={mib}m", "karst-chaos", path)

    def free(self):
        room = os.statvfs(self.path)
        return room.f_bavail * room.f_frsize

    def fill(self, leave):
        """Brokers write meanwhile: what is left may be a little less, and may be nothing."""
        with open(self.ballast, "ab") as file, contextlib.suppress(OSError):
            while (more := self.free() - leave) > 0:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, more)

    def empty(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.ballast)

    def close(self):
        command("umount", "-l", self.path)


class Processes(deploy_module().Cluster):
    """deploy/cluster's own, in a network of namespaces and on small disks when there are some.
    directories: names of a node's log.dirs; metadata: of its metadata.log.dir. io_errors: the
    calls to them can fail."""

    def __init__(self, folder, network, small_disks, directories, metadata, io_errors):
        # pylint: disable=too-many-arguments
        super().__init__(folder)
        self.network, self.small_disks, self.disks = network, small_disks, {}
        self.directories, self.metadata = directories, metadata
        self.io_errors = {} if io_errors else None

    def host(self, node):
        return self.network.address(node) if self.network else super().host(node)

    def format(self, node):
        if node in self.small_disks:
            self.disks[node] = SmallDisk(self.path(node, "data"), self.small_disks[node])
        super().format(node)

    def write_config(self, node):
        super().write_config(node)
        with open(self.path(node, "karst.conf"), "r+", encoding="utf-8") as file:
            lines = [line for line in file if not line.startswith("log.dirs")]
            names = ",".join(self.path(node, name) for name in self.directories)
            lines += [f"log.dirs = {names}\n",
                      f"metadata.log.dir = {self.path(node, self.metadata)}\n"]
            file.seek(0)
            file.truncate()
            file.writelines(lines)
        if self.io_errors is not None:
            self.io_errors[node] = IoErrors(self.path(node, "io_errors"))

    @contextlib.contextmanager
    def preloaded(self, node):
        if self.io_errors is None:
            yield
            return
        added = self.io_errors[node].environment()
        os.environ.update(added)
        try:
            yield
        finally:
            for name in added:
                del os.environ[name]

    def start(self, node):
        with self.network.at(node) if self.network else contextlib.nullcontext():
            with self.preloaded(node):
                super().start(node)


class ChaosCluster(Cluster):
    """karst_cluster.Cluster, moved by calls, not by the program. small_disks: MiB by node."""

    def __init__(self, folder, brokers=3, settings=(), network=False, small_disks=None,
                 directories=("data",), metadata="data", io_errors=False):
        # pylint: disable=super-init-not-called,too-many-arguments
        self.folder, self.brokers = str(folder), brokers
        self.network = Network(range(1, brokers + 1)) if network else None
        self.processes = Processes(self.folder, self.network, small_disks or {}, directories,
                                   metadata, io_errors)
        try:
            pairs = dict(setting.split("=", 1) for setting in settings)
            self.processes.create(brokers, min(3, brokers), 0,
                                  {"default.replication.factor": min(3, brokers), **pairs})
            self.bootstrap = self.processes.bootstrap()
            for node in self.processes.nodes():
                self.processes.start(node)
            self.processes.wait_until_it_answers()
        except BaseException:
            self.down()
            raise

    def pid(self, node):
        return self.processes.pid(node)

    def signal(self, node, number, wait=0):
        return self.processes.signal(node, number, wait)

    def start(self, node):
        self.processes.start(node)

    def deploy(self, *_):
        raise NotImplementedError("signal() and start()")

    def disk(self, node):
        return self.processes.disks[node]

    def io(self, node):
        return self.processes.io_errors[node]

    def directory(self, node, name):
        return self.processes.path(node, name)

    def log_folder(self, node, name):
        """Where a broker has the log of a partition."""
        paths = [os.path.join(self.processes.path(node, directory), name)
                 for directory in self.processes.directories]
        found = [path for path in paths if os.path.exists(path)]
        assert len(found) == 1, f"broker {node} has {name} in {found}"
        return found[0]

    def begin(self, *arguments):
        """karst ARGUMENTS, running; nobody hears what it says."""
        # pylint: disable-next=consider-using-with
        return subprocess.Popen([KARST, *arguments], env=self.environment(),
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def verify(self, node):
        """karstd verify, of a broker that does not run."""
        return command(KARSTD, "verify", self.processes.path(node, "karst.conf"))

    def controller_now(self):
        return wait_until(lambda: max(self.controller(), 0), "a controller")

    def down(self):
        """Everything is taken away, whatever fails on the way."""
        with contextlib.ExitStack() as stack:
            if self.network:
                stack.callback(self.network.close)
            for disk in self.processes.disks.values():
                stack.callback(disk.close)
            if self.processes.state is None:
                return
            for disk in self.processes.disks.values():
                disk.empty()
            if self.network:
                self.network.heal()
            for node in self.processes.nodes():
                self.signal(node, 18)
            for number, seconds in ((15, 0.5), (15, 10), (9, 10)):
                if self.processes.end_all(number, seconds):
                    break
            for node in self.processes.nodes():
                if os.path.exists(self.processes.path(node, "karstd.log")):
                    log = self.log(node)
                    assert "Sanitizer" not in log and "runtime error:" not in log, log
                    assert "assertion" not in log.lower(), log
