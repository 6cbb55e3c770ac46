#!/usr/bin/env bash
# Installs this repository with the tested versions of what it needs, and makes `python` the interpreter that has them.
# Uses the active virtual environment, otherwise `.venv` in the repository. Returns at once if nothing changed.
#
#   source tools/set_up.sh EXTRAS      EXTRAS as in setup.py, separated by commas: all,tests
set -euo pipefail

say() { echo "[set-up] $*" >&2; }

fail() {
  say "$*"
  exit 1
}

# Prints a Python that can make our environment. Asks each by running it: a name on the PATH may be an empty shim.
find_python() {
  local candidate
  for candidate in python3.11 python3.12 python3.10 python3 python; do
    if "$candidate" -c "import ensurepip, venv; $is_supported" >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  fail "found no Python 3.10, 3.11 or 3.12 with venv. Install one (Debian, Ubuntu: apt-get install python3-venv)," \
    "or activate a virtual environment that has one, and run this again."
}

# Puts the environment's Python first on the PATH, making `.venv` if no environment is active.
enter_environment() {
  local python
  if [[ -z ${VIRTUAL_ENV:-} ]]; then
    export VIRTUAL_ENV=$root/.venv
    if [[ ! -x $VIRTUAL_ENV/bin/python ]]; then
      python=$(find_python)
      say "making the virtual environment $VIRTUAL_ENV with $python"
      "$python" -m venv "$VIRTUAL_ENV"
    fi
  fi
  export PATH=$VIRTUAL_ENV/bin:$PATH
  "$VIRTUAL_ENV/bin/python" -c "$is_supported" 2>/dev/null ||
    fail "$VIRTUAL_ENV has no Python 3.10, 3.11 or 3.12. Deactivate it to use .venv, or activate another one."
}

# Changes whenever an installation made before no longer fits.
fingerprint() {
  { echo "$root" && cat constraints.txt setup.py pyproject.toml tools/set_up.sh; } | cksum
}

is_installed() {
  local extra
  [[ -e mmsnnet/.mim/tools ]] || return 1 # the installation links to it, and `git clean` removes it
  for extra in ${extras//,/ }; do
    [[ -f $VIRTUAL_ENV/.mmsnnet-$extra && $(<"$VIRTUAL_ENV/.mmsnnet-$extra") == "$(fingerprint)" ]] || return 1
  done
}

remember_installed() {
  local extra
  for extra in ${extras//,/ }; do
    fingerprint >"$VIRTUAL_ENV/.mmsnnet-$extra"
  done
}

install() {
  local pip=(python -m pip install -qq --disable-pip-version-check --constraint constraints.txt)
  python -m pip --version >/dev/null 2>&1 || python -m ensurepip >/dev/null
  say "installing mmsnnet[$extras] into $VIRTUAL_ENV (the first time this takes minutes: PyTorch is large)"
  "${pip[@]}" --editable ".[$extras]"
  if python -m pip show --quiet opencv-python 2>/dev/null && ! python -c 'import cv2' 2>/dev/null; then
    say "OpenCV finds no libGL here: putting its headless build over it"
    "${pip[@]}" --force-reinstall --no-deps opencv-python-headless
  fi
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
extras=${1:?which extras? For example: source tools/set_up.sh all,tests}
is_supported='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'

cd "$root"
enter_environment
if ! is_installed; then
  install
  remember_installed
  say "done"
fi
