#!/usr/bin/python3
"""Small rules of style that a compiler doesn't know. Usage: tidy.py [ROOT]; one line an offence."""
import os
import re
import sys

LINE_MAX = 100
FILE_LINES_MAX = 800
CODE = (".c", ".h", ".py", ".build", ".proto", ".sh", ".conf")
NAMED = {"run", "quickstart", "cluster", "bootstrap", "fresh", "install-packages",
         "swarm", "hunt", "meson_options.txt"}
PURE = "record wire log metadata controller replica group txn auth quorum shard".split()

# Deciding code has no clock, chance, file, socket, thread or exit; these come through env.
WORLD = """time clock clock_gettime gettimeofday localtime gmtime rand random srand rand_r
    drand48 getrandom open openat creat close read write pread pwrite readv writev fopen fclose
    fread fwrite fsync fdatasync rename unlink mkdir opendir stat fstat mmap socket bind listen
    accept connect send recv sendmsg recvmsg poll select epoll_wait fork system getenv setenv
    printf fprintf puts putchar perror exit _exit abort sleep usleep nanosleep signal
    sigaction""".split()
# Nowhere in src/: no bound, no error, or not ours (ASSERT stays on, and logs where).
NEVER = "gets strcpy strcat sprintf vsprintf strtok atoi atol atoll alloca assert".split()
MARKS = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"]) + r")\b")


def call_of(names):
    """A plain call; not a member (env->disk.read(...)) nor the end of a longer name."""
    return re.compile(r"(?<![\w.>])(" + "|".join(names) + r")\s*\(")


WORLD_CALL = call_of(WORLD)
THREAD_CALL = re.compile(r"\b(pthread|thrd|mtx|cnd)_\w+\s*\(")
NEVER_CALL = call_of(NEVER)
NOT_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def files_of(root):
    for path, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders
                            if f == ".ci" or not f.startswith((".", "_", "build")))
        for name in sorted(files):
            if name.endswith(CODE) or name in NAMED:
                yield os.path.relpath(os.path.join(path, name), root)


class Tidy:
    def __init__(self, root):
        self.root = root
        self.failed = 0
        self.text = {}
        for path in files_of(root):
            with open(os.path.join(root, path), encoding="utf-8") as file:
                self.text[path] = file.read()

    def fail(self, path, number, message):
        self.failed += 1
        print(f"{path}:{number}: {message}")

    def check_lines(self, path, text):
        lines = text.split("\n")
        if lines[-1] != "":
            self.fail(path, len(lines), "no newline at the end of the file")
        if len(lines) > FILE_LINES_MAX + 1:
            self.fail(path, len(lines), f"over {FILE_LINES_MAX} lines: cut the file where it bends")
        if lines[0].startswith("#!") and "python" in lines[0] and lines[0] != "#!/usr/bin/python3":
            self.fail(path, 1, "the shebang of Python is #!/usr/bin/python3")
        for number, line in enumerate(lines, 1):
            if len(line) > LINE_MAX:
                self.fail(path, number, f"{len(line)} columns, over {LINE_MAX}")
            if "\t" in line:
                self.fail(path, number, "a tab")
            if line != line.rstrip():
                self.fail(path, number, "white space at the end of the line")
            if MARKS.search(line):
                self.fail(path, number, "finish it, or file an issue")

    def check_calls(self, path, text):
        parts = path.split(os.sep)
        if parts[0] != "src" or not path.endswith((".c", ".h")):
            return
        for number, line in enumerate(NOT_CODE.sub(blank, text).split("\n"), 1):
            for match in NEVER_CALL.finditer(line):
                self.fail(path, number, f"{match.group(1)}() is not used in Karst")
            if parts[1] not in PURE or line.lstrip().startswith("#"):
                continue
            for match in WORLD_CALL.finditer(line):
                self.fail(path, number, f"{match.group(1)}() in src/{parts[1]}, which only decides")
            if THREAD_CALL.search(line):
                self.fail(path, number, f"threads in src/{parts[1]}, which has none")

    def check_dead(self, path):
        """A .c is in a meson.build; a .h is included by something."""
        folder, name = os.path.split(path)
        if name.endswith(".h"):
            tail = "/".join(path.split(os.sep)[-2:])
            if not any(f'/{tail}"' in text or f'"{tail}"' in text or f'"{name}"' in text
                       for other, text in self.text.items() if other != path):
                self.fail(path, 1, "nothing includes it")
            return
        names = [f"{name}'"]
        if path.startswith("tests" + os.sep) and name.startswith(("test_", "fuzz_")):
            names.append(f"'{name[5:-2]}'")  # lists of tests leave out what is the same in all
        while True:
            build = self.text.get(os.path.join(folder, "meson.build"), "")
            if any(n in build for n in names):
                return
            if folder == "":
                break
            folder = os.path.dirname(folder)
        self.fail(path, 1, "no meson.build compiles it")

    def run(self):
        for path, text in self.text.items():
            self.check_lines(path, text)
            self.check_calls(path, text)
            if path.endswith((".c", ".h")):
                self.check_dead(path)
        print(f"{len(self.text)} files, {self.failed} offences")
        return 1 if self.failed or not self.text else 0


if __name__ == "__main__":
    sys.exit(Tidy(sys.argv[1] if len(sys.argv) > 1 else ".").run())
