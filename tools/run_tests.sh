#!/usr/bin/env bash
# Sets up an environment and runs the tests in it, on all cores up to eight. Arguments go to pytest: bash tools/run_tests.sh -k route
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/set_up.sh all,demo,tests,docs
python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal "$@"
