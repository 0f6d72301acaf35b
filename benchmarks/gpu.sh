#!/usr/bin/env bash
# All rows that need a GPU, one after the other in some 12 minutes of one card of the H200's class:
#
#     benchmarks/gpu.sh runs/gpu
#
# A minute of tiny models comes first, so that what fails on a GPU alone fails early. Each row has its own limit of time; one
# that fails or takes too long leaves its log, and the next one begins. Rows whose result is there are not measured again.
# PYTHON names another interpreter than .venv/bin/python. DEVICE=cpu tries the script without a GPU: its first rows alone, of
# models for tests, in five times the time.
set -u
cd "$(dirname "$0")/.."
output=${1:?usage: benchmarks/gpu.sh FOLDER}
python=${PYTHON:-.venv/bin/python}
device=${DEVICE:-cuda}
mkdir -p "$output"
failed=()
if [ "$device" = cpu ]; then smoke=test patience=5; else smoke=tiny patience=1; fi

# row NAME SECONDS SCRIPT OPTIONS...: writes NAME.json.
row() {
    local name=$1 limit=$(($2 * patience)) script=$3
    shift 3
    if [ -f "$output/$name.json" ]; then
        echo "$name: there"
        return
    fi
    local started=$SECONDS
    if timeout "$limit" "$python" "benchmarks/$script" "$@" --device "$device" --output "$output/$name.json" >"$output/$name.log" 2>&1; then
        echo "$name: $((SECONDS - started)) s"
    else
        echo "$name: failed or over its $limit s, see $output/$name.log"
        failed+=("$name")
    fi
}

row smoke_overhead 40 overhead.py --size "$smoke" --samples 1 --warmups 0 --images 2 --text-tokens 128 --new-tokens 4 --new-modules-4bit --no-memory
row smoke_compiled 70 overhead.py --size "$smoke" --samples 1 --warmups 1 --images 2 --text-tokens 128 --new-tokens 4 --variants DVP --compile --no-memory
row smoke_training 40 training.py --size "$smoke" --turns 1 --warmups 0 --images 2 --text-tokens 128 --no-memory
row smoke_teacher 20 dpp_teacher.py --sets 500

if [ "$device" != cpu ]; then
    row overhead_7b 190 overhead.py --size 7b --samples 5 --warmups 1 --new-modules-4bit --variants OneVision "Vision Sampler" DVP "Vision Sampler, NF4" "DVP, NF4"
    row overhead_7b_compiled 130 overhead.py --size 7b --samples 5 --warmups 1 --variants OneVision DVP --compile
    row overhead_0_5b 70 overhead.py --size 0.5b --samples 5 --warmups 1 --variants OneVision "Vision Sampler" DVP
    row training_7b 90 training.py --size 7b --turns 3
    row training_0_5b 40 training.py --size 0.5b --turns 4
    row dpp_teacher 20 dpp_teacher.py
fi

if [ ${#failed[@]} -gt 0 ]; then
    echo "${#failed[@]} rows failed: ${failed[*]}"
    exit 1
fi
echo "All rows are in $output."
