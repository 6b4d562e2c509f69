"""What a person meets before the first record: configuration, directories, ports."""
import os
import subprocess

from karst_cluster import KARSTD


def karstd(*arguments):
    return subprocess.run([KARSTD, *arguments], text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)


def config(folder, name="karst.conf", **settings):
    lines = {"node.id": 1, "log.dirs": os.path.join(folder, "data"),
             "listeners": "RPC://127.0.0.1:19991"}
    lines.update({key.replace("_", "."): value for key, value in settings.items()})
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{key} = {value}\n" for key, value in lines.items())
    return path


def new_id():
    return karstd("new-id").stdout.strip()


def refused(done, *parts, code=1):
    assert done.returncode == code, done.stdout + done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr


def test_an_unknown_key_names_the_line_and_the_nearest(tmp_path):
    refused(karstd(config(tmp_path, min_insync_replica=1)), "karst.conf:4",
            "did you mean min.insync.replicas?")


def test_an_unformatted_directory_is_refused(tmp_path):
    path = config(tmp_path)
    refused(karstd(path), "karstd format")
    os.mkdir(tmp_path / "data")
    refused(karstd(path), "karstd format")


def test_a_directory_of_another_node_is_refused(tmp_path):
    first = config(tmp_path)
    assert karstd("format", "--config", first, "--cluster-id", new_id(),
                  "--standalone").returncode == 0
    refused(karstd(config(tmp_path, "other.conf", node_id=2)), "node 1", "node.id = 2")


def test_a_directory_of_another_cluster_is_refused(tmp_path):
    path = config(tmp_path)
    assert karstd("format", "--config", path, "--cluster-id", new_id()).returncode == 0
    refused(karstd("format", "--config", path, "--cluster-id", new_id()), "formatted already")
    both = config(tmp_path, "both.conf", log_dirs=f"{tmp_path}/data,{tmp_path}/more")
    more = config(tmp_path, "more.conf", log_dirs=f"{tmp_path}/more")
    assert karstd("format", "--config", more, "--cluster-id", new_id()).returncode == 0
    refused(karstd(both), "of one cluster")


def test_formatting_twice_changes_nothing(tmp_path):
    path, cluster = config(tmp_path), new_id()
    for _ in range(2):
        assert karstd("format", "--config", path, "--cluster-id", cluster,
                      "--standalone").returncode == 0


def test_a_busy_port_and_a_busy_directory_are_named(make_cluster, tmp_path):
    cluster = make_cluster(brokers=1)
    running = os.path.join(cluster.folder, "node-1", "karst.conf")
    refused(karstd(running), "another karstd uses this directory")
    port = cluster.address(1).rsplit(":", 1)[1]
    path = config(tmp_path, listeners=f"RPC://127.0.0.1:{port}")
    assert karstd("format", "--config", path, "--cluster-id", new_id()).returncode == 0
    refused(karstd(path), port, "in use")


def test_bad_arguments_exit_with_2(tmp_path):
    for arguments in ([], ["--nonsense"], ["format"], ["format", "--config", "x"],
                      ["format", "--config", "x", "--cluster-id", "short"],
                      ["format", "--config", "x", "--cluster-id", new_id(), "--voters", "1@a"],
                      ["a", "b"]):
        assert karstd(*arguments).returncode == 2, arguments
    assert karstd("--help").returncode == 0
    assert "usage" in karstd("format", "--help").stdout


def test_options_are_documented_as_they_are(tmp_path):
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with open(os.path.join(root, "docs", "configuration.md"), encoding="utf-8") as file:
        assert file.read() == karstd("options", "--markdown").stdout
