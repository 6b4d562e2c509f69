#!/usr/bin/python3
"""libkarst.so shows the functions of karst.h, all of them and nothing else.

Usage: check_exports.py LIBRARY HEADER
"""
import re
import subprocess
import sys

library, header = sys.argv[1:]
with open(header, encoding="utf-8") as file:
    text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
declared = set(re.findall(r"KARST_API[^;]*?\b(karst_\w+)\s*\(", text))
lines = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True,
                       text=True).stdout.split("\n")
shown = {line.split()[-1].split("@")[0] for line in lines if " A " not in line and line.strip()}
for name in sorted(declared - shown):
    print(f"{name} is declared in karst.h and not exported: add it to karst.map")
for name in sorted(shown - declared):
    print(f"{name} is exported and not in karst.h")
print(f"{len(shown)} functions")
sys.exit(0 if declared == shown and len(shown) > 20 else 1)
