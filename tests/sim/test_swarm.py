#!/usr/bin/python3
"""In a build with canaries: a seed that finds one is made small, and what is left still finds it.

usage: test_swarm.py BUILD CANARY SCENARIO
"""
import importlib.machinery
import importlib.util
import os
import re
import subprocess
import sys


def load_swarm():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "swarm")
    loader = importlib.machinery.SourceFileLoader("swarm", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("swarm", loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


def failing_case(swarm, sim, canary, scenario):
    """Of the first seeds, the failing one that has the most faults to leave out."""
    output = subprocess.run([sim.program, "--scenario", scenario, "--canary", canary, "--seed", "1",
                             "--count", "12", "--jobs", "2", "--quiet"], stdout=subprocess.PIPE,
                            text=True, check=False).stdout
    seeds = [int(seed) for seed in re.findall(r"^seed (\d+) .* BROKEN: ", output, re.M)]
    assert seeds, f"none of 12 seeds finds {canary}:\n{output}"
    cases = [swarm.Case(scenario, seed, canary) for seed in seeds]
    return max(cases, key=lambda case: len(faults_of(sim, case)))


def faults_of(sim, case):
    return re.findall(r"^fault (\d+) at ", sim.output(case, "--list-faults"), re.M)


def main(build, canary, scenario):
    swarm = load_swarm()
    sim = swarm.Sim(build)
    case = failing_case(swarm, sim, canary, scenario)
    before = len(faults_of(sim, case))
    small, promise = swarm.Minimizer(sim, 2, 3, 20).run(case)
    print(f"{before} faults became {len(small.faults)}: {sim.command(small)}")
    assert promise is not None
    assert len(small.faults) < before, "no fault was left out"
    assert sim.broken(small) == promise, "what is left breaks another promise, or none"
    assert sim.broken(small.but(canary=None)) is None, "it breaks it without the canary, too"
    made = [int(number) for number in faults_of(sim, small)]
    assert set(made) <= {number for number, _ in small.faults}, "other faults were made"
    lines = swarm.timeline(sim.output(small, "--timeline"))
    print("\n".join(lines))
    assert len(lines) <= swarm.TIMELINE_LINES
    assert any(promise in line for line in lines), "the timeline does not tell what broke"
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
