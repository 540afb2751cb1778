"""The sets of questions that a configuration can name, and what each needs.

The sixteen of VLMEvalKit are those that arXiv 2604.00886 evaluates; a group's name means all of its sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..core.config import did_you_mean
from ..errors import ConfigError

Harness = Literal["vlmevalkit", "lmms-eval"]
Judge = Literal["", "exact", "url"]

#: What is asked for: words, or a point on the screen.
Kind = Literal["text", "point"]

#: Where VLMEvalKit's score of each row comes from: ``matches`` in its file of results, a ``hit`` or ``score`` column
#: there, or its evaluation of each row ``alone``, where it keeps aggregates only; ``none`` for aggregates of another
#: kind. lmms-eval has the scores of its samples.
Rows = Literal["matches", "hit", "score", "alone", "none", "samples"]


@dataclass(frozen=True)
class KnownSet:
    """A set that a harness brings.

    Attributes:
        name: in configurations.
        harness: that has it.
        task: its name there.
        kind: of its questions.
        rows: where scores of rows come from.
        count: how many rows it has, for estimates.
        metric: the harness's name of the set's score.
        judge: what marks answers: nothing beside the harness's own rules; ``exact`` for exact matching, which the
            harness does when told to; ``url`` for a language model behind a URL that the configuration must name.
        needs: packages beside the harness's own.
    """

    name: str
    harness: Harness
    task: str
    kind: Kind
    rows: Rows
    count: int
    metric: str
    judge: Judge = ""
    needs: tuple[str, ...] = ()


def _kit(name: str, rows: Rows, count: int, metric: str, judge: Judge = "", needs: tuple[str, ...] = ()) -> KnownSet:
    kind: Kind = "point" if name.startswith("ScreenSpot") else "text"
    return KnownSet(name, "vlmevalkit", name, kind, rows, count, metric, judge, needs)


def _lmms(task: str, count: int, metric: str) -> KnownSet:
    return KnownSet(task, "lmms-eval", task, "point" if "screenspot" in task else "text", "samples", count, metric)


_PRO = {"Scientific": 254, "Office": 230, "OS": 196, "Creative": 341, "Development": 299, "CAD": 261}
_V2 = {"Web": 437, "Mobile": 501, "Desktop": 334}

KNOWN: dict[str, KnownSet] = {
    known.name: known
    for known in (
        _kit("DocVQA_VAL", "matches", 5349, "Overall"),
        _kit("InfoVQA_VAL", "matches", 2801, "Overall"),
        _kit("ChartQA_TEST", "matches", 2500, "Overall"),
        _kit("AI2D_TEST", "hit", 3088, "Overall", "exact"),
        _kit("OCRBench", "alone", 1000, "Final Score Norm"),
        _kit("MMLongBench_DOC", "score", 1082, "overall_acc", "url", ("fitz",)),
        _kit("olmOCRBench", "none", 1403, "overall", "", ("fuzzysearch", "rapidfuzz", "bs4", "playwright")),
        *(_kit(f"ScreenSpot_v2_{part}", "alone", count, "Overall_Accuracy") for part, count in _V2.items()),
        *(_kit(f"ScreenSpot_Pro_{part}", "alone", count, "Overall_Accuracy") for part, count in _PRO.items()),
        _lmms("docvqa_val", 5349, "anls"),
        _lmms("infovqa_val", 2801, "anls"),
        _lmms("chartqa", 2500, "relaxed_overall"),
        _lmms("ai2d", 3088, "exact_match"),
        _lmms("ocrbench", 1000, "ocrbench_accuracy"),
        _lmms("screenspot_v2", 1272, "screenspot_v2_action_acc"),
        _lmms("screenspot_pro", 1581, "screenspot_pro_action_acc"),
    )
}

#: Names that mean several sets.
GROUPS: dict[str, tuple[str, ...]] = {
    "paper": tuple(name for name, known in KNOWN.items() if known.harness == "vlmevalkit"),
    "ScreenSpot_v2": tuple(f"ScreenSpot_v2_{part}" for part in _V2),
    "ScreenSpot_Pro": tuple(f"ScreenSpot_Pro_{part}" for part in _PRO),
    "lmms-eval": tuple(name for name, known in KNOWN.items() if known.harness == "lmms-eval"),
}


def named(name: str) -> list[KnownSet]:
    """The sets that a name means.

    Raises:
        ConfigError: it is not known.
    """
    if name in GROUPS:
        return [KNOWN[each] for each in GROUPS[name]]
    if name not in KNOWN:
        raise ConfigError(f"sets: unknown set {name!r}{did_you_mean(name, [*KNOWN, *GROUPS])}")
    return [KNOWN[name]]
