#!/usr/bin/env bash
# nbgrader 0.9.6 (Python 3.11, Linux) gives all points to a graded cell whose partial credit is a
# number of NumPy 2.4.6; with NumPy 1.26.4 the same cell gives the part.
#
# Behaviour: the result of an autograded cell counts as partial credit if its text is a number.
# NumPy 2 writes its scalars with their type, np.float64(0.5), which is no number to nbgrader, and a
# result that is no number counts as all points. Nothing is logged. So a test cell that ends with the
# mean of what passed, computed by NumPy, gives everybody full marks after an update of NumPy alone.
# float(...) around it gives the part with both.
#
# Seen (cells of 1 point, executed by nbclient, graded by nbgrader.utils.determine_grade):
#   NumPy 1.26.4   numpy.mean([1, 0]) 0.5 of 1.0   float(numpy.mean([1, 0])) 0.5 of 1.0
#   NumPy 2.4.6    numpy.mean([1, 0]) 1.0 of 1.0   float(numpy.mean([1, 0])) 0.5 of 1.0
#
# Exits with 1 if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/grade.py" <<'PYTHON'
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.utils import determine_grade

for result in ("numpy.mean([1, 0])", "float(numpy.mean([1, 0]))"):
    about = {"grade": True, "grade_id": "one", "locked": True, "points": 1, "schema_version": 3,
             "solution": False, "task": False, "cell_type": "code"}
    cell = new_code_cell(f"import numpy\n{result}", metadata={"nbgrader": about})
    NotebookClient(new_notebook(cells=[cell])).execute()
    points, of = determine_grade(cell)
    print(f"{result} {points} of {of}", end="   ")
print()
PYTHON
python3 -m venv "$folder/env"
export HOME="$folder" JUPYTER_PLATFORM_DIRS=1
for release in 1.26.4 2.4.6; do
  "$folder/env/bin/pip" install --quiet --disable-pip-version-check \
    nbgrader==0.9.6 ipykernel==7.4.0 nbclient==0.11.0 "numpy==$release" 2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 1; }
  told=$("$folder/env/bin/python" "$folder/grade.py" 2> "$folder/errors") || { cat "$folder/errors"; exit 1; }
  echo "NumPy $release   $told"
  case $release in
    1.*) [[ "$told" == "numpy.mean([1, 0]) 0.5 of 1.0   float(numpy.mean([1, 0])) 0.5 of 1.0"* ]] ;;
    *) [[ "$told" == "numpy.mean([1, 0]) 1.0 of 1.0   float(numpy.mean([1, 0])) 0.5 of 1.0"* ]] ;;
  esac
done
