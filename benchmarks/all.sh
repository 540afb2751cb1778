#!/usr/bin/env bash
# Every benchmark on the device that is found, its results under benchmarks/results, and README's tables from them.
#
#   benchmarks/all.sh                 .venv/bin/python, and .venv-vllm/bin/python for the server (make install, make test-vllm)
#   PYTHON=python3 VLLM_PYTHON=python3 benchmarks/all.sh      one environment with everything, as on a machine with a GPU
#   SHAPES="2b" QUICK=1 benchmarks/all.sh                     other shapes; two images and few runs, to see that it works
#   UPSTREAM=DIR benchmarks/all.sh                            selection beside the authors' code, in DIR
#
# With a GPU: Qwen3-VL 2B, 4B and 8B in bfloat16. Without one: the small shape in float32, an hour or two on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
VLLM_PYTHON=${VLLM_PYTHON:-.venv-vllm/bin/python}
OUT=${OUT:-benchmarks/results}
images=examples/images
page=$images/docs-page.png
four=("$images/application-form.png" "$page" "$images/dashboard-dark.png" "$images/paper.png")
three=("$page" "$images/application-form.png" "$images/dashboard-dark.png")
few=()
if [ -n "${QUICK:-}" ]; then
    four=("$images/application-form.png" "$page")
    three=("$images/application-form.png")
    few=(--repeats 1)
fi
mkdir -p "$OUT"

found=$("$PYTHON" -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')
echo "device: $found"
if [ "$found" = cuda ]; then
    shapes=${SHAPES:-2b 4b 8b}
    attn=$("$PYTHON" -c 'import importlib.util as u; print("flash_attention_2" if u.find_spec("flash_attn") else "sdpa")')
    device=(--device cuda --dtype bfloat16 --attn "$attn")
    training=(--checkpointing)
    server=(--dtype bfloat16)
else
    shapes=${SHAPES:-small}
    device=()
    training=()
    server=(--max-model-len 4096 --serve "--max-num-batched-tokens 4096 --mm-processor-kwargs '{\"size\": {\"shortest_edge\": 65536, \"longest_edge\": 2359296}}'")
fi

# These two do not use the device.
upstream=()
[ -z "${UPSTREAM:-}" ] || upstream=(--upstream "$UPSTREAM")
selected=()
[ -z "${QUICK:-}" ] || selected=("${four[@]}")
"$PYTHON" benchmarks/selection.py "${upstream[@]}" "${few[@]}" --json "$OUT/selection-cpu.json" "${selected[@]}"
"$PYTHON" benchmarks/preprocess.py "${few[@]}" --json "$OUT/preprocess-cpu.json" "${selected[@]}"

for shape in $shapes; do
    "$PYTHON" benchmarks/prefill.py --shape "$shape" "${device[@]}" "${few[@]}" \
        --json "$OUT/prefill-$shape-$found.json" "${four[@]}"
    "$PYTHON" benchmarks/training.py --shape "$shape" "${device[@]}" "${training[@]}" "${few[@]}" \
        --json "$OUT/training-$shape-$found.json" "$page"
    if "$VLLM_PYTHON" -c 'import vllm' 2> /dev/null; then
        "$VLLM_PYTHON" benchmarks/serving.py --shape "$shape" "${server[@]}" "${few[@]}" \
            --json "$OUT/serving-$shape-$found.json" "${three[@]}"
    else
        echo "serving NOT measured: $VLLM_PYTHON has no vLLM; name one that has: VLLM_PYTHON=..." >&2
    fi
done
"$PYTHON" benchmarks/sequences.py "${few[@]}" --json "$OUT/sequences-cpu.json"
[ "$OUT" != benchmarks/results ] || "$PYTHON" benchmarks/readme.py
