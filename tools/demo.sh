#!/usr/bin/env bash
# Installs the project and serves the demo of the quickstart's model, training that first if it is not there yet.
# Arguments go to tools/demo.py: bash tools/demo.sh --port 7861
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/set_up.sh all,demo
model=work_dirs/stitched-shapes
if [[ ! -f $model/latency/stitches.json ]]; then
  python tools/quickstart.py
  python tools/benchmark.py "$model.py" "$model/iter_500.pth" --latency --out "$model/latency"
fi
python tools/demo.py "$model.py" "$model/iter_500.pth" --records "$model/latency/stitches.json" "$@"
