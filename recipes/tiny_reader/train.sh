#!/bin/sh
# The bundled reader, from random weights, and its evaluation: sh recipes/tiny_reader/train.sh PYTHON
# Every stage keeps its state in out/reader; stopped and started again, the script resumes.
set -eu
python=$1
out=out/reader
export OMP_NUM_THREADS=1
mkdir -p "$out"

each_core() { # a module in a process per core
    "$python" -m torch.distributed.run --standalone --nproc-per-node "$(nproc)" -m "$@"
}

pages() { # pages NAME BASE SMALLEST LARGEST STEPS [more]: a stage on pages of such sides, and the model that it ends with
    name=$1 base=$2 smallest=$3 largest=$4 steps=$5
    shift 5
    each_core recipes.tiny_reader.pretrain_pages --state "$out/$name.pt" --base "$out/$base.pt" \
        --sides "$smallest" "$largest" --steps "$steps" "$@"
    "$python" -m recipes.tiny_reader.export --state "$out/$name.pt" --out "$out/$name"
}

data() { # data NAME [more]: pages and questions as files, moved to their place when they are complete
    name=$1
    shift
    [ -d "$out/$name" ] && return
    "$python" -m recipes.tiny_reader.data --out "$out/$name.part" --sides 192 640 "$@"
    mv "$out/$name.part" "$out/$name"
}

"$python" -m recipes.tiny_reader.pretrain_dense --state "$out/dense.pt" --steps 3000 --batch 32 --lr 3e-3
pages small dense 160 320 1500 --lr 2e-3 --decay 0.001 --dense 0.2
pages medium small 160 384 1000 --lr 1.3e-3 --decay 0.8 --dense 0.5
pages large medium 192 640 960 --lr 1.2e-3 --decay 0.95 --dense 0.5 --questions 10
# Until here it has seen whole images only; from here on seven pages in ten are pruned.
pages mixed large 192 640 1600 --lr 1.2e-3 --decay 0.95 --dense 0.3 --questions 12 --pruned 0.7

data train --pages 4000 --seed 1 --questions 8
data held-out --pages 150 --seed 2 --split test
each_core pixelprune train recipes/tiny_reader/pruned.yaml
each_core pixelprune train recipes/tiny_reader/distilled.yaml
unset OMP_NUM_THREADS
"$python" -m recipes.tiny_reader.evaluate --model base="$out/large" --model mixed="$out/mixed" --model pruned="$out/pruned" --model distilled="$out/distilled" \
    --pages 256 --sides 192 640 --out "$out/proof"
"$python" -m recipes.tiny_reader.table "$out/proof"
