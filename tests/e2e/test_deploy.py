"""deploy/bootstrap, as for real machines."""
import os
import subprocess

from karst_cluster import KARST, KARSTD, ROOT, deploy_module, wait_until


def bootstrap(*arguments):
    return subprocess.run([os.path.join(ROOT, "deploy", "bootstrap"), *arguments], text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          check=False)


def test_what_bootstrap_writes_makes_a_cluster(tmp_path):
    base = deploy_module().free_base_port(3)
    brokers = [f"{i}@127.0.0.1:{base + 10 * i}" for i in (1, 2, 3)]
    out = str(tmp_path / "out")
    done = bootstrap(out, *brokers, "--data-dir", str(tmp_path / "data-{id}"))
    assert done.returncode == 0, done.stderr
    servers = next(line.partition("=")[2] for line in done.stdout.splitlines()
                   if "KARST_BOOTSTRAP=" in line)
    environment = dict(os.environ, KARST_BOOTSTRAP=servers, KARSTD=KARSTD)
    running = []
    try:
        for node in ("1", "2", "3"):
            subprocess.run([os.path.join(out, node, "format")], env=environment, check=True,
                           stdout=subprocess.DEVNULL)
            running.append(subprocess.Popen([KARSTD, os.path.join(out, node, "karst.conf")],
                                            stderr=subprocess.DEVNULL))
        create = [KARST, "topic", "create", "t"]  # three replicas: what the configuration says
        wait_until(lambda: subprocess.run(create, env=environment, stdout=subprocess.DEVNULL,
                                          stderr=subprocess.DEVNULL, check=False).returncode == 0,
                   "a topic with three replicas is made")
        subprocess.run([KARST, "produce", "t"], env=environment, input=b"x\n", check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    finally:
        for process in running:
            process.kill()
            process.wait()


def test_a_broker_is_added_to_the_cluster_that_stands(tmp_path):
    out = str(tmp_path)
    assert bootstrap(out, "1@a", "2@b").returncode == 0
    with open(os.path.join(out, "1", "format"), encoding="utf-8") as file:
        first = file.read()
    done = bootstrap(out, "1@a", "2@b", "3@c")
    assert done.returncode == 0, done.stderr
    with open(os.path.join(out, "1", "format"), encoding="utf-8") as file:
        assert file.read() == first
    with open(os.path.join(out, "3", "format"), encoding="utf-8") as file:
        assert "--voters" not in file.read()
    assert "name these" in bootstrap(out, "2@b", "3@c").stderr


def test_bootstrap_refuses_what_can_not_be(tmp_path):
    for arguments, part in [(["1@a", "1@b"], "same id"), (["1@a", "2@a"], "same address"),
                            (["a"], "ID@HOST"), (["1@a", "2@b", "--voters", "2"], "1, 3 or 5"),
                            (["1@a", "--set", "x"], "KEY=VALUE")]:
        done = bootstrap(str(tmp_path / "out"), *arguments)
        assert done.returncode == 1 and part in done.stderr, done.stderr
