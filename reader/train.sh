#!/bin/sh
# The bundled reader from nothing: sh reader/train.sh PYTHON FOLDER
# Every stage keeps its state in the folder; stopped and started again, the script goes on where it was.
set -eu
python=$1
out=$2
mkdir -p "$out"

pages() { # pages NAME START SMALLEST LARGEST STEPS [more]: a stage on pages of such sides
    name=$1 start=$2 smallest=$3 largest=$4 steps=$5
    shift 5
    "$python" -m reader.pretrain_pages --state "$out/$name.pt" --base "$out/$start.pt" \
        --sides "$smallest" "$largest" --steps "$steps" "$@"
}

"$python" -m reader.pretrain_dense --state "$out/dense.pt" --steps 3000 --batch 32 --lr 3e-3
pages small dense 96 192 1500 --lr 2e-3
pages middle small 160 384 1500 --lr 2e-3
pages large middle 352 768 1500 --lr 1.5e-3 --decay 0.7
"$python" -m reader.export --state "$out/large.pt" --out "$out/base"
