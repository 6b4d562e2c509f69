"""Fixtures: make_cluster(brokers=..., ...) makes one in the test's folder, and takes it down after
it; chaos_load(...) makes one that can be broken, with producers and consumers at work."""
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
from chaos_checker import Load  # pylint: disable=wrong-import-position
from chaos_cluster import ChaosCluster  # pylint: disable=wrong-import-position
from karst_cluster import Cluster  # pylint: disable=wrong-import-position


@pytest.fixture
def make_cluster(tmp_path):
    made = []

    def make(**arguments):
        made.append(Cluster(tmp_path / f"cluster-{len(made)}", **arguments))
        return made[-1]

    yield make
    for cluster in made:
        cluster.down()


@pytest.fixture
def cluster(make_cluster):
    return make_cluster()


@pytest.fixture
def chaos_load(request, tmp_path, capsys):
    """chaos_load(network=..., small_disks=..., settings=...): a Load of its own cluster."""
    made = []

    def start(partitions=4, **arguments):
        made.append(ChaosCluster(tmp_path / "cluster", **arguments))
        made.append(Load(made[0], request.node.name, partitions=partitions))
        return made[1]

    yield start
    try:
        if len(made) == 2 and made[1].figures:
            with capsys.disabled():
                print(f"\n{request.node.name}: seed {made[1].seed}, "
                      + ", ".join(f"{key} {value if isinstance(value, str) else f'{value:.6g}'}"
                                  for key, value in made[1].figures.items()))
    finally:
        for cluster in made[:1]:
            cluster.down()
