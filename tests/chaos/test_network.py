"""Networks between brokers that fail: each broker in a network namespace of its own, packets
dropped without a word to their sender. Needs root, as CI has it."""
import os

import chaos_faults as faults
import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def test_network_partitions(chaos_load):
    """The clients reach everybody, or nobody behind the cut."""
    with chaos_load(network=True) as load:
        for i in faults.rounds(1):
            controller = load.cluster.controller_now()
            faults.isolate(load, controller, 3.5, with_clients=i % 2 == 0)
            faults.in_sync(load)
        load.check()


def test_half_open_and_lossy_links(chaos_load):
    with chaos_load(network=True) as load:
        for i in faults.rounds(1):
            one, other = load.random.sample((1, 2, 3), 2)
            faults.half_open(load, one, other, 2)
            faults.deaf(load, other, 2)
            faults.lose(load, 5 + 5 * (i % 3), 1)
            faults.flap(load, one, 3)
            faults.slow(load, other, 1)
            faults.in_sync(load)
        load.check()
