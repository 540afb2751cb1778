"""Write the table of ``docs/models.md`` anew from the registry: ``python docs/models_table.py``."""

from __future__ import annotations

from pathlib import Path

from pixelprune.models.family import Family
from pixelprune.models.published import KNOWN_MODELS
from pixelprune.models.refused import REFUSED
from pixelprune.models.registry import FAMILIES
from pixelprune.models.resize import ResizeSpec

PAGE = Path(__file__).with_name("models.md")
REFUSED_START, REFUSED_END = "<!-- The refused ones, too. -->\n", "<!-- End of the refused ones. -->\n"
START, END = "<!-- The table is written by docs/models_table.py. -->\n", "<!-- End of the table. -->\n"


def row(family: Family) -> str:
    """A family's line of the table."""
    known = ", ".join(name for name, config in KNOWN_MODELS.items() if config["model_type"] == family.model_type)
    known = known or "none"
    block = ResizeSpec.for_model(family.model_type).block_size
    vllm = f"`{family.vllm.architecture}`" if family.vllm else f"no: {family.without_vllm}"
    cells = (family.name, f"`{family.model_type}`", known, f"{block} x {block}", f"`{family.processor}`", vllm)
    return f"| {' | '.join(cells)} |\n"


def table() -> str:
    """All of it, with its head."""
    head = (
        "family",
        "`model_type`",
        "sizes known by name",
        "block, pixels",
        "processor in transformers",
        "class in vLLM",
    )
    return f"| {' | '.join(head)} |\n|{' --- |' * len(head)}\n" + "".join(row(family) for family in FAMILIES.values())


def refused() -> str:
    """A line for each reason, with the families that it is of."""
    reasons: dict[str, list[str]] = {}
    for model_type, reason in REFUSED.items():
        reasons.setdefault(reason, []).append(f"`{model_type}`")
    return "".join(f"- {', '.join(names)}: {reason}.\n" for reason, names in reasons.items())


def written(page: str) -> str:
    """The page with the tables of now."""
    for start, end, text in ((START, END, table()), (REFUSED_START, REFUSED_END, refused())):
        before, rest = page.split(start)
        page = before + start + "\n" + text + "\n" + end + rest.split(end)[1]
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
