#!/usr/bin/env bash
# nbgrader 0.9.6 with numpy 2.4.6, and with numpy 1.26.4 (Python 3.11, Linux): a test cell that ends
# with `np.mean(passed)` gives half the points with the older NumPy, and all of them with the newer.
#
# Behaviour: for partial credit nbgrader takes the value of the last line of a test cell. It reads it
# back from the text that the cell shows, by float(). Up to NumPy 1 a float64 shows itself as `0.5`;
# since NumPy 2 it does as `np.float64(0.5)`. That is no number for float(), and what is no number
# gets all points (with a warning in the log, at `autograde`). So a course whose tests were right for
# years gives everybody full marks after an upgrade of NumPy, and no command fails. What helps:
# float(...) around the last line. The same goes for `torch.tensor(0.5)`, with any version.
#
# Seen (two points; half of the checks passed):
#   numpy 1.26.4: the cell shows 0.5, the export says 0.5
#   numpy 2.4.6: the cell shows np.float64(0.5), the export says 2.0
#
# Exits with 1 if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
export PATH="$folder/venv/bin:$PATH" HOME="$folder"
pip() { "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }

try() {
  pip "numpy==$1"
  rm -rf "$folder/course"
  mkdir -p "$folder/course/source/ps1"
  cd "$folder/course"
  echo 'c = get_config(); c.CourseDirectory.course_id = "course"' > nbgrader_config.py
  python - <<'PYTHON'
import nbformat
from nbformat.v4 import new_code_cell, new_notebook


def about(name, **more):
    return {"nbgrader": {"schema_version": 3, "grade_id": name, "task": False, **more}}


answer = new_code_cell(
    "import numpy as np\npassed = np.array([True, False])",
    metadata=about("answer", grade=False, solution=True, locked=False),
)
test = new_code_cell(
    "np.mean(passed)", metadata=about("test", grade=True, solution=False, locked=True, points=2)
)
nbformat.write(new_notebook(cells=[answer, test]), "source/ps1/one.ipynb")
PYTHON
  python -m nbgrader generate_assignment ps1 > log.txt 2>&1
  mkdir -p submitted/kim/ps1
  cp source/ps1/one.ipynb submitted/kim/ps1/
  python -m nbgrader autograde ps1 >> log.txt 2>&1
  python -m nbgrader export --to grades.csv >> log.txt 2>&1
  python - "$1" "$2" "$3" <<'PYTHON'
import csv
import json
import sys

version, shown, points = sys.argv[1:]
cells = json.load(open("autograded/kim/ps1/one.ipynb"))["cells"]
(text,) = ["".join(o["data"]["text/plain"]) for o in cells[-1]["outputs"]]
(row,) = csv.DictReader(open("grades.csv"))
print(f"numpy {version}: the cell shows {text}, the export says {row['score']}")
sys.exit((text, row["score"]) != (shown, points))
PYTHON
}
pip "nbgrader==0.9.6" "ipykernel==7.4.0"
try 1.26.4 "0.5" "0.5"
try 2.4.6 "np.float64(0.5)" "2.0"
