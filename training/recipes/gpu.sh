#!/usr/bin/env bash
# What a GPU is wanted for, in one command: the bundled checkpoint trained in one run, evaluated, calibrated and released,
# then the grid of shared against separate encoders with three seeds. What is finished is not done again. From the
# repository's root:
#
#     bash training/recipes/gpu.sh DATA OUTPUT [BASE [TEACHER]]
#
# DATA is the root folder of the data (two files are added to it: squad/train-bm25.json.gz and squad/train-mined.json.gz),
# OUTPUT a folder to write, BASE a folder with all-MiniLM-L6-v2 where the hub can't be reached, TEACHER one with
# all-mpnet-base-v2, which is taught to read in runs/mpnet-reader for one variant of the grid. PYTHON may name another
# interpreter than `python`.
set -euo pipefail
data=${1:?"Name the root folder of the data."} output=${2:?"Name the folder to write."}
base=${3:-sentence-transformers/all-MiniLM-L6-v2} teacher=${4:-sentence-transformers/all-mpnet-base-v2}
recipe=training/recipes/rom-minilm-l6-gpu.yaml
model=$output/rom-minilm-l6/model
training() { "${PYTHON:-python}" -m training "$@"; }

mkdir -p "$output"
[ -e "$data/squad/train-bm25.json.gz" ] ||
    training convert-data "$data/squad/train" "$data/squad/train-bm25.json.gz" --to dpr --hard-negatives 7
[ -e "$data/squad/train-mined.json.gz" ] ||
    training mine "$data/squad/train" "$data/squad/train-mined.json.gz" --model "$base" --by model
[ -d "$model" ] || training train "$recipe" --data "$data" --encoder "$base" --output "$output/rom-minilm-l6"
[ -e "$output/evaluation.json" ] ||
    training evaluate "$model" --data "$data" --base "$base" --dtype bfloat16 --also-passages 5 \
        --further nq/train --further fairytaleqa/dev --report "$output/evaluation.json"
[ -e "$model/calibration.json" ] || training calibrate "$model" --data "$data"
training release "$recipe" --model "$model" --evaluation "$output/evaluation.json" --output "$output/release"
[ -d runs/mpnet-reader/model ] ||
    training train training/recipes/mpnet-reader.yaml --data "$data" --encoder "$teacher" --output runs/mpnet-reader ||
    echo "There is no teacher, so the grid's variant 'span distillation' will fail." >&2
training compare training/recipes/grids/rom-minilm-l6.yaml --data "$data" --encoder "$base" --output "$output/grid" \
    --seed 13 --seed 14 --seed 15
