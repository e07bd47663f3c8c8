#!/usr/bin/env bash
# nbformat 5.11.1, jsonschema 4.26.0, rfc3987-syntax 1.1.0, lark 1.3.1 (Python 3.11, Linux):
# `import nbformat` takes several times longer where a Jupyter server is installed.
#
# Behaviour: nbformat imports jsonschema. jsonschema imports, if they are there, the packages that
# check formats of strings. Jupyter servers bring them (jupyter-events asks for
# jsonschema[format-nongpl]), rfc3987-syntax among them, and that one builds the parsers of its
# grammar for internationalised addresses while it is imported. So every process that reads a
# notebook pays for addresses that no notebook has, and only on machines with a server: a bare
# environment does not show it.
#
# Seen (one machine; the ratio is what is checked):
#   import nbformat, alone:                      0.1 s
#   import nbformat, with the format checkers:   1.0 s, most of it in rfc3987_syntax
#
# Exits with 1 if rfc3987_syntax is no longer imported, or no longer more than half of it all.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
measure() {
  "$folder/venv/bin/python" -c 'import nbformat'  # once, so that everything is compiled
  "$folder/venv/bin/python" - "$1" <<'PYTHON'
import re
import subprocess
import sys

command = [sys.executable, "-X", "importtime", "-c", "import nbformat"]
runs = []
for _ in range(5):
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    rows = re.findall(r"import time:\s+\d+ \|\s+(\d+) \| +(\S+)", report)
    times = {name: int(microseconds) / 1e6 for microseconds, name in rows}
    runs.append((times["nbformat"], times.get("rfc3987_syntax", 0.0)))
whole, part = sorted(runs)[2]
print(f"{sys.argv[1]}: {whole:.2f} s, of it {part:.2f} s in rfc3987_syntax")
# A package that is looked for and not there takes some microseconds too.
as_told = part < 0.01 if sys.argv[1] == "alone" else part > whole / 2
sys.exit(0 if as_told else 1)
PYTHON
}
pip "nbformat==5.11.1" "jsonschema==4.26.0"
measure alone
pip "jsonschema[format-nongpl]==4.26.0" "rfc3987-syntax==1.1.0" "lark==1.3.1"
measure "with the format checkers"
