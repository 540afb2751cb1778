"""Ask one question about every image in a folder, with Ray Data and vLLM, images pruned; the answers go to Parquet.

    python examples/ray_batch.py scans/ --model Qwen/Qwen3-VL-2B-Instruct --question "What is the total?" --out answers/

Each row has the file, the answer, the blocks kept and in total, and an error where there was one: files that cannot be
read are named and skipped. Interrupted, the same command resumes: images that have an answer in the folder are not
asked again. Needs
``pip install "pixelprune[vllm] @ git+https://github.com/pixelprune/pixelprune" "ray[data]"``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import ray
from ray.data.llm import build_processor, vLLMEngineProcessorConfig
from transformers import AutoConfig, AutoTokenizer

from pixelprune import PixelPruneError, PruneConfig
from pixelprune.core.images import open_image
from pixelprune.models.resize import ResizeSpec
from pixelprune.vllm.settings import KEY

COLUMNS = ("file", "answer", "kept", "total", "error")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the images, in subfolders too")
    parser.add_argument("--model", required=True, help="a model that pixelprune supports")
    parser.add_argument("--out", type=Path, required=True, help="folder for the Parquet files")
    parser.add_argument("--question", default="What does this image say?", help="(%(default)s)")
    parser.add_argument("--threshold", type=float, default=0.0, help="(%(default)s)")
    parser.add_argument("--max-tokens", type=int, default=256, help="of an answer (%(default)s)")
    parser.add_argument(
        "--rows", type=int, default=64, help="per Parquet file: what an interruption costs (%(default)s)"
    )
    parser.add_argument("--engines", type=int, default=1, help="copies of the model, each with a GPU (%(default)s)")
    parser.add_argument("--cpu", action="store_true", help="no GPU: vLLM built for the CPU")
    parser.add_argument("--engine", type=json.loads, default={}, help="more options for vLLM, as JSON")
    args = parser.parse_args(arguments)
    PruneConfig(threshold=args.threshold)  # a wrong one ends here

    args.out.mkdir(parents=True, exist_ok=True)
    done = answered(args.out)
    files = sorted(str(path) for path in args.folder.rglob("*") if path.is_file())
    files = [file for file in files if file not in done]
    print(f"{len(done)} files have been answered before, {len(files)} are left")
    if not files:
        return
    ray.init(ignore_reinit_error=True)
    # Opened once before, so that the model never waits for a file that cannot be read.
    checked = rows_of(files, args.rows).map(check).take_all()
    write([row for row in checked if row["error"]], args)
    readable = [row["file"] for row in checked if not row["error"]]
    print(f"{len(checked) - len(readable)} of them cannot be read")
    if readable:
        ask(rows_of(readable, args.rows), args).write_parquet(str(args.out), mode="append")


def answered(folder: Path) -> set[str]:
    """The files with a row in the folder. A Parquet file that an interruption left unfinished is deleted."""
    files: set[str] = set()
    for path in folder.glob("*.parquet"):
        try:
            files.update(parquet.read_table(path, columns=["file"])["file"].to_pylist())
        except (OSError, ValueError):  # pyarrow's ArrowInvalid is a ValueError
            path.unlink()
    return files


def rows_of(files: list[str], rows: int) -> Any:
    """A dataset of the files, in blocks of so many rows; a block becomes a Parquet file."""
    items = [{"file": file} for file in files]
    return ray.data.from_items(items, override_num_blocks=-(-len(items) // rows))


def check(row: dict[str, Any]) -> dict[str, Any]:
    """Whether the image can be read, and what keeps it from being read."""
    try:
        open_image(row["file"])
    except PixelPruneError as error:
        return {**row, "error": str(error)}
    return {**row, "error": ""}


def write(failed: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """Rows of the files that cannot be read."""
    if failed:
        rows = [{"file": row["file"], "answer": "", "kept": 0, "total": 0, "error": row["error"]} for row in failed]
        ray.data.from_items(rows, override_num_blocks=1).write_parquet(str(args.out), mode="append")


def ask(images: Any, args: argparse.Namespace) -> Any:
    """The dataset of answers."""
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    content = [{"type": "image"}, {"type": "text", "text": args.question}]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    token = AutoConfig.from_pretrained(args.model).image_token_id
    resize = ResizeSpec.for_model(args.model)

    def request(row: dict[str, Any]) -> dict[str, Any]:
        image = open_image(row["file"])
        height, width = resize.target_size(image.height, image.width)
        return {
            "file": row["file"],
            "total": height * width // resize.block_size**2,
            "prompt": prompt,
            "multimodal_data": {"image": image},
            "sampling_params": {"temperature": 0.0, "max_tokens": args.max_tokens},
        }

    def result(row: dict[str, Any]) -> dict[str, Any]:
        kept = sum(int(number) == token for number in row["prompt_token_ids"])
        answer = {"file": row["file"], "answer": row["generated_text"], "kept": kept, "total": row["total"]}
        return {**answer, "error": ""}

    config = vLLMEngineProcessorConfig(
        model_source=args.model,
        engine_kwargs={
            "limit_mm_per_prompt": {"image": 1, "video": 0},
            "mm_processor_kwargs": {KEY: {"threshold": args.threshold}},
            **args.engine,
        },
        batch_size=min(args.rows, 16),
        concurrency=(args.engines, args.engines),
        placement_group_config={"bundles": [{"CPU": 1}]} if args.cpu else None,
        should_continue_on_error=True,
        log_engine_metrics=False,  # would need ray[default]
        # The prompt is ready, and vLLM turns it into tokens.
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
    )
    answers = build_processor(config, preprocess=request, postprocess=result)(images)
    return answers.map(uniform)


def uniform(row: dict[str, Any]) -> dict[str, Any]:
    """The same columns for rows that the engine refused, which come with its error instead of an answer."""
    error = row.get("__inference_error__") or row.get("error") or ""
    found = {"answer": "", "kept": 0, "total": 0, **{name: row[name] for name in COLUMNS if row.get(name) is not None}}
    return {name: {**found, "error": error}[name] for name in COLUMNS}


if __name__ == "__main__":
    main()
