#!/usr/bin/env bash
# Train in a Slurm job, eight GPUs a machine unless GPUS_PER_NODE says otherwise.
#   bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG NUM_RANKS [arguments of tools/train.py]
set -euo pipefail
partition=$1
job_name=$2
config=$3
num_ranks=$4
ranks_per_node=${GPUS_PER_NODE:-8}
if [ "$num_ranks" -lt "$ranks_per_node" ]; then ranks_per_node=$num_ranks; fi
# shellcheck disable=SC2086  # SRUN_ARGS are several words.
srun --partition="$partition" --job-name="$job_name" --ntasks="$num_ranks" --ntasks-per-node="$ranks_per_node" \
    --gres="gpu:$ranks_per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    python -u "$(dirname "$0")/train.py" "$config" --launcher slurm "${@:5}"
