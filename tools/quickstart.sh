#!/usr/bin/env bash
# Installs the project and runs the main job: train two small ViTs, stitch them, train eight routes between them, and
# evaluate these. On drawn shapes by default; on CamVid with --data camvid --data-root PATH. --fresh starts all over.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/set_up.sh all
python tools/quickstart.py "$@"
