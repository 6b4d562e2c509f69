"""The voters of the metadata quorum change while the cluster works."""
import os
import subprocess

from karst_cluster import KARST, KARSTD, wait_until


def voters(cluster):
    return sorted(s["node_id"] for s in cluster.json("quorum", "describe")["servers"]
                  if s["role"] == "voter")


def roles(cluster):
    """As the metadata of the broker that answers tell it, which may lag: what cluster status
    shows."""
    return sorted(b["node_id"] for b in cluster.status()["brokers"] if b["voter"])


def check_voters(cluster, nodes):
    assert voters(cluster) == nodes
    wait_until(lambda: roles(cluster) == nodes, "the metadata tell the voters")


def refused(cluster, *arguments):
    done = cluster.run("quorum", *arguments)
    assert done.returncode == 1, (arguments, done.stdout)
    return done.stderr.decode()


def test_voters_are_added_and_removed_while_records_flow(make_cluster):
    cluster = make_cluster(brokers=5, voters=3)
    cluster.create_topic("t", partitions=3)
    producer = subprocess.Popen(
        [KARST, "produce", "t", "--generate", "0", "--rate", "200", "--verifiable"],
        env=cluster.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        cluster.karst("quorum", "add-voter", "4")
        assert cluster.json("quorum", "add-voter", "5") == {"added": 5}
        check_voters(cluster, [1, 2, 3, 4, 5])
        described = cluster.json("quorum", "describe")
        assert described["of_leader"] and described["leader"] == cluster.controller()
        assert all(s["metadata_end"] >= 0 for s in described["servers"])

        old = cluster.controller()
        cluster.karst("quorum", "remove-voter", str(old))
        left = [n for n in range(1, 6) if n != old]
        check_voters(cluster, left)
        assert cluster.controller() != old
        wait_until(lambda: "quorum: this node is no server" in cluster.log(old), "it observes")

        for node in (old, cluster.controller()):
            cluster.deploy("kill", str(node))
            cluster.deploy("start", str(node))
            wait_until(lambda: all(b["state"] == "active" for b in cluster.status()["brokers"]),
                       "all are back")
        assert voters(cluster) == left
    finally:
        producer.terminate()
        out, err = producer.communicate()
    assert producer.returncode == 0, err
    acknowledged = [line for line in out.splitlines() if b'"offset"' in line]
    assert len(acknowledged) > 100 and b'"error"' not in out

    # The configuration is each node's own, whatever it was formatted with.
    for node in range(1, 6):
        cluster.deploy("kill", str(node))
    for node in range(1, 6):
        cluster.deploy("start", str(node))
    cluster.deploy("up")
    cluster.wait_in_sync("t")
    check_voters(cluster, left)
    read = cluster.karst("consume", "t", "--from-beginning", "--exit-at-end")
    assert len(read.splitlines()) >= len(acknowledged)


def test_all_first_voters_are_replaced(make_cluster):
    cluster = make_cluster(brokers=5, voters=3)
    cluster.create_topic("t")
    for old, new in ((1, 4), (2, 5)):
        cluster.karst("quorum", "add-voter", str(new))
        cluster.karst("quorum", "remove-voter", str(old))
    cluster.karst("quorum", "remove-voter", "3")
    assert voters(cluster) == [4, 5]
    for node in (1, 2, 3):
        cluster.deploy("kill", str(node))
    alive = ",".join(cluster.address(n) for n in (4, 5))
    wait_until(lambda: cluster.json("quorum", "describe", bootstrap=alive)["leader"] in (4, 5),
               "one of the two leads")
    cluster.karst("topic", "create", "u", "--partitions", "1", "--replication-factor", "2",
                  bootstrap=alive)


def test_a_voter_that_is_gone_for_good_is_replaced(make_cluster):
    cluster = make_cluster(brokers=4, voters=3)
    gone = next(n for n in (1, 2, 3) if n != cluster.controller())
    cluster.deploy("kill", str(gone))
    cluster.karst("quorum", "add-voter", "4")
    cluster.karst("quorum", "remove-voter", str(gone))
    assert gone not in voters(cluster) and 4 in voters(cluster)
    cluster.deploy("start", str(gone))  # it was away, and finds out
    wait_until(lambda: "quorum: this node is no server" in cluster.log(gone), "it observes")
    wait_until(lambda: all(b["state"] == "active" for b in cluster.status()["brokers"]),
               "it is active again")


def test_a_lost_voter_is_replaced_without_a_person(make_cluster):
    cluster = make_cluster(brokers=4, voters=3,
                           settings=["controller.quorum.voter.replace.after.ms=1000"])
    lost = cluster.controller()
    cluster.deploy("kill", str(lost))
    left = [n for n in (1, 2, 3, 4) if n != lost]
    alive = ",".join(cluster.address(n) for n in left)

    def replaced():
        servers = cluster.json("quorum", "describe", bootstrap=alive)["servers"]
        return sorted(s["node_id"] for s in servers if s["role"] == "voter") == left
    wait_until(replaced, "the observer votes instead")
    cluster.deploy("start", str(lost))
    wait_until(lambda: "quorum: this node is no server" in cluster.log(lost), "it observes")


def test_what_can_not_be_is_refused_with_a_reason(make_cluster):
    cluster = make_cluster(brokers=4, voters=3)
    assert "already" in refused(cluster, "add-voter", "1")
    assert "not an active broker" in refused(cluster, "add-voter", "9")
    assert "no voter" in refused(cluster, "remove-voter", "4")
    assert cluster.run("quorum", "add-voter", "x").returncode == 2
    cluster.deploy("kill", "4")
    wait_until(lambda: "not an active broker" in refused(cluster, "add-voter", "4"),
               "a dead broker is refused")
    leader = cluster.controller()
    dead, last = (n for n in (1, 2, 3) if n != leader)
    cluster.deploy("kill", str(dead))
    wait_until(lambda: [b["state"] for b in cluster.status()["brokers"]].count("fenced") == 2,
               "it is known to be dead")
    assert "no majority" in refused(cluster, "remove-voter", str(last))
    cluster.karst("quorum", "remove-voter", str(dead))
    assert voters(cluster) == sorted([leader, last])
    for node in (leader, last):
        assert cluster.json("quorum", "describe", bootstrap=cluster.address(node))["servers"]


def test_a_lost_majority_is_given_up(make_cluster):
    cluster = make_cluster(brokers=5, voters=3)
    cluster.create_topic("t", partitions=3)
    cluster.karst("produce", "t", stdin=b"".join(b"%d\n" % i for i in range(300)))
    left = next(n for n in (1, 2, 3) if n != cluster.controller())
    lost = [n for n in (1, 2, 3) if n != left]
    for node in range(1, 6):
        cluster.deploy("kill", str(node))

    def recover(node, *options):
        config = os.path.join(cluster.folder, f"node-{node}", "karst.conf")
        return subprocess.run([KARSTD, "recover", *options, config], text=True, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)

    for node in (left, 4, 5):
        told = recover(node)
        assert told.returncode == 0 and "5 brokers, 1 topics" in told.stdout, told.stdout
    done = recover(left, "--confirm")
    assert done.returncode == 0 and "only voter" in done.stdout, done.stdout
    alive = ",".join(cluster.address(n) for n in (left, 4, 5))
    for node in (left, 4, 5):
        cluster.deploy("start", str(node))
    wait_until(lambda: cluster.json("quorum", "describe", bootstrap=alive)["leader"] == left,
               "the one that is left leads")
    for node in (4, 5):
        wait_until(lambda n=node: cluster.run("quorum", "add-voter", str(n),
                                              bootstrap=alive).returncode == 0,
                   "it is active and becomes a voter")

    # Voters of the lost quorum come back after all, and follow.
    for node in lost:
        cluster.deploy("start", str(node))
        wait_until(lambda n=node: "quorum: this node is no server" in cluster.log(n),
                   "it observes")
    cluster.wait_in_sync("t")
    check_voters(cluster, sorted([left, 4, 5]))
    out = cluster.karst("consume", "t", "--from-beginning", "--exit-at-end")
    assert sorted(map(int, out.split())) == list(range(300))
