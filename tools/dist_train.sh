#!/usr/bin/env bash
# Train on many GPUs of one machine, or on as many processes without any.
#   bash tools/dist_train.sh CONFIG NUM_RANKS [arguments of tools/train.py]
# On many machines: NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment of each.
set -euo pipefail
config=$1
num_ranks=$2
python -m torch.distributed.run \
    --nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}" --nproc_per_node "$num_ranks" \
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "${@:3}"
