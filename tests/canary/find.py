#!/usr/bin/python3
"""In a build with canaries: what the table names finds this one, and breaks without it nothing.

usage: find.py CANARY sim KARST_SIM SCENARIO SEED      the seed, or one of those after it
       find.py CANARY unit PROGRAM TEST                this START_TEST
       find.py CANARY fuzz PROGRAM CORPUS              the replay of this corpus; asan: with ASan
"""
import os
import re
import subprocess
import sys

SEEDS = 60  # a seed finds it; other changes move what seeds do, and one of the next finds it then
CHANGES = {"rpc": 200, "producers": 20000}  # of each file of a corpus; else 2000


def run(command, **variables):
    done = subprocess.run(command, env=dict(os.environ, **variables), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", check=False)
    return done.returncode, done.stdout


def find_sim(canary, program, scenario, seed):
    code, output = run([program, "--canary", canary, "--scenario", scenario, "--seed", seed,
                        "--count", str(SEEDS), "--expect-found", "--quiet"])
    print(output)
    return code == 0


def find_unit(canary, program, test):
    code, output = run([program], CHECK_ONLY=test)
    if code != 0 or not re.search(r"^ok ", output, re.M):
        print(f"{output}\n{test} fails without the canary")
        return False
    code, output = run([program], CHECK_ONLY=test, KARST_CANARY=canary)
    print(output)
    return code != 0 and re.search(r"^not ok ", output, re.M) is not None


def find_fuzz(canary, program, corpus):
    changes = CHANGES.get(os.path.basename(corpus), 2000)
    variables = {"KARST_SEED": "1", "KARST_CHANGES": str(changes)}
    code, output = run([program, corpus], **variables)
    if code != 0:
        print(f"{output}\nthe replay fails without the canary")
        return False
    code, output = run([program, corpus], KARST_CANARY=canary, **variables)
    print(output)
    return code != 0


def main(arguments):
    if len(arguments) < 4:
        sys.exit(__doc__)
    canary, kind, program = arguments[:3]
    finders = {"sim": find_sim, "unit": find_unit, "fuzz": find_fuzz, "asan": find_fuzz}
    found = finders[kind](canary, program, *arguments[3:])
    print(f"{canary}: {'found' if found else 'NOT FOUND'}")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
