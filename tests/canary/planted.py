#!/usr/bin/python3
"""What is known of the planted bugs: CANARY("name") in src, and the table of docs/promises.md.

usage: planted.py ROOT                        the table has a row for each, and each rule has one
       planted.py ROOT --absent PROGRAM...    none of them is in what users get
       planted.py ROOT --present PROGRAM...   in a build with canaries, all of them are
"""
import glob
import os
import re
import sys

RULES = [f"R{n}" for n in range(1, 31) if n != 29]  # R29: coordinators, not built yet
TABLE = os.path.join("docs", "promises.md")


def in_source(root):
    """{name: [file, ...]}"""
    names = {}
    for path, _, files in os.walk(os.path.join(root, "src")):
        for file in sorted(files):
            if not file.endswith((".c", ".h")) or file == "canary.h":
                continue
            with open(os.path.join(path, file), encoding="utf-8") as text:
                for name in re.findall(r'CANARY\("([a-z0-9_]+)"\)', text.read()):
                    names.setdefault(name, []).append(os.path.join(path, file))
    return names


def in_table(root):
    """[(name, rule, what finds it)]: the rows whose first cell is a canary."""
    rows = []
    with open(os.path.join(root, TABLE), encoding="utf-8") as file:
        for line in file:
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            if len(cells) == 5 and re.fullmatch(r"`[a-z0-9_]+`", cells[0]):
                rows.append((cells[0].strip("`"), cells[1], cells[3]))
    return rows


def has_test(root, program, test):
    for path in glob.glob(os.path.join(root, "tests", "unit", "*", "test_*.c")):
        folder, file = path.split(os.sep)[-2:]
        if f"{folder}_{file[len('test_'):-len('.c')]}" == program:
            with open(path, encoding="utf-8") as text:
                return f"START_TEST({test})" in text.read()
    return False


def check_table(root):
    names, rows = in_source(root), in_table(root)
    wrong = []
    listed = [name for name, _, _ in rows]
    wrong += [f"{TABLE}: no row for the canary {name}" for name in names if name not in listed]
    wrong += [f"{TABLE}: src has no canary {name}" for name in listed if name not in names]
    wrong += [f"{TABLE}: two rows for {name}" for name in set(listed) if listed.count(name) > 1]
    for name, _, found_by in rows:
        form = r"(sim [a-z0-9]+ \d+|unit [a-z_]+ [a-z0-9_]+|(fuzz|asan) [a-z]+)$"
        if not re.match(form, found_by):
            wrong.append(f"{TABLE}: {name}: what is '{found_by}'?")
        elif found_by.startswith("unit ") and not has_test(root, *found_by.split()[1:]):
            wrong.append(f"{TABLE}: {name}: there is no test '{found_by}'")
    broken = {rule for _, rules, _ in rows for rule in re.findall(r"R\d+", rules)}
    wrong += [f"{TABLE}: no canary breaks {rule}" for rule in RULES if rule not in broken]
    return wrong


def words_in(path):
    with open(path, "rb") as file:
        return set(re.findall(rb"[a-z0-9_]{8,}", file.read()))


def check_absent(root, programs):
    words = {program: words_in(program) for program in programs}
    names = list(in_source(root)) + ["canary_arm", "canary_armed"]
    return [f"{program}: has the planted bug {name}" for program in programs for name in names
            if name.encode() in words[program]]


def check_present(root, programs):
    words = set().union(*map(words_in, programs))
    return [f"{name}: in none of these programs, so that its absence would prove nothing"
            for name in in_source(root) if name.encode() not in words]


def main(arguments):
    if not arguments:
        sys.exit(__doc__)
    root, programs = arguments[0], arguments[2:]
    if len(arguments) == 1:
        wrong = check_table(root)
    else:
        assert programs, __doc__
        wrong = {"--absent": check_absent, "--present": check_present}[arguments[1]](root, programs)
    for line in wrong:
        print(line)
    print(f"{len(in_source(root))} canaries, {len(wrong)} wrong")
    return 1 if wrong or not in_source(root) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
