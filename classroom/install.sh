#!/bin/sh
# Set up a class on this server: run as the superuser, in a checkout of the course.
#
#   sh classroom/install.sh [FILE]
#
# FILE has a line for each person: a name, and `teacher` after it for a teacher. Accounts that are
# missing are made; passwords are yours to give (`passwd NAME`, or `chpasswd` for all). Running it
# again updates the course and leaves what learners and teachers have made as it is.
#
# Needed before: Python 3.10 or newer with venv, git, Node.js with npm.
# PYTHON, ADVLEARN_ENV, ADVLEARN_CLASS_DIR and ADVLEARN_SOCKET say otherwise where things are, and
# ADVLEARN_SERVICES=no leaves systemd alone.
set -eu
umask 022

HERE=$(CDPATH='' cd "$(dirname "$0")" && pwd)
ENVIRONMENT=${ADVLEARN_ENV:-/opt/advlearn}
SHARED=${ADVLEARN_CLASS_DIR:-/srv/advlearn}
SOCKET=${ADVLEARN_SOCKET:-/run/advlearn/kernels}
PYTHON=${PYTHON:-python3}

[ "$(id -u)" = 0 ] || { echo "Run this as the superuser." >&2; exit 1; }
[ -z "${1-}" ] || [ -r "$1" ] || { echo "$1 cannot be read." >&2; exit 1; }
for program in "$PYTHON" npm useradd; do
  command -v "$program" > /dev/null || { echo "$program is missing: install it first." >&2; exit 1; }
done

# One environment for all. PyTorch's CPU build is a tenth of the other, and what a class needs.
"$PYTHON" -m venv "$ENVIRONMENT"
pip() { "$ENVIRONMENT/bin/python" -m pip --disable-pip-version-check install --quiet "$@"; }
if [ "${TORCH-}" = cpu ]; then
  pip torch torchvision --index-url https://download.pytorch.org/whl/cpu
fi
pip "$HERE/..[lab]" "jupyterhub>=5" jupyterhub-idle-culler nbgitpuller jupyterhub-systemdspawner
command -v configurable-http-proxy > /dev/null || npm install --global --silent configurable-http-proxy

# The course's own programs for a hub.
mkdir -p "$ENVIRONMENT/classroom"
cp "$HERE/jupyterhub_config.py" "$HERE/start.py" "$HERE/hand_in.py" "$ENVIRONMENT/classroom/"
printf '#!/bin/sh\nexec "%s/bin/python" "%s/classroom/hand_in.py" "$@"\n' \
  "$ENVIRONMENT" "$ENVIRONMENT" > "$ENVIRONMENT/bin/hand-in"
chmod 755 "$ENVIRONMENT/bin/hand-in"

# What is shared. `handed-in` may be passed through, not listed; each learner has a folder in it.
groupadd --force learners
groupadd --force teachers
mkdir -p "$SHARED/data" "$SHARED/handed-in" "$SHARED/teachers"
chown root:root "$SHARED" "$SHARED/data"
chmod 755 "$SHARED" "$SHARED/data"
chown root:teachers "$SHARED/handed-in" "$SHARED/teachers"
chmod 751 "$SHARED/handed-in"
chmod 2770 "$SHARED/teachers"

# The kernel that the lessons ask for, forked from the parent.
"$ENVIRONMENT/bin/advlearn" class kernels install --name python3 \
  --into "$SHARED/jupyter/kernels" --socket "$SOCKET"

# Accounts, with homes that nobody else can open.
if [ -n "${1-}" ]; then
  while read -r name role rest || [ -n "$name" ]; do
    case $name in ''|'#'*) continue ;; esac
    group=learners
    [ "$role" = teacher ] && group=teachers
    id "$name" > /dev/null 2>&1 || useradd --create-home --shell /bin/bash "$name"
    usermod --append --groups "$group" "$name"
    chmod 700 "$(getent passwd "$name" | cut -d: -f6)"
  done < "$1"
fi

if [ -d /run/systemd/system ] && [ "${ADVLEARN_SERVICES-}" != no ]; then
  sed "s|/opt/advlearn|$ENVIRONMENT|g; s|/run/advlearn/kernels|$SOCKET|g" \
    "$HERE/advlearn-kernels.service" \
    > /etc/systemd/system/advlearn-kernels.service
  sed "s|/opt/advlearn|$ENVIRONMENT|g; /^\[Service\]/a Environment=ADVLEARN_CLASS_DIR=$SHARED" \
    "$HERE/jupyterhub.service" > /etc/systemd/system/jupyterhub.service
  systemctl daemon-reload
  systemctl enable --quiet advlearn-kernels jupyterhub
  systemctl restart advlearn-kernels jupyterhub
  echo "The hub is at http://127.0.0.1:8000. Put HTTPS before it: classroom/README.md."
else
  echo "Start, as the superuser:"
  echo "  mkdir -p $(dirname "$SOCKET") && $ENVIRONMENT/bin/advlearn class kernels serve --socket $SOCKET &"
  echo "  $ENVIRONMENT/bin/jupyterhub -f $ENVIRONMENT/classroom/jupyterhub_config.py"
fi
