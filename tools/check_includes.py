#!/usr/bin/python3
"""Who may include what: the table of floors, checked against every #include of the tree.

Usage: check_includes.py [ROOT]. One line for each offence; then the exit code is 1.
A change of the table is a change of the design: docs/architecture.md says the same.
"""
import collections
import os
import re
import sys

# folder: (floor, the folders that it may include)
FLOORS = {
    "base": (0, ""),
    "proto": (0, ""),
    "env": (1, "base"),
    "record": (2, "base"),
    "wire": (2, "base proto"),
    "log": (3, "base env record"),
    "metadata": (4, "base record proto"),
    "controller": (5, "base proto record metadata"),
    "replica": (6, "base record metadata"),
    "group": (7, "base record metadata"),
    "txn": (7, "base record metadata"),
    "auth": (8, "base record metadata"),
    "quorum": (9, "base proto env record wire log metadata controller replica"),
    "shard": (10, "base proto env record wire log metadata controller replica group txn auth "
                  "quorum"),
    "rpc": (11, "base proto record wire shard"),
    "kafka": (11, "base record shard"),
    "io": (12, "base env"),
    "io_uv": (13, "base env io"),  # the second half of floor 12: it shares io's disks and mail
    "client": (13, "base proto env record wire io"),
    "web": (13, "base env record metadata shard"),
    "broker": (14, "base proto env record wire log metadata controller replica group txn auth "
                   "quorum shard rpc kafka io io_uv web"),
}
# These decide and never act: only headers that can't touch the world.
PURE = [folder for folder, (floor, _) in FLOORS.items() if 2 <= floor <= 10]
PURE_SYSTEM = set("""assert.h ctype.h endian.h errno.h inttypes.h limits.h math.h stdalign.h
    stdarg.h stdatomic.h stdbool.h stddef.h stdint.h stdio.h stdlib.h string.h sys/types.h sys/uio.h
    protobuf-c/protobuf-c.h uthash.h utlist.h""".split())
PURE_SYSTEM_OF = {
    "record": set("zlib.h zstd.h lz4.h lz4frame.h snappy-c.h".split()),
    "auth": set("openssl/evp.h openssl/hmac.h openssl/crypto.h".split()),
    "quorum": {"raft.h"},
}
# Libraries that have one home. The rest of the tree reaches them through it.
HOMES = [
    (re.compile(r"event2/|event\.h"), {"io", "web"}),
    (re.compile(r"uv\.h|uv/"), {"io_uv"}),
    (re.compile(r"raft\.h"), {"quorum"}),
    (re.compile(r"raft/"), set()),
    (re.compile(r"isa-l"), {"base"}),
]
PUBLIC_HEADERS_MAX = 2
MANY_HEADERS = {"base", "proto"}  # folders of headers: every one is public

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def sources(root):
    for top in ("src", "tests", "tools", "docs", "deploy"):
        for path, folders, files in os.walk(os.path.join(root, top)):
            folders.sort()
            for name in sorted(files):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(path, name), root)


def includes(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            match = INCLUDE.match(line)
            if match:
                yield number, match.group(1) == "<", match.group(2)


class Checker:
    def __init__(self, root):
        self.root = root
        self.failed = 0
        self.public = collections.defaultdict(dict)  # folder -> header -> first includer
        self.graph = collections.defaultdict(list)  # header -> headers

    def fail(self, path, number, message):
        self.failed += 1
        print(f"{path}:{number}: {message}")

    def home_of(self, path):
        """(the folder of src/ that the file belongs to or tests, what it may include)."""
        parts = path.split(os.sep)
        if parts[0] == "src":
            folder = parts[1]
            if folder not in FLOORS:
                self.fail(path, 1, f"src/{folder} is not in the table of floors")
                return folder, {folder}
            return folder, set(FLOORS[folder][1].split()) | {folder}
        if parts[:2] == ["tests", "unit"] and parts[2] in FLOORS:
            # A unit test uses its folder, that folder's private headers too, what it may use, the
            # labs of unit tests ("unit/FOLDER/lab.h"), and the simulated world.
            own = {parts[2], "base", "lib", "sim", "unit"}
            return parts[2], set(FLOORS[parts[2]][1].split()) | own
        return None, set(FLOORS) | {"lib", "sim", "fuzz", "bench", "karst"}

    def check_system(self, path, number, name):
        parts = path.split(os.sep)
        if parts[0] != "src":
            return
        folder = parts[1]
        for pattern, homes in HOMES:
            if pattern.match(name) and folder not in homes:
                self.fail(path, number, f"<{name}> belongs to src/{'|'.join(sorted(homes)) or '-'}")
                return
        if folder in PURE and name not in PURE_SYSTEM | PURE_SYSTEM_OF.get(folder, set()):
            self.fail(path, number, f"<{name}> in src/{folder}, which only decides: use env")

    def check_own(self, path, number, name):
        home, allowed = self.home_of(path)
        parts = name.split("/")
        folder = parts[0]
        if name.endswith(".c"):
            self.fail(path, number, f'"{name}": a .c is never included')
        elif len(parts) == 1 and path.startswith("src" + os.sep + "client") and name == "karst.h":
            return
        elif len(parts) < 2:
            self.fail(path, number, f'"{name}" must be written "folder/{name}"')
        elif folder not in allowed:
            self.fail(path, number, f'"{name}": {home or path} may not include {folder}/')
        elif folder in FLOORS and folder != "proto":
            if not os.path.exists(os.path.join(self.root, "src", name)):
                self.fail(path, number, f'"{name}" does not exist')
            # Fuzzers are tests of decoders, private ones too.
            if home != folder and not path.startswith(os.path.join("tests", "fuzz")):
                self.public[folder].setdefault(name, f"{path}:{number}")
            if path.startswith("src" + os.sep) and path.endswith(".h"):
                self.graph[path[4:]].append(name)

    def check_first(self, path, names):
        """foo.c includes its own foo.h first, so that the header is known to stand alone."""
        parts = path.split(os.sep)
        if parts[0] != "src" or not path.endswith(".c"):
            return
        own = "/".join(parts[1:])[:-2] + ".h"
        if own in names and names[0] != own:
            self.fail(path, 1, f'"{own}" must be the first include')

    def check_public(self):
        for folder, headers in sorted(self.public.items()):
            if folder in MANY_HEADERS or len(headers) <= PUBLIC_HEADERS_MAX:
                continue
            self.fail(f"src/{folder}", 0, f"{len(headers)} headers are included from outside, "
                      f"at most {PUBLIC_HEADERS_MAX} may be public:")
            for name, where in sorted(headers.items()):
                print(f"    {name} (by {where})")

    def check_cycles(self):
        done, trail = set(), []

        def visit(header):
            if header in trail:
                self.fail("src/" + header, 0, "cycle: " + " -> ".join(
                    trail[trail.index(header):] + [header]))
                return
            if header in done:
                return
            trail.append(header)
            for other in self.graph.get(header, []):
                visit(other)
            trail.pop()
            done.add(header)

        for header in sorted(self.graph):
            visit(header)

    def check_table(self):
        for folder, (floor, needs) in FLOORS.items():
            for other in needs.split():
                if FLOORS[other][0] >= floor:
                    self.fail("tools/check_includes.py", 0, f"{folder} stands not above {other}")

    def run(self):
        self.check_table()
        files = 0
        for path in sources(self.root):
            files += 1
            names = []
            for number, is_system, name in includes(self.root, path):
                names.append(name)
                if is_system:
                    self.check_system(path, number, name)
                else:
                    self.check_own(path, number, name)
            self.check_first(path, names)
        self.check_public()
        self.check_cycles()
        print(f"{files} files, {self.failed} offences")
        return 1 if self.failed or files == 0 else 0


if __name__ == "__main__":
    sys.exit(Checker(sys.argv[1] if len(sys.argv) > 1 else ".").run())
