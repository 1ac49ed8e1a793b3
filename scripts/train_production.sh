#!/usr/bin/env bash
# The production guide's script: prepare, train, tune with RL, evaluate, export and serve, as one
# unit. Started again, it continues. Further options go to `trainer pipeline`:
#   ./scripts/train_production.sh --dry-run
#   BATCH_SIZE=4 TARGET_STEPS=20000 ./scripts/train_production.sh --detach
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CONFIG=${CONFIG:-configs/production.yaml}

# Unset variables leave what CONFIG says: for configs/production.yaml the guide's
# BATCH_SIZE=2 TARGET_STEPS=15000 CHECKPOINT_INTERVAL=500 RL_ITERATIONS=1000 DEVICE=auto
options=()
[[ -z ${BATCH_SIZE:-} ]] || options+=(--batch-size "$BATCH_SIZE")
[[ -z ${TARGET_STEPS:-} ]] || options+=(--target-steps "$TARGET_STEPS")
[[ -z ${CHECKPOINT_INTERVAL:-} ]] || options+=(--checkpoint-interval "$CHECKPOINT_INTERVAL")
[[ -z ${RL_ITERATIONS:-} ]] || options+=(--rl-iterations "$RL_ITERATIONS")
[[ -z ${DEVICE:-} ]] || options+=(--device "$DEVICE")
# The guide's base model: BASE_CHECKPOINT=checkpoints/rust-6hour/step_2000
if [[ -n ${BASE_CHECKPOINT:-} ]]; then
    options+=(--set "supervised.checkpoint.begin_from=$BASE_CHECKPOINT")
    options+=(--set supervised.checkpoint.begin_with=state)
fi

trainer=(trainer)
if [[ -n ${PYTHON:-} ]]; then
    trainer=("$PYTHON" -m trainer)
elif [[ -x .venv/bin/python ]]; then
    trainer=(.venv/bin/python -m trainer)
elif ! command -v trainer >/dev/null; then
    echo "trainer is not on the PATH: run make setup, or set PYTHON to a Python that has it." >&2
    exit 2
fi
exec "${trainer[@]}" pipeline --config "$CONFIG" "${options[@]}" "$@"
