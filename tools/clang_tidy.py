#!/usr/bin/python3
"""Runs clang-tidy over all of src and tools, with the checks of .clang-tidy, on all cores.

Usage: clang_tidy.py ROOT BUILD [FILE]... BUILD is configured and its headers are generated. Without
clang-tidy it is skipped: exit code 77.
"""
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys

SKIPPED = 77  # what meson takes for that
FOLDERS = ("src", "tools")


def sources_of(root, build):
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        commands = json.load(file)
    paths = {os.path.realpath(os.path.join(c["directory"], c["file"])) for c in commands}
    folders = tuple(os.path.join(os.path.realpath(root), folder) + os.sep for folder in FOLDERS)
    found = [path for path in paths if path.startswith(folders) and os.path.exists(path)]
    return sorted(found, key=os.path.getsize, reverse=True)  # the longest first


def look(build, path):
    """What it says of the file; nothing: it is clean."""
    done = subprocess.run(["clang-tidy", "--quiet", "-p", build, path], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout or done.stderr


def main(root, build, *files):
    if shutil.which("clang-tidy") is None:
        print("skipped: it needs clang-tidy")
        return SKIPPED
    paths = [os.path.realpath(path) for path in files] or sources_of(root, build)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        said = [text for text in pool.map(lambda path: look(build, path), paths) if text]
    print("\n".join(said))
    print(f"{len(paths)} files, {len(said)} with offences")
    return 1 if said or not paths else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
