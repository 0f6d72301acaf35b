#!/bin/bash
# sbatch trainer/configs/slurm.sh trainer/configs/NAME.yaml OUTPUT_DIR [--key value ...]
#
# An example for SLURM: one task per node, which starts a process per GPU. It goes on from the newest checkpoint in
# OUTPUT_DIR, also after a preemption or at the time limit, and queues itself again until the training is finished.
# Set PYTHON to the environment's interpreter, ACCELERATE_CONFIG for FSDP2 instead of DDP.
#SBATCH --job-name=spectra-sum
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Time to finish the running step and to save before the job is killed.
#SBATCH --signal=TERM@600
set -u

config=${1:?the training config is missing: sbatch trainer/configs/slurm.sh CONFIG.yaml OUTPUT_DIR}
output=${2:?the output folder is missing: sbatch trainer/configs/slurm.sh CONFIG.yaml OUTPUT_DIR}
shift 2
python=${PYTHON:-python}
accelerate_config=${ACCELERATE_CONFIG:-trainer/configs/accelerate/ddp.yaml}

# Without the file that is written last, a checkpoint is torn, and no reason to go on. The trainer gives one that was set
# aside to be written again (.checkpoint-N.replaced) its name back.
newest() { ls -d "$@" 2>/dev/null | sort -V | tail -n 1; }
newest_checkpoint() { newest "$output"/checkpoint-*/trainer_state.json; }

start=$(newest_checkpoint)
resume=()
if [ -n "$start$(newest "$output"/.checkpoint-*.replaced/trainer_state.json)" ]; then
    resume=(--resume_from_checkpoint latest)
fi
export HEAD_NODE PROCESSES
HEAD_NODE=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
PROCESSES=$((SLURM_NNODES * SLURM_GPUS_ON_NODE))
# The trainers save at SIGTERM. With most clusters' process tracking SLURM sends it to the task below alone, which passes it
# on to them. The launcher must not take notice: it would kill the trainers 30 seconds later, in the middle of saving. The
# variable is torchrun's --signals_to_handle, which accelerate lacks.
export PET_SIGNALS_TO_HANDLE=SIGINT
# Of sbatch's --cpus-per-task, srun knows nothing by itself.
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi
# shellcheck disable=SC2016
srun bash -c 'python=$1 accelerate_config=$2; shift 2
    command -v pkill >/dev/null || { echo "pkill is missing: install procps in the image" >&2; exit 1; }
    (
        trap "" TERM
        exec "$python" -m accelerate.commands.launch --config_file "$accelerate_config" \
            --num_machines "$SLURM_NNODES" --machine_rank "$SLURM_NODEID" --num_processes "$PROCESSES" \
            --main_process_ip "$HEAD_NODE" --main_process_port $((20000 + SLURM_JOB_ID % 10000)) \
            trainer/train.py "$@"
    ) &
    launcher=$!
    # The trainers are its children; a signal interrupts the wait.
    trap "signalled=1; pkill -TERM -P $launcher" TERM
    signalled=1
    while [ -n "$signalled" ]; do signalled=; wait "$launcher"; status=$?; done
    exit "$status"' task "$python" "$accelerate_config" --config "$config" --output_dir "$output" \
    "$@" "${resume[@]}"
status=$?

# No new checkpoint means that it failed by itself, and would fail again.
if [ "$status" -ne 0 ] && [ "$(newest_checkpoint)" != "$start" ]; then
    echo "stopped at $(dirname "$(newest_checkpoint)"); job $SLURM_JOB_ID is queued again"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
