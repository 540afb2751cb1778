#!/bin/sh
# The bundled reader from nothing, and the proof: sh reader/train.sh PYTHON
# Every stage keeps its state in out/reader; stopped and started again, the script goes on where it was.
set -eu
python=$1
out=out/reader
processes=$(nproc)
export OMP_NUM_THREADS=1
mkdir -p "$out"

pages() { # pages NAME BASE SMALLEST LARGEST STEPS [more]: a stage on pages of such sides, with a process per core
    name=$1 base=$2 smallest=$3 largest=$4 steps=$5
    shift 5
    "$python" -m torch.distributed.run --standalone --nproc-per-node "$processes" -m reader.pretrain_pages \
        --state "$out/$name.pt" --base "$out/$base.pt" --sides "$smallest" "$largest" --steps "$steps" "$@"
}

"$python" -m reader.pretrain_dense --state "$out/dense.pt" --steps 3000 --batch 32 --lr 3e-3
pages small dense 160 320 1500 --lr 2e-3 --decay 0.001 --dense 0.2
pages large small 160 384 1500 --lr 1.3e-3 --decay 0.8 --dense 0.5
"$python" -m reader.export --state "$out/large.pt" --out "$out/base"

[ -d "$out/train" ] || "$python" -m reader.data --out "$out/train" --pages 9600 --seed 1 --sides 160 384
[ -d "$out/held-out" ] || "$python" -m reader.data --out "$out/held-out" --pages 400 --seed 2 --sides 160 384 --split test
unset OMP_NUM_THREADS
"$python" -m pixelprune train reader/pruned.yaml
"$python" -m pixelprune train reader/distilled.yaml
"$python" -m reader.evaluate --model base="$out/base" --model pruned="$out/pruned" --model distilled="$out/distilled" \
    --pages 360 --sides 160 384 --out "$out/proof"
"$python" -m reader.table "$out/proof"
