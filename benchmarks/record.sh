#!/usr/bin/env bash
# Measures what docs/performance.md tells of on the GPUs of one host, part by part. Parts follow each
# other in the order given; those that need fewer GPUs than there are run side by side. Rows gather in
# $WORK/rows, each as soon as it is measured. docs/benchmarks/README.md says what the parts are, how
# long they take, and how to split them over several calls. It needs 90 GB of disk and no network.
#
#     make bench-record                             # everything
#     benchmarks/record.sh fresh one wide compare   # or some parts
#
# Environment, all of it optional but COMMIT where there is no .git:
#   COMMIT   of this tree
#   OUT      a folder that gets the rows and the logs after every part
#   WORK     folder of rows, logs, the random checkpoint and compiled kernels (/tmp/lingbot-record)
#   LIMIT_S  seconds that this call may take: parts are cut to fit
#   STEPS    solver steps of the clip (70)
#   GPUS     to use (all there are)
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
PYTHON=${PYTHON:-python3}
OUT=${OUT:-}
WORK=${WORK:-/tmp/lingbot-record}
LIMIT_S=${LIMIT_S:-86400}
STEPS=${STEPS:-70}
COMMIT=${COMMIT:-$(git describe --always --dirty --abbrev=12)}
[ -n "$COMMIT" ] || { echo "say which commit this is: COMMIT=…" >&2; exit 2; }
export COMMIT PYTHONUNBUFFERED=1
# Installed packages come with bytecode. Of what was only unpacked on a host, or where none is to be
# written, every process compiles its own, and a start of the service is imports for the most part.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX=${PYTHONPYCACHEPREFIX:-$WORK/bytecode}
read -r found gib <<<"$("$PYTHON" -c 'import torch
n = torch.cuda.device_count()
print(n, torch.cuda.get_device_properties(0).total_memory >> 30 if n else 0)')"
GPUS=${GPUS:-$found}
# What a card holds whole: both experts are 69 GiB, and a clip needs room beside them.
EXPERTS=${EXPERTS:-$((gib < 100 ? 1 : 2))}
# Smaller ones try the script itself out, on a CPU too.
DEVICE=${DEVICE:-cuda} MODEL=${MODEL:-base-cam} COMPILE=${COMPILE:-on} VAE_DIM=${VAE_DIM:-96}
CLIP81=${CLIP81:-480x832x81} CLIP161=${CLIP161:-480x832x161} CLIP720=${CLIP720:-720x1280x81}
WEIGHTS=${WEIGHTS---full-size --num-shards 16} CONFIG=${CONFIG:-examples/h200x$((GPUS == 1 ? 1 : 8)).yaml}
KERNELS=${KERNELS:-cudnn sdpa}

rows="$WORK/rows" logs="$WORK/logs"
bench=("$PYTHON" -m lingbot_serve bench)
dit=("${bench[@]}" dit --device "$DEVICE" --model "$MODEL" --json "$rows/dit.json")
whole=("${dit[@]}" --sharding none --experts "$EXPERTS")
cached=(--compile "$COMPILE" --compile-cache)
IFS=, read -ra cards <<<"${CUDA_VISIBLE_DEVICES:-$(seq -s, 0 $((GPUS - 1)))}"

limited() { # SECONDS COMMAND…
  local left_s=$((LIMIT_S - SECONDS - 15)) limit_s=$1
  shift
  [ "$limit_s" -le "$left_s" ] || limit_s=$left_s
  [ "$limit_s" -gt 30 ] || { echo "no time left"; return 1; }
  timeout -k 20 "$limit_s" "$@"
}

size_of() { # PART, in GPUs
  case $1 in
    one | wide | compare | weights | vae | gpu-tests-one) echo 1 ;;
    gang* | halves*) echo "${1//[^0-9]/}" ;;
    *) echo "$GPUS" ;;
  esac
}

run_part() { # PART
  local gpus
  gpus=$(size_of "$1")
  case $1 in
    one) limited 400 "${whole[@]}" "${cached[@]}" "$WORK/cache" --clip "$CLIP81" --clip "$CLIP161" ;;
    wide) limited 300 "${whole[@]}" "${cached[@]}" "$WORK/cache-wide" --clip "$CLIP720" --no-pair ;;
    compare)
      # shellcheck disable=SC2086  # several words
      limited 300 "${whole[@]}" "${cached[@]}" "$WORK/cache-compare" --clip "$CLIP81" --no-pair \
        $(printf -- '--attention %s ' $KERNELS) &&
        limited 200 "${whole[@]}" --compile off --clip "$CLIP81" --no-pair
      ;;
    gang*) limited 400 "${whole[@]}" "${cached[@]}" "$WORK/cache" --gpus "$gpus" \
      --clip "$CLIP81" --clip "$CLIP161" ;;
    halves*) limited 300 "${whole[@]}" "${cached[@]}" "$WORK/cache-halves" --gpus "$gpus" \
      --cfg-parallel on --clip "$CLIP81" --clip "$CLIP161" --no-silence --no-profile ;;
    sharded) limited 300 "${dit[@]}" "${cached[@]}" "$WORK/cache" --gpus "$gpus" --clip "$CLIP81" \
      --sharding per_expert --sharding per_block --no-silence --no-profile ;;
    # shellcheck disable=SC2086  # several words
    weights) limited 300 "$PYTHON" -m model.checkpoint.synthetic "$WORK/weights" \
      --device "$DEVICE" $WEIGHTS ;;
    vae)
      vae=("${bench[@]}" vae --device "$DEVICE" --vae-dim "$VAE_DIM" --clip "$CLIP81")
      vae+=(--json "$rows/vae.json")
      limited 300 "${vae[@]}" --dtype bfloat16 --compile "$COMPILE" &&
        limited 120 "${vae[@]}" --dtype float32 --dtype bfloat16 --compile off
      ;;
    load)
      load=("${bench[@]}" load --device "$DEVICE" --checkpoint "$WORK/weights" --gpus "$gpus")
      load+=(--json "$rows/load.json")
      [ "$GPUS" = 1 ] || load+=(--sharding per_expert)
      [ "$EXPERTS" = 1 ] || load+=(--sharding none)
      limited 300 "${load[@]}"
      ;;
    e2e) limited 800 "${bench[@]}" e2e --config "$CONFIG" --checkpoint "$WORK/weights" \
      --gang-size "$gpus" --clip "$CLIP81" --steps "$STEPS" --second-start \
      --compile-cache "$WORK/cache-e2e" --json "$rows/e2e.json" ;;
    gpu-tests-one) limited 300 "$PYTHON" -m pytest -q -s \
      tests/gpu/test_rounding.py tests/gpu/test_vae.py tests/gpu/test_load.py ;;
    gpu-tests) limited 560 "$PYTHON" -m pytest -q -s \
      tests/gpu/test_full_size_gang.py tests/gpu/test_clip_through_serve.py ;;
    report) "${bench[@]}" merge "$rows" && "${bench[@]}" report ;;
    *) echo "no such part"; return 2 ;;
  esac
}

part() { # PART: runs it, tells how it ended, and hands over what there is
  run_part "$1" >"$logs/$1.txt" 2>&1
  local code=$?
  [ "$code" = 0 ] || echo "$1: exit code $code" >>"$WORK/failed"
  printf '== %s: exit code %s, after %s s\n%s\n' "$1" "$code" "$SECONDS" "$(tail -n 14 "$logs/$1.txt")"
  [ -z "$OUT" ] || hand_over 9>"$WORK/lock"
}

hand_over() { # one part at a time; logs that grow meanwhile are welcome as they are
  flock 9
  find "$rows" -name '*.json' -exec cp {} "$OUT" \;
  tar -C "$WORK" -czf "$OUT/logs.tgz" logs 2>/dev/null
}

if [ $# = 0 ]; then
  set -- fresh one wide compare weights vae
  for size in 2 4 8; do [ "$GPUS" -lt "$size" ] || set -- "$@" "gang$size" "halves$size"; done
  [ "$GPUS" = 1 ] || set -- "$@" sharded
  set -- "$@" load e2e report
fi
[ "$1" != fresh ] || { rm -rf "$WORK" && shift; }
mkdir -p "$rows" "$logs" ${OUT:+"$OUT"} || exit 1
rm -f "$WORK/failed"
taken=0
for name in "$@"; do
  size=$(size_of "$name")
  [ "$size" -le "$GPUS" ] || { echo "$name: needs $size GPUs" | tee -a "$WORK/failed"; continue; }
  if [ $((taken + size)) -gt "$GPUS" ]; then
    wait
    taken=0
  fi
  CUDA_VISIBLE_DEVICES=$(IFS=,; echo "${cards[*]:taken:size}") part "$name" &
  taken=$((taken + size))
done
wait
if [ -e "$WORK/failed" ]; then
  cat "$WORK/failed"
  exit 1
fi
