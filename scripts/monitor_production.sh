#!/usr/bin/env bash
# Opens the monitor on the pipeline's runs. Further options go to `train-monitor`:
#   ./scripts/monitor_production.sh --json
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

monitor=(train-monitor)
if [[ -n ${PYTHON:-} ]]; then
    monitor=("$PYTHON" -m monitor)
elif [[ -x .venv/bin/python ]]; then
    monitor=(.venv/bin/python -m monitor)
elif ! command -v train-monitor >/dev/null; then
    echo "train-monitor is not on the PATH: run make setup, or set PYTHON to a Python that has it." >&2
    exit 2
fi
exec "${monitor[@]}" --runs-dir "${RUNS_DIR:-runs}" "$@"
