"""A cell in VLMEvalKit: a clone's own ``run.py``, with the model of this package among its models.

VLMEvalKit is on no package index, and any commit may change what is built on here, so a clone is checked at the start.
Its loop asks one row at a time; here, all rows are asked in batches when it hands over the set, and it then takes each
answer as it comes to the row.
"""

from __future__ import annotations

import importlib
import os
import re
import runpy
import sys
from pathlib import Path
from typing import Any

from ..core.images import open_image
from ..errors import ConfigError
from .answering import Message, Question
from .cell import Asking
from .local import read_rows, to_records

#: The commit that the tests run.
COMMIT = "e8e78f05"

_LENGTH = 2048  # of an answer, where the configuration leaves it to the harness

#: What is built on: files of the clone, and names in them.
_BUILT_ON = {
    "run.py": ("--data", "--model", "--work-dir", "--judge", "build_dataset(dataset_name", "dataset.evaluate("),
    "vlmeval/inference.py": (
        "supported_VLM[model_name](",
        "model.set_dump_image(dataset.dump_image)",
        "model.build_prompt(data.iloc[i], dataset=dataset_name)",
        "model.generate(message=struct, dataset=dataset_name)",
    ),
    "vlmeval/config.py": ("supported_VLM",),
    "vlmeval/vlm/base.py": ("class BaseModel", "def use_custom_prompt", "def generate_inner", "def set_dump_image"),
    "vlmeval/dataset/__init__.py": ("def build_dataset",),
    "vlmeval/dataset/image_vqa.py": ("class ImageVQADataset", "'eval_match'"),
    "vlmeval/dataset/utils/vqa_eval.py": ("def hit_calculate",),
    "vlmeval/dataset/GUI/screenspot.py": ("class ScreenSpot", "'Overall_Accuracy'", r"x=([\d.]+), y=([\d.]+)"),
    "vlmeval/dataset/mmlongbenchdoc.py": ("SUPPORTED_MODELS", "data['score']"),
    "vlmeval/smp/file.py": ("def load", "def dump"),
}

#: As its rules read points.
_POINT_FORM = "pyautogui.click(x={x}, y={y})"

_NAME = "pixelprune"


def check_clone(folder: Path) -> None:
    """See that a clone has what is built on here.

    Raises:
        ConfigError: the folder is no clone, or lacks something, with what and the commit that is known to work.
    """
    if not (folder / "run.py").is_file() or not (folder / "vlmeval").is_dir():
        raise ConfigError(
            f"vlmevalkit: {folder} is no clone of VLMEvalKit; git clone https://github.com/open-compass/VLMEvalKit, "
            f"check out {COMMIT}, and give its folder"
        )
    for name, needed in _BUILT_ON.items():
        path = folder / name
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        missing = [part for part in needed if part not in text]
        if missing:
            raise ConfigError(
                f"vlmevalkit: {path} has no {missing[0]!r}, on which this is built; check out {COMMIT}, which works"
            )


def run(asking: Asking) -> None:
    """Have the clone's ``run.py`` ask and score the cell's set.

    Raises:
        ConfigError: the clone lacks something, or one of its packages is missing.
    """
    cell = asking.cell
    folder = Path(str(cell.vlmevalkit))
    check_clone(folder)
    sys.path.insert(0, str(folder))
    work = asking.folder / "vlmevalkit"
    if cell.questions is not None:
        os.environ["LMUData"] = str(work / "data")  # noqa: SIM112  (its name)
        (work / "data").mkdir(parents=True, exist_ok=True)
    try:
        dataset_module: Any = importlib.import_module("vlmeval.dataset")
        config: Any = importlib.import_module("vlmeval.config")
    except ImportError as error:
        raise ConfigError(
            f"VLMEvalKit cannot be imported ({error}): pip install -r {folder}/requirements.txt"
        ) from error
    if cell.questions is not None:
        _write_table(cell.set.task, Path(cell.questions), work / "data")
    config.supported_VLM[_NAME] = _model_class(asking)
    # Pages as they are, each an image of its own.
    importlib.import_module("vlmeval.dataset.mmlongbenchdoc").MMLongBenchDoc.SUPPORTED_MODELS[_NAME] = (0, 0)
    stock = dataset_module.build_dataset
    dataset_module.build_dataset = lambda name, **options: _watched(stock, dataset_module, name, options, asking)
    arguments = ["--data", cell.set.task, "--model", _NAME, "--work-dir", str(work), "--mode", "all"]
    arguments += [part for name, value in _judge(asking).items() for part in (f"--{name}", value)]
    sys.argv = [str(folder / "run.py"), *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _judge(asking: Asking) -> dict[str, str]:
    """Options for the judge: what the configuration says, where the set needs one; else rules alone."""
    judge = asking.cell.set.judge
    return dict(asking.cell.judge) if judge == "url" else {"judge": "exact_matching"} if judge == "exact" else {}


def _write_table(name: str, questions: Path, folder: Path) -> None:
    import pandas

    pandas.DataFrame(to_records(read_rows(questions))).to_csv(folder / f"{name}.tsv", sep="\t", index=False)


def _watched(stock: Any, module: Any, name: str, options: dict[str, Any], asking: Asking) -> Any:
    """The set, cut to the limit, which leaves its score behind when VLMEvalKit evaluates it."""
    if asking.cell.questions is None:
        dataset = stock(name, **options)
    else:
        dataset = (module.ImageVQADataset if asking.cell.set.kind == "text" else module.ScreenSpot)(dataset=name)
    if dataset is None:
        return None
    if asking.cell.limit is not None:
        dataset.data = dataset.data.iloc[: asking.cell.limit]
    evaluate = dataset.evaluate

    def evaluate_and_note(file: str, **judge: Any) -> Any:
        found = evaluate(file, **judge)
        score = _score(found, asking, Path(file))
        asking.finish(score, _rows(asking, Path(file), evaluate, judge))
        return found

    dataset.evaluate = evaluate_and_note
    return dataset


def _score(found: Any, asking: Asking, file: Path) -> float:
    """The set's score, 0 to 1, from what its evaluation gave."""
    import pandas

    known = asking.cell.set
    if found is None and known.rows == "none":  # it leaves a file
        found = pandas.read_csv(file.parent / f"{known.name}_eval_summary.csv").set_index("type")["score"].to_dict()
    if isinstance(found, pandas.DataFrame):
        if "category" in found and "avg_score" in found:
            found = dict(zip(found["category"], found["avg_score"], strict=True))
        else:
            found = {name: found[name].iloc[0] for name in found}
    if not isinstance(found, dict) or known.metric not in found:
        raise ConfigError(f"VLMEvalKit gave no {known.metric} for {known.task}; it gave {found!r}")
    score = float(found[known.metric])
    # Shares of columns are 0 to 1, the others percent.
    return score if known.rows in ("hit", "score") else score / 100


def _rows(asking: Asking, file: Path, evaluate: Any, judge: dict[str, Any]) -> dict[str, float] | None:
    """The score of each row, 0 to 1, by VLMEvalKit's own rules."""
    smp = importlib.import_module("vlmeval.smp.file")
    known = asking.cell.set
    if known.rows == "none":
        return None
    if known.rows == "alone":
        return _each_alone(smp, file, evaluate, known.metric)
    suffix = {"matches": "_results", "hit": "_exact_matching_result", "score": f"_{judge.get('model')}"}[known.rows]
    table = smp.load(smp.get_intermediate_file_path(str(file), suffix))
    if known.rows != "matches":
        return {str(index): float(score) for index, score in zip(table["index"], table[known.rows], strict=True)}
    rules = importlib.import_module("vlmeval.dataset.utils.vqa_eval")
    matches = [{"match": _numbers(value)} for value in table["eval_match"]]
    hits = rules.hit_calculate(matches, known.task)
    return {str(index): float(hit) for index, hit in zip(table["index"], hits, strict=True)}


def _each_alone(smp: Any, file: Path, evaluate: Any, metric: str) -> dict[str, float]:
    """What the evaluation gives to each row by itself, where it keeps aggregates only."""
    table, scores = smp.load(str(file)), {}
    # OCRBench counts a right row as 1 of the 1,000 that it has, and then divides.
    right = 0.1 if metric == "Final Score Norm" else 100.0
    for place in range(len(table)):
        row = table.iloc[[place]]
        alone = file.with_name(f"row{file.suffix}")
        smp.dump(row, str(alone))
        scores[str(row["index"].iloc[0])] = float(evaluate(str(alone))[metric]) / right
    for left in file.parent.glob("row*"):
        left.unlink()
    return scores


def _numbers(value: Any) -> list[float]:
    """A list of numbers or truths, as a list or as a table writes one, ``[np.float64(0.5), True]``."""
    text = re.sub(r"np\.\w+", "", str(value)).replace("True", "1").replace("False", "0")
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", text)]


def messages(parts: list[dict[str, Any]], prompt: str | None) -> list[Message]:
    """What VLMEvalKit would ask, as the engines take it; a prompt takes the place of all its texts.

    Raises:
        ConfigError: it has something beside images and texts.
    """
    system: list[Message] = []
    user: list[Message] = []
    for part in parts:
        if part["type"] == "image":
            user.append({"type": "image", "image": open_image(part["value"])})
        elif part["type"] != "text":
            raise ConfigError(f"questions with {part['type']} cannot be asked: images and text alone")
        elif prompt is None:
            (system if part.get("role") == "system" else user).append({"type": "text", "text": part["value"]})
    if prompt is not None:
        user.append({"type": "text", "text": prompt})
    return [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": user}]


def _model_class(asking: Asking) -> Any:
    from vlmeval.vlm.base import BaseModel

    class PixelPruneModel(BaseModel):
        """Takes each row to its answer; rows are asked all at once, when the set is known."""

        INTERLEAVE = True

        def set_dump_image(self, dump_image_func: Any) -> None:
            super().set_dump_image(dump_image_func)
            self.dataset = dump_image_func.__self__
            rows = (self.dataset.data.iloc[place] for place in range(len(self.dataset.data)))
            asking.answerer.answer(self.question(row) for row in rows)

        def use_custom_prompt(self, dataset: str) -> bool:
            return True  # for the row's name

        def build_prompt(self, line: Any, dataset: str) -> list[dict[str, Any]]:
            self.row = line
            return [{"type": "text", "value": "row"}]

        def generate_inner(self, message: Any, dataset: str | None = None) -> str:
            return asking.ask([self.question(self.row)], _POINT_FORM)[0]

        def question(self, line: Any) -> Question:
            parts = self.dataset.build_prompt(line)
            prompt = asking.prompt(str(line["question"])) if "question" in line else None
            return Question(str(line["index"]), messages(parts, prompt), asking.max_new_tokens(_LENGTH))

    return PixelPruneModel
