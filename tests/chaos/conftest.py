"""Fixtures: cluster(brokers=..., ...) makes one in the test's folder and takes it down after it."""
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
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
