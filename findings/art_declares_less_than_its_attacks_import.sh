#!/usr/bin/env bash
# adversarial-robustness-toolbox (ART) 1.20.1, Python 3.11, Linux: with all that ART declares
# installed, and nothing else, none of its attacks can be imported.
#
# Behaviour: `from art.attacks.evasion import FastGradientMethod` loads the estimators of every
# framework, and one of those imports `packaging`, which ART's metadata does not name. Most people
# never see it, because most environments hold packaging for another package's sake; a minimal
# container, or a check of one's own declared needs, does. With packaging the import works, without
# any deep-learning framework.
#
# Seen:
#   declared only:     ModuleNotFoundError: No module named 'packaging'
#   with packaging:    imported
#
# Exits with 1 if one of the two changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
install() { "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
python() { "$folder/venv/bin/python" "$@" 2>&1 | tail -n 1 || true; } # it may fail, and says how

install adversarial-robustness-toolbox==1.20.1
declared=$(python -c "from art.attacks.evasion import FastGradientMethod; print('imported')")
echo "declared only:     $declared"
install packaging==26.0
more=$(python -c "from art.attacks.evasion import FastGradientMethod; print('imported')")
echo "with packaging:    $more"
[[ $declared == "ModuleNotFoundError: No module named 'packaging'" ]]
[[ $more == imported ]]
