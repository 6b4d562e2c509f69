"""Real clusters for pytest: deploy/cluster and the karst command line, in a folder of the test's
own."""
import importlib.machinery
import importlib.util
import json
import os
import select
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("KARST_BUILD", os.path.join(ROOT, "build"))
KARST = os.path.join(BUILD, "tools", "karst", "karst")
KARSTD = os.path.join(BUILD, "src", "broker", "karstd")
SECONDS = 20  # no wait takes longer; a healthy one takes milliseconds


def wait_until(condition, what):
    """Asks again and again until it holds; returns what it gave."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        select.select([], [], [], 0.01)
    raise AssertionError(f"after {SECONDS} s still not: {what}")


def deploy_module():
    """deploy/cluster as a module: its own functions, without the time that a program takes to
    start."""
    path = os.path.join(ROOT, "deploy", "cluster")
    loader = importlib.machinery.SourceFileLoader("deploy_cluster", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


class Cluster:
    running = frozenset()  # nodes that must be alive

    def __init__(self, folder, brokers=3, voters=None, settings=()):
        self.folder = str(folder)
        self.brokers = brokers
        command = ["up", "--brokers", str(brokers), "--base-port", "0"]
        if voters:
            command += ["--voters", str(voters)]
        for setting in settings:
            command += ["--set", setting]
        out = self.deploy(*command)
        assert out.startswith("rpc="), out
        self.bootstrap = out.strip()[len("rpc="):]

    def deploy(self, *arguments):
        environment = dict(os.environ, KARST_BUILD=BUILD, KARST_DIR=self.folder)
        done = subprocess.run([os.path.join(ROOT, "deploy", "cluster"), *arguments], text=True,
                              env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=False)
        assert done.returncode == 0, f"deploy/cluster {arguments}: {done.stderr}"
        if arguments[0] == "up":
            self.running = frozenset(range(1, self.brokers + 1))
        elif arguments[0] in ("kill", "stop"):
            self.running -= {int(arguments[1])}
        elif arguments[0] == "start":
            self.running |= {int(arguments[1])}
        return done.stdout

    def check_alive(self):
        """A broker that ended though nobody asked it to is what is wrong, whatever else is seen."""
        for node in self.running:
            assert self.pid(node) is not None, f"broker {node} ended:\n{self.log(node)[-3000:]}"

    def log(self, node):
        with open(os.path.join(self.folder, f"node-{node}", "karstd.log"), encoding="utf-8",
                  errors="replace") as file:
            return file.read()

    def pid(self, node):
        return deploy_module().Cluster(self.folder).pid(node)

    def address(self, node):
        return self.bootstrap.split(",")[node - 1]

    def environment(self, bootstrap=None):
        return dict(os.environ, KARST_BOOTSTRAP=bootstrap or self.bootstrap)

    def run(self, *arguments, bootstrap=None, stdin=None):
        """karst ARGUMENTS: the finished process, whatever its exit code."""
        return subprocess.run([KARST, *arguments], env=self.environment(bootstrap),
                              input=stdin or b"", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=SECONDS * 2, check=False)

    def karst(self, *arguments, bootstrap=None, stdin=None):
        """karst ARGUMENTS, which must succeed: its standard output."""
        done = self.run(*arguments, bootstrap=bootstrap, stdin=stdin)
        assert done.returncode == 0, f"karst {arguments}: {done.stderr.decode()}"
        return done.stdout

    def json(self, *arguments, bootstrap=None):
        return json.loads(self.karst(*arguments, "--json", bootstrap=bootstrap))

    def status(self):
        return self.json("cluster", "status")

    def controller(self):
        return self.status()["controller"]

    def partition(self, topic, index=0):
        return self.json("topic", "describe", topic)[0]["partitions"][index]

    def leader(self, topic, index=0):
        return wait_until(lambda: max(self.partition(topic, index)["leader"], 0),
                          f"{topic}-{index} has a leader")

    def wait_in_sync(self, topic):
        """Every partition has a leader and all its replicas in the ISR, as every living broker has
        it: one that was cut off believes what was true before."""
        def in_sync_at(node):
            done = self.run("topic", "describe", topic, "--json", bootstrap=self.address(node))
            return done.returncode == 0 and all(
                p["leader"] >= 0 and len(p["isr"]) == len(p["replicas"])
                for p in json.loads(done.stdout)[0]["partitions"])

        def in_sync():
            self.check_alive()
            return all(in_sync_at(node) for node in range(1, self.brokers + 1)
                       if self.pid(node) is not None)
        wait_until(in_sync, f"{topic} is in sync")

    def create_topic(self, name, partitions=1, replication=3, configs=()):
        command = ["topic", "create", name, "--partitions", str(partitions),
                   "--replication-factor", str(replication)]
        for config in configs:
            command += ["--config", config]
        self.karst(*command)

    def down(self):
        try:
            self.check_alive()
        finally:
            self.deploy("down")
        for node in range(1, self.brokers + 1):
            log = self.log(node)
            assert "Sanitizer" not in log and "runtime error:" not in log, log
            assert "assertion" not in log.lower(), log
