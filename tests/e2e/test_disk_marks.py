"""A log directory that failed a sync is refused until karstd verify has read it, and loses
nothing."""
import os
import subprocess

from karst_cluster import KARSTD


def karstd(*arguments):
    return subprocess.run([KARSTD, *arguments], text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)


def test_a_directory_that_failed_a_sync_comes_back_by_verification(make_cluster):
    cluster = make_cluster(brokers=1)
    cluster.create_topic("t", partitions=4, replication=1)
    lines = b"".join(b"record %d\n" % i for i in range(1000))
    cluster.karst("produce", "t", stdin=lines)
    cluster.deploy("kill", "1")
    config = os.path.join(cluster.folder, "node-1", "karst.conf")
    mark = os.path.join(cluster.folder, "node-1", "data", ".failed_sync")
    with open(mark, "wb"):
        pass
    refused = karstd(config)
    assert refused.returncode == 1
    assert "karstd verify" in refused.stderr, refused.stderr

    verified = karstd("verify", config)
    assert verified.returncode == 0, verified.stderr
    assert "4 logs read" in verified.stdout
    assert "0 corrupt" in verified.stdout
    assert not os.path.exists(mark)
    cluster.deploy("start", "1")
    read = cluster.karst("consume", "t", "--from-beginning", "--exit-at-end")
    assert sorted(read.splitlines()) == sorted(lines.splitlines())


def test_verify_sets_a_rotten_log_aside(make_cluster):
    cluster = make_cluster(brokers=3)
    cluster.create_topic("t", partitions=1, replication=3)
    lines = b"".join(b"record %d\n" % i for i in range(1000))
    cluster.karst("produce", "t", stdin=lines)
    cluster.wait_in_sync("t")
    cluster.deploy("stop", "2")
    data = os.path.join(cluster.folder, "node-2", "data")
    with open(os.path.join(data, "t-0", "00000000000000000000.log"), "r+b") as file:
        file.seek(200)
        byte = file.read(1)
        file.seek(200)
        file.write(bytes([byte[0] ^ 0x10]))
    verified = karstd("verify", os.path.join(cluster.folder, "node-2", "karst.conf"))
    assert verified.returncode == 0, verified.stderr
    assert "1 corrupt and set aside" in verified.stdout, verified.stdout
    assert [name for name in os.listdir(data) if name.endswith("-corrupt")]
    cluster.deploy("start", "2")
    cluster.wait_in_sync("t")  # fetched anew
    read = cluster.karst("consume", "t", "--from-beginning", "--exit-at-end")
    assert read == lines


def test_verify_says_how_it_is_used():
    assert karstd("verify").returncode == 2
    assert "past the page cache" in karstd("verify", "--help").stdout
