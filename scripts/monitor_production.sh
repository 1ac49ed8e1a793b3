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
fi
exec "${monitor[@]}" --runs-dir "${RUNS_DIR:-runs}" "$@"
