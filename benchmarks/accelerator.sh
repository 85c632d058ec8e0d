#!/usr/bin/env bash
# The whole table on one accelerator, at most ten minutes: forms of the step, epoch, trace,
# evaluation, and a training of mini-COCO. What is cut off by the limit has left its file.
#
#     benchmarks/accelerator.sh OUTPUT [DATA]
#
# DATA holds coco_train_small384 and coco_val2017_visible150 (docs/results.md); without it the
# evaluation and the training are left out. It has not been run yet.
set -u
cd "$(dirname "$0")/.."
output=${1:?"usage: benchmarks/accelerator.sh OUTPUT [DATA]"} data=${2:-}
export PYTHONPATH=src
mkdir -p "$output"

within() {  # SECONDS NAME COMMAND...: a limit for each, and a log that stays
  local seconds=$1 name=$2
  shift 2
  echo "== $name"
  timeout "$seconds" "$@" 2>&1 | tee "$output/$name.txt" | tail -n 20
}

within 20 doctor python -m simplepose doctor
within 100 step python benchmarks/train_step.py --preset coco_r50_256x192_modern \
  --batch-size 32 --output "$output/step32.json"
within 100 step128 python benchmarks/train_step.py --preset coco_r50_256x192_modern \
  --batch-size 128 --output "$output/step128.json"
for compile in off on graphs; do
  within 60 "epoch_$compile" python benchmarks/train_epoch.py --people 20000 \
    --batch-sizes 32 128 --steps 30 --compile "$compile" --output "$output/epoch_$compile.json"
done
[ -n "$data" ] || exit 0
train=(--data.train-annotations "$data/coco_train_small384/person_keypoints_train_small384.json"
  --data.train-images "$data/coco_train_small384/images" --train.evaluate-every 0)
within 30 profile python -m simplepose train coco_r50_256x192_modern "${train[@]}" --profile
within 110 mini python -m simplepose train coco_r50_256x192_modern "${train[@]}" \
  --train.epochs 4 --augment.weak-epochs 0 --train.compile on --output "$output/mini"
within 30 evaluate python -m simplepose evaluate "$output/mini" --boxes gt \
  --annotations "$data/coco_val2017_visible150/person_keypoints_val2017_visible150.json" \
  --images "$data/coco_val2017_visible150/val2017"
