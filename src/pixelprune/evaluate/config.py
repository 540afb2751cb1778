"""The file that describes an evaluation: models, arms and sets; every key checked, unknown ones refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ..configfile import Section, check, read_yaml
from ..errors import ConfigError
from ..models.registry import family_named
from .arms import Arm, slug
from .cell import POINT_PROMPT, Cell
from .local import known_set, read_rows
from .points import Scale, scale_of
from .sets import KNOWN, KnownSet, named

#: The authors' public settings (arXiv 2604.00886 and its repository): answers of at most 512 new tokens, greedy, and
#: seed 42 for random blocks. Questions are the harness's: VLMEvalKit's for DocVQA, InfoVQA and ChartQA end in "Answer
#: the question using a single word or phrase.", and OCRBench has the bare question, as theirs have.
PAPER_TOKENS, PAPER_SEED = 512, 42

_RANDOM_SEED = 0
_BATCH = {"transformers": 1, "vllm": 64}

Engine = Literal["transformers", "vllm"]


def _model(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


def _set(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


class Model(Section):
    """A model.

    Attributes:
        model: a local folder, a hub id, or ``reader`` for the bundled one.
        name: in tables; the end of ``model`` where it is not given.
        dtype: ``auto`` for that of the weights, ``float32``, ``bfloat16`` or ``float16``.
        attention: transformers' ``attn_implementation``.
        points: how it writes points; its family's way where not given.
        point_prompt: what it is asked for a point, with ``{question}`` in it.
        processor: options of its processor, such as ``max_pixels``.
        template: variables of its chat template, such as ``enable_thinking``.
        vllm: options of vLLM's ``LLM``, such as ``max_model_len``.
    """

    model: str
    name: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    attention: str | None = None
    points: Scale | None = None
    point_prompt: str = POINT_PROMPT
    processor: dict[str, Any] = {}
    template: dict[str, Any] = {}
    vllm: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """The name in tables."""
        return self.name or Path(self.model).name


class Set(Section):
    """A set by name (:data:`~pixelprune.evaluate.sets.KNOWN`, or a group), or one of the user's own.

    Attributes:
        name: of the set.
        questions: of one's own: a JSONL file, see :mod:`pixelprune.evaluate.local`.
        harness: of one's own: which asks and scores it.
    """

    name: str
    questions: str | None = None
    harness: Literal["vlmevalkit", "lmms-eval"] | None = None


class Judge(Section):
    """The language model that marks answers of the sets that need one, behind a URL of the OpenAI form.

    Attributes:
        url: such as ``http://localhost:8000/v1``.
        model: its name there.

    A key is no part of the file, whose values are copied into the cells' folders: VLMEvalKit reads ``OPENAI_API_KEY``.
    """

    url: str
    model: str


class EvaluateConfig(Section):
    """An evaluation.

    Attributes:
        models: each a folder or hub id, or a mapping with more about it.
        arms: see :meth:`pixelprune.evaluate.arms.Arm.parse`.
        sets: by name, or of one's own.
        output: the folder for everything; a second run resumes from there.
        baseline: the arm that the others are compared with.
        engine: ``transformers`` or ``vllm``.
        device: for transformers: a torch device; ``auto`` for a GPU where there is one.
        batch_size: rows at a time; 1 for transformers and 64 for vLLM where not given.
        processes: cells at a time.
        prompts: ``paper`` for the authors' public settings, ``harness`` for the harness's own.
        max_new_tokens: of an answer, in place of what ``prompts`` says.
        limit: only the first rows of each set.
        vlmevalkit: the folder of a clone of VLMEvalKit.
        judge: for the sets that need one; there is no default.

    Paths are relative to the working directory.
    """

    models: Annotated[list[Annotated[Model, BeforeValidator(_model)]], BeforeValidator(_list)]
    arms: Annotated[list[Any], BeforeValidator(_list)]
    sets: Annotated[list[Annotated[Set, BeforeValidator(_set)]], BeforeValidator(_list)]
    output: str
    baseline: str = "whole"
    engine: Engine = "transformers"
    device: str = "auto"
    batch_size: int | None = Field(default=None, ge=1)
    processes: int = Field(default=1, ge=1)
    prompts: Literal["paper", "harness"] = "paper"
    max_new_tokens: int | None = Field(default=None, ge=1)
    limit: int | None = Field(default=None, ge=1)
    vlmevalkit: str | None = None
    judge: Judge | None = None


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> EvaluateConfig:
    """Read and check a YAML file.

    Args:
        overrides: ``key=value``, such as ``limit=100``; values are YAML.

    Raises:
        ConfigError: one line with the file, the key, the value seen and what is allowed.
    """
    return check(EvaluateConfig, read_yaml(path, overrides, "models, arms, sets and output"), str(path))


def cells(config: EvaluateConfig) -> list[Cell]:
    """Every model with every arm on every set, in the order of the table.

    Raises:
        ConfigError: an arm, a set or a model cannot be used, names are not unique, or the baseline is missing.
        DataError: a row of one's own set cannot be used.
    """
    arms = [Arm.parse(value, PAPER_SEED if config.prompts == "paper" else _RANDOM_SEED) for value in config.arms]
    _unique("arms", [arm.folder for arm in arms])
    _unique("models", [slug(model.label) for model in config.models])
    if config.baseline not in [arm.name for arm in arms]:
        raise ConfigError(f"baseline: {config.baseline!r} is not among the arms: {', '.join(arm.name for arm in arms)}")
    sets = [found for entry in config.sets for found in _sets(entry)]
    _unique("sets", [slug(known.name) for known, _ in sets])
    _check_needs([known for known, _ in sets], config)
    return [
        _cell(config, model, arm, known, questions)
        for model in config.models
        for known, questions in sets
        for arm in arms
    ]


def _cell(config: EvaluateConfig, model: Model, arm: Arm, known: KnownSet, questions: str | None) -> Cell:
    loading = {
        "model": _folder(model.model),
        "dtype": model.dtype,
        "device": config.device,
        "attention": model.attention,
        "processor": model.processor,
        "template": model.template,
        "options": model.vllm,
    }
    tokens = config.max_new_tokens or (PAPER_TOKENS if config.prompts == "paper" else None)
    judge = config.judge
    return Cell(
        model.label,
        loading,
        config.engine,
        arm,
        known,
        questions=questions,
        prompt=_prompt(model, known, questions),
        max_new_tokens=tokens,
        points=_points(model) if known.kind == "point" else "thousand",
        limit=config.limit,
        batch_size=config.batch_size or _BATCH[config.engine],
        vlmevalkit=None if config.vlmevalkit is None else str(Path(config.vlmevalkit).expanduser().resolve()),
        judge={"judge": judge.model, "judge-base-url": judge.url} if judge else {},
    )


def _prompt(model: Model, known: KnownSet, questions: str | None) -> str | None:
    """Points are asked for in the model's words; one's own questions are asked as they are."""
    if known.kind == "point":
        return model.point_prompt
    return None if questions is None else "{question}"


def _points(model: Model) -> Scale:
    if model.points is not None:
        return model.points
    folder = Path(_folder(model.model))
    if (folder / "config.json").is_file():
        import json

        return scale_of(json.loads((folder / "config.json").read_text()).get("model_type", ""))
    family = family_named(model.model)
    if family is None:
        raise ConfigError(
            f"models: {model.label}: how it writes points is not known from its name; give points: thousand (as "
            f"Qwen3-VL), pixels (as Qwen2.5-VL) or unit"
        )
    return scale_of(family.model_type)


def _folder(name: str) -> str:
    if name == "reader":
        from .. import reader

        return str(reader.path())
    return str(Path(name).expanduser().resolve()) if Path(name).expanduser().is_dir() else name


def _sets(entry: Set) -> list[tuple[KnownSet, str | None]]:
    if entry.questions is None:
        if entry.harness is not None:
            raise ConfigError(f"sets: {entry.name}: harness is for sets of your own, which have questions")
        return [(known, None) for known in named(entry.name)]
    if entry.name in KNOWN or slug(entry.name) != entry.name:
        raise ConfigError(f"sets: {entry.name!r}: a set of your own needs a name of its own, without spaces")
    if entry.harness is None:
        raise ConfigError(f"sets: {entry.name}: say which harness asks it: vlmevalkit or lmms-eval")
    path = Path(entry.questions).expanduser().resolve()
    return [(known_set(entry.name, entry.harness, read_rows(path)), str(path))]


def _check_needs(sets: list[KnownSet], config: EvaluateConfig) -> None:
    kit = [known.name for known in sets if known.harness == "vlmevalkit"]
    if kit and config.vlmevalkit is None:
        raise ConfigError(
            f"{kit[0]} is asked by VLMEvalKit; give the folder of a clone: vlmevalkit: DIR, or --vlmevalkit DIR"
        )
    if config.judge is None and (judged := [known.name for known in sets if known.judge == "url"]):
        raise ConfigError(
            f"{judged[0]} is marked by a language model; give judge: {{url: ..., model: ...}}, or leave the set out"
        )


def _unique(key: str, names: list[str]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if not names:
        raise ConfigError(f"{key}: name at least one")
    if twice:
        raise ConfigError(f"{key}: {twice[0]!r} is there twice; give them different names")
