#!/usr/bin/python3
"""Builds Karst and runs its tests; tests/run calls it. Counts come from junit files only.

Arguments: suites (style, unit, sim, fuzz, e2e, chaos; none: all of them), or names of single tests:
a meson test (base_ring), one START_TEST of a unit test, or a pytest function.
"""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILDS = {  # name: folder, options, the suites that run there
    "plain": ("build", [], ["style", "unit", "sim", "e2e", "chaos"]),
    "asan": ("build-asan", ["-Db_sanitize=address,undefined"], ["unit", "sim", "e2e"]),
    "canaries": ("build-canaries", ["-Dcanaries=true"], ["canary"]),
}
SUITES = ["style", "unit", "sim", "fuzz", "e2e", "chaos"]
FUZZ_SECONDS = 5  # for each target
PYTEST_SUITES = ["e2e", "chaos"]
SANITIZED_SEEDS = "20"  # the simulator is about ten times slower there


class Result:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add_junit(self, path):
        for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                self.failed += 1
            elif case.find("skipped") is not None:
                self.skipped += 1
            else:
                self.passed += 1

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


def say(text):
    print(text, flush=True)


def failed_once():
    result = Result()
    result.failed = 1
    return result


def run_quietly(what, command):
    """True, or False with the whole output shown."""
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    if done.returncode != 0:
        say(done.stdout)
    say(f"{what}: {'done' if done.returncode == 0 else 'FAILED'} "
        f"in {time.monotonic() - began:.1f} s")
    return done.returncode == 0


def configure(name):
    folder, options, _ = BUILDS[name]
    options = ["-Dwerror=true", "-Dtests=enabled"] + options
    command = ["meson", "setup", *options, folder]
    if os.path.exists(os.path.join(ROOT, folder, "build.ninja")):
        command.insert(2, "--reconfigure")
    return run_quietly(f"configure {folder}", command)


def compile_all(name):
    folder = BUILDS[name][0]
    return run_quietly(f"build {folder}", ["ninja", "-C", folder])


def meson_tests(name):
    """[(test, suites)] of a configured build."""
    out = subprocess.run(["meson", "introspect", "--tests", BUILDS[name][0]], cwd=ROOT, check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return [(test["name"], [suite.split(":")[-1] for suite in test["suite"]])
            for test in json.loads(out)]


def run_counted(title, command, junit, environment):
    """Runs a test program and counts by its junit file."""
    if os.path.exists(junit):
        os.unlink(junit)
    began = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, env=environment,
                          check=False).returncode
    result = Result()
    try:
        result.add_junit(junit)
    except (OSError, xml.etree.ElementTree.ParseError) as error:
        say(f"{title}: no results: {error}")
        result.failed = 1
    if code != 0 and result.failed == 0:
        # A test program that fails after its last result (a leak, a crash at exit) stands in no
        # junit file, and must count all the same.
        say(f"{title}: exit code {code}, though no test is reported as failed")
        result.failed = 1
    say(f"{title}: {result.passed} passed, {result.failed} failed, {result.skipped} skipped "
        f"in {time.monotonic() - began:.1f} s")
    return result


def environment_of(name):
    environment = dict(os.environ, KARST_BUILD=os.path.join(ROOT, BUILDS[name][0]))
    if name == "asan":
        environment.setdefault("KARST_SIM_SEEDS", SANITIZED_SEEDS)
        environment.setdefault("ASAN_OPTIONS", "halt_on_error=1:abort_on_error=1")
        environment.setdefault("UBSAN_OPTIONS",
                               "halt_on_error=1:abort_on_error=1:print_stacktrace=1")
    return environment


def run_meson(name, label, chosen, environment=None):
    """chosen: --suite X, or names of tests."""
    folder = BUILDS[name][0]
    command = ["meson", "test", "-C", folder, "--print-errorlogs", "--logbase", label,
               "--timeout-multiplier", "5" if name == "asan" else "1", *chosen]
    junit = os.path.join(ROOT, folder, "meson-logs", label + ".junit.xml")
    return run_counted(f"{label} ({folder})", command, junit,
                       environment or environment_of(name))


def run_pytest(name, label, chosen):
    folder = BUILDS[name][0]
    junit = os.path.join(ROOT, folder, f"pytest-{label}.junit.xml")
    command = ["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider",
               f"--junitxml={junit}", *chosen]
    return run_counted(f"{label} ({folder})", command, junit, environment_of(name))


def pytest_folder(suite):
    folder = os.path.join("tests", suite)
    return folder if glob.glob(os.path.join(ROOT, folder, "test_*.py")) else None


def run_suite(name, suite):
    if suite in PYTEST_SUITES:
        folder = pytest_folder(suite)
        return run_pytest(name, suite, [folder]) if folder else Result()
    if not any(suite in suites for _, suites in meson_tests(name)):
        return Result()
    return run_meson(name, suite, ["--suite", suite])


def prepare(name):
    """None when the build is ready, else its failure."""
    if not configure(name):
        return failed_once()
    if name == "canaries":  # meson test builds the little that these tests need
        return None
    return None if compile_all(name) else failed_once()


def run_suites(suites):
    total = Result()
    for name, (_, _, runs) in BUILDS.items():
        wanted = [s for s in runs if s in suites or (s == "canary" and "sim" in suites)]
        if name != "plain":  # no second build for suites that are not there
            wanted = [s for s in wanted if s not in PYTEST_SUITES or pytest_folder(s)]
        if not wanted:
            continue
        failure = prepare(name)
        if failure is not None:
            total.add(failure)
            continue
        for suite in wanted:
            total.add(run_suite(name, suite))
    if "fuzz" in suites:
        total.add(run_fuzz())
    return total


def run_fuzz():
    """Clang is large, and not everywhere: without it the targets' replays, which are unit tests,
    have to do."""
    result = Result()
    if shutil.which("clang") is None or not glob.glob("/usr/lib/llvm-*/lib/clang/*/lib/linux/"
                                                      "libclang_rt.fuzzer-*.a"):
        say("fuzz: 1 skipped: it needs clang and libclang-rt-14-dev")
        result.skipped = 1
    elif run_quietly("fuzz", ["tests/fuzz/run", "--seed", "1", str(FUZZ_SECONDS)]):
        result.passed = 1
    else:
        result.failed = 1
    return result


def find_in(pattern, expression):
    for path in sorted(glob.glob(os.path.join(ROOT, pattern), recursive=True)):
        with open(path, encoding="utf-8") as file:
            if re.search(expression, file.read(), re.M):
                return os.path.relpath(path, ROOT)
    return None


def run_one(test):
    """In the plain build, which is ready."""
    if any(test == name for name, _ in meson_tests("plain")):
        return run_meson("plain", "one", [test])
    path = find_in("tests/unit/*/test_*.c", rf"^START_TEST\({re.escape(test)}\)")
    if path is not None:
        folder, file = path.split(os.sep)[-2:]
        environment = dict(environment_of("plain"), CHECK_ONLY=test)
        return run_meson("plain", "one", [f"{folder}_{file[5:-2]}"], environment)
    for suite in PYTEST_SUITES:
        path = find_in(f"tests/{suite}/test_*.py", rf"^\s*def {re.escape(test)}\(")
        if path is not None:
            return run_pytest("plain", "one", [path, "-k", test])
    say(f"no test is called {test}; suites are {', '.join(SUITES)}")
    return failed_once()


def main(arguments):
    if {"-h", "--help"} & set(arguments):
        say(__doc__.replace("tests/run calls it.", "usage: tests/run [SUITE|NAME]..."))
        return 0
    suites = [a for a in arguments if a in SUITES]
    names = [a for a in arguments if a not in SUITES]
    total = Result()
    if suites or not names:
        total.add(run_suites(suites or SUITES))
    if names:
        failure = prepare("plain")
        if failure is not None:
            total.add(failure)
        else:
            for name in names:
                total.add(run_one(name))
    say(f"{total.passed} passed, {total.failed} failed")
    return 0 if total.failed == 0 and total.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
