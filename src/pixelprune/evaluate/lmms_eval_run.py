"""A cell in lmms-eval: its own evaluation of one task, with the model of this package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .cell import Asking
from .local import LocalRow, read_rows


def run(asking: Asking) -> None:
    """Have lmms-eval ask and score the cell's set.

    Raises:
        ConfigError: lmms-eval is missing or does not know the model, or it scored other rows than were asked.
    """
    cell = asking.cell
    task: Any = cell.set.task
    if cell.questions is not None:
        # Before datasets is imported: its copies of the user's rows stay in the cell's folder.
        os.environ["HF_DATASETS_CACHE"] = str(asking.folder / "datasets")
    evaluator = _evaluator()
    if cell.questions is not None:
        task = local_task(cell.set.task, read_rows(Path(cell.questions)), asking.folder)
    from .lmms_eval_model import PixelPrune

    found = evaluator.simple_evaluate(
        model=PixelPrune(asking=asking),
        tasks=[task],
        limit=cell.limit,
        log_samples=True,
        bootstrap_iters=0,
        process_docs_parallel=1,
    )
    name = cell.set.task
    score = next((float(found["results"][name][key]) for key in _keys(cell.set.metric, found["results"][name])), None)
    if score is None:
        raise ConfigError(f"lmms-eval gave no {cell.set.metric} for {name}; it has {sorted(found['results'][name])}")
    rows = {f"{name}/{sample['doc_id']}": row_score(sample, cell.set.metric) for sample in found["samples"][name]}
    asking.finish(score, rows)


def row_score(sample: dict[str, Any], metric: str) -> float:
    """The score of a row, 0 to 1, from what lmms-eval logs of it.

    Raises:
        ConfigError: it is not there.
    """
    value = sample.get(metric)
    if isinstance(value, dict):
        value = next((value[key] for key in ("score", "correct", "anls") if key in value), None)
    if not isinstance(value, bool | int | float):
        raise ConfigError(f"lmms-eval's samples have no {metric} of a row; they have {sorted(sample)}")
    return float(value)


def local_task(name: str, rows: list[LocalRow], folder: Path) -> Any:
    """A task of lmms-eval over the user's own rows, scored by lmms-eval's rules for DocVQA or ScreenSpot-v2."""
    import datasets

    path = folder / "rows.parquet"
    records = []
    for row in rows:
        record: dict[str, Any] = {"image": {"bytes": row.png(), "path": None}, "question": row.question}
        if row.box is None:
            record["answers"] = row.answers
        else:
            width, height = row.opened().size
            left, top, right, bottom = row.box
            box = [left / width, top / height, right / width, bottom / height]
            record |= {"instruction": row.question, "bbox": box, "data_type": "text"}
        records.append(record)
    table = datasets.Dataset.from_list(records).cast_column("image", datasets.Image())
    table.to_parquet(str(path))
    task: dict[str, Any] = {
        "task": name,
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": str(path)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_visual": _images,
        "doc_to_text": _text,
        "generation_kwargs": {"max_new_tokens": 128, "temperature": 0, "do_sample": False},
    }
    if rows[0].box is None:
        metric = {"metric": "anls", "aggregation": "mean", "higher_is_better": True}
        return _task({**task, "doc_to_target": "answers", "metric_list": [metric]})
    from lmms_eval.tasks.screenspot_v2 import utils

    metric = {
        "metric": "screenspot_v2_action_acc",
        "aggregation": utils.screenspot_v2_action_acc,
        "higher_is_better": True,
    }
    process = _only(utils.screenspot_v2_process_results, "screenspot_v2_action_acc")
    return _task({**task, "doc_to_target": "instruction", "process_results": process, "metric_list": [metric]})


def _task(config: dict[str, Any]) -> Any:
    # Not the mapping itself, of which lmms-eval would lose the name.
    from lmms_eval.api.task import ConfigurableMessagesTask

    return ConfigurableMessagesTask(config=config, model_name="pixelprune")


def _only(process: Any, metric: str) -> Any:
    def results(document: dict[str, Any], answers: list[str]) -> dict[str, Any]:
        return {metric: process(document, answers)[metric]}

    return results


def _images(document: dict[str, Any]) -> list[Any]:
    return [document["image"].convert("RGB")]


def _text(document: dict[str, Any], lmms_eval_specific_kwargs: Any = None) -> str:
    return str(document["question"])


def _keys(metric: str, results: dict[str, Any]) -> list[str]:
    """The names of a metric's mean among results: lmms-eval writes ``anls,none``."""
    return [key for key in results if key.partition(",")[0] == metric and isinstance(results[key], int | float)]


def _evaluator() -> Any:
    try:
        from lmms_eval import evaluator, models
    except ImportError as error:
        raise ConfigError(
            f"lmms-eval cannot be imported ({error}): pip install lmms-eval==0.7.3 into the environment that has "
            f"pixelprune"
        ) from error
    # A plug-in that fails is only a warning there.
    if "pixelprune" not in models.list_available_models():
        raise ConfigError("lmms-eval does not list the model pixelprune; install pixelprune and lmms-eval together")
    return evaluator
