#!/usr/bin/env bash
# Measures all that docs/performance.md tells of, on the GPUs of one host: forwards on one GPU and on
# all of them, the VAE, loading, a clip over HTTP. Rows go to docs/benchmarks, and the page is generated
# from them. A part that runs over its time is ended, and the rest goes on. It needs 90 GB of disk and
# nothing from the network.
#
#     make bench-record                      # or: PYTHON=python3 benchmarks/record.sh
#
# Environment, all of it optional:
#   COMMIT  of this tree, where there is no .git to ask
#   OUT     folder of the rows (docs/benchmarks)
#   WORK    folder of the random checkpoint and of compiled kernels, emptied first (/tmp/lingbot-record)
#   STEPS   solver steps of the clip (70)
#   GPUS    ranks of the gang (all GPUs there are)
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-docs/benchmarks}
WORK=${WORK:-/tmp/lingbot-record}
STEPS=${STEPS:-70}
GPUS=${GPUS:-$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')}
# Smaller ones try the script itself out, on a CPU too.
DEVICE=${DEVICE:-cuda} MODEL=${MODEL:-base-cam} COMPILE=${COMPILE:-on} VAE_DIM=${VAE_DIM:-96}
CLIP81=${CLIP81:-480x832x81} CLIP161=${CLIP161:-480x832x161} CLIP720=${CLIP720:-720x1280x81}
WEIGHTS=${WEIGHTS---full-size --num-shards 16}
STAGE=${STAGE:-num_gpus: 0.05, device: cuda, dtype: bfloat16}
GANG=${GANG:-gpus_per_rank: 0.8, device: cuda, dtype: bfloat16, compiled: true}

bench=("$PYTHON" -m lingbot_serve bench)
dit=("${bench[@]}" dit --device "$DEVICE" --model "$MODEL" --compile "$COMPILE" --json "$OUT/dit.json")
rm -rf "$WORK" && mkdir -p "$WORK" "$OUT" || exit 1
failed="$WORK/failed"

part() { # SECONDS NAME COMMAND…
  local limit_s=$1 name=$2
  shift 2
  timeout -k 10 "$limit_s" "$@" >"$WORK/$name.txt" 2>&1 || { echo "$name: exit code $?" >>"$failed"; }
  echo "== $name, after $SECONDS s"
  tail -n 14 "$WORK/$name.txt"
}

one_gpu() {
  part 300 one "${dit[@]}" --gpus 1 --clip "$CLIP161" --clip "$CLIP81" --second-start \
    --compile-cache "$WORK/one"
  part 180 wide "${dit[@]}" --gpus 1 --clip "$CLIP720" --compile-cache "$WORK/one"
}

# Beside it on another GPU: none of this touches dit.json.
weights_and_vae() {
  # shellcheck disable=SC2086  # several words
  part 300 weights "$PYTHON" -m model.checkpoint.synthetic "$WORK/weights" --device "$DEVICE" $WEIGHTS
  part 180 vae "${bench[@]}" vae --device "$DEVICE" --vae-dim "$VAE_DIM" --clip "$CLIP81" \
    --dtype bfloat16 --compile "$COMPILE" --json "$OUT/vae.json"
}

whole_gang() {
  part 300 gang "${dit[@]}" --gpus "$GPUS" --clip "$CLIP161" --clip "$CLIP81" \
    --compile-cache "$WORK/cache"
  part 120 sharded "${dit[@]}" --gpus "$GPUS" --clip "$CLIP81" --sharding per_expert \
    --no-silence --no-profile --compile-cache "$WORK/cache"
}

clip_over_http() {
  cat >"$WORK/serve.yaml" <<YAML
pipeline:
  checkpoint: $WORK/weights
  text_encoder: {num_cpus: 2, $STAGE}
  vae_encoder: {num_cpus: 2, $STAGE}
  vae_decoder: {num_cpus: 4, $STAGE}
  denoiser: {gang: {size: $GPUS, compile_cache_dir: $WORK/cache/$GPUS, $GANG}}
gateway: {preset: 480*832, data_dir: $WORK/data}
YAML
  part 600 e2e "${bench[@]}" e2e --config "$WORK/serve.yaml" --clip "$CLIP81" --steps "$STEPS" \
    --compile-cache "$WORK/cache" --dit-json "$OUT/dit.json" --json "$OUT/e2e.json"
  part 180 load "${bench[@]}" load --checkpoint "$WORK/weights" --gpus "$GPUS" --device "$DEVICE" \
    --json "$OUT/load.json"
}

if [ "$GPUS" -gt 1 ]; then
  CUDA_VISIBLE_DEVICES=0 one_gpu &
  CUDA_VISIBLE_DEVICES=1 weights_and_vae &
  wait
  whole_gang
else
  one_gpu
  weights_and_vae
fi
clip_over_http
[ "$OUT" != docs/benchmarks ] || "${bench[@]}" report
rm -rf "$WORK/weights"
if [ -e "$failed" ]; then
  cat "$failed"
  exit 1
fi
