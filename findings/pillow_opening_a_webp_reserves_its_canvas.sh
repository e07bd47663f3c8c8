#!/usr/bin/env bash
# Pillow 13.0.0 (Python 3.11, Linux): opening a WebP image reserves eight bytes for each of its
# pixels, before a pixel is asked for; opening a PNG, JPEG or GIF of the same size reserves nothing.
#
# Behaviour: Image.open is lazy for most formats: it reads the head, so that a program can look at
# `.size` and refuse a picture that is too large before it costs memory. For WebP it makes the
# decoder of animations at once, also for a picture of one frame, and that makes room for two whole
# canvases of four bytes a pixel. Where memory is only counted once it is written to, nothing is
# seen; under a limit of the address space, or on a system that counts what is reserved, looking at
# the size of a file of a few kilobytes fails or takes hundreds of megabytes. A check of
# `Image.open(f).size` therefore comes too late for WebP: the size has to be read from the file.
#
# Seen (one grey picture of 6,000 x 6,000 pixels; reserved by Image.open, then by load):
#   format  bytes of the file  open (MB)  load (MB)
#   PNG                48,318          0         36
#   JPEG              422,205          0         36
#   GIF                26,843          0         36
#   WEBP               64,066        288        144
#
# Exits with 1 if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import subprocess
import sys

folder, side = sys.argv[1], 6000
one = """
import sys
from PIL import Image
Image.init()
def reserved():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmSize")) * 1024 / 1e6
start = reserved()
opened = Image.open(sys.argv[1])
size = opened.size
middle = reserved()
opened.load()
print(round(middle - start), round(reserved() - middle), *size)
"""
make = """
import sys
from PIL import Image
Image.new("L", (int(sys.argv[2]),) * 2, 128).save(sys.argv[1], sys.argv[1].rsplit(".")[-1])
"""
found = {}
for form in ("PNG", "JPEG", "GIF", "WEBP"):
    path = f"{folder}/one.{form}"
    subprocess.run([sys.executable, "-c", make, path, str(side)], check=True)
    told = subprocess.run([sys.executable, "-c", one, path], check=True, capture_output=True)
    opened, loaded, width, height = map(int, told.stdout.split())
    assert (width, height) == (side, side)
    size = len(open(path, "rb").read())
    print(f"{form:5}{size:12,} bytes   open {opened:4} MB   load {loaded:4} MB")
    found[form] = opened
assert found["WEBP"] > 7 * side * side / 1e6
assert all(found[form] < 10 for form in ("PNG", "JPEG", "GIF"))
PYTHON
