"""What the benches share: clusters in a temporary folder, medians, what a process has used."""
import os
import statistics
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from karst_cluster import Cluster, KARST, deploy_module, wait_until  # pylint: disable=all

TICKS = os.sysconf("SC_CLK_TCK")


class Bench:
    """with Bench(brokers=3) as cluster: ... in a folder that goes away, in KARST_BENCH_DIR."""

    def __init__(self, **arguments):
        self.arguments = arguments
        self.folder = tempfile.TemporaryDirectory(dir=os.environ.get("KARST_BENCH_DIR"))

    def __enter__(self):
        self.cluster = Cluster(os.path.join(self.folder.name, "cluster"), **self.arguments)
        return self.cluster

    def __exit__(self, *_):
        self.cluster.deploy("down")
        self.folder.cleanup()


def processes(cluster):
    """deploy/cluster's own object for this cluster."""
    return deploy_module().Cluster(cluster.folder)


def pids(cluster):
    """The running brokers' process ids, by node."""
    deploy = processes(cluster)
    return {node: deploy.pid(node) for node in deploy.nodes() if deploy.pid(node) is not None}


def cpu_seconds(pid):
    """(user, kernel) of a process so far."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def memory_mib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def row(title, values, unit):
    values = sorted(values)
    p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
    print(f"{title:<44} median {statistics.median(values):9.2f} {unit}   "
          f"min {values[0]:.2f}  p99 {p99:.2f}  max {values[-1]:.2f}  (n={len(values)})",
          flush=True)
