"""Ask a model about the image, whole and pruned. It is loaded with the first question, and answers one at a time."""

from __future__ import annotations

from html import escape
from threading import Lock
from typing import TYPE_CHECKING

from PIL import Image

from .. import reader
from ..core.config import PruneConfig
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..hf.chat import Answer, Chat

MOST_NEW_TOKENS = 128
#: Letters of a question.
LONGEST = 2000


class Answers:
    """A model that answers questions.

    Args:
        model: a local folder or a hub id; the bundled reader if ``None``.
        dtype, device: as for ``pixelprune ask``.
    """

    def __init__(self, model: str | None = None, dtype: str = "auto", device: str = "") -> None:
        self._model, self._dtype, self._device = model, dtype, device
        self._chat: Chat | None = None
        self._lock = Lock()

    @property
    def name(self) -> str:
        """Of the model, for people."""
        return "the bundled reader" if self._model is None else self._model.rstrip("/").rsplit("/", 1)[-1]

    @property
    def note(self) -> str:
        """What can be asked, for people; empty where the model is the visitor's own choice."""
        if self._model is not None:
            return ""
        return (
            "It reads small, simple pages like the last of the examples. To have real pages read, start with "
            "<code>pixelprune explore --model Qwen/Qwen3-VL-2B-Instruct</code>."
        )

    @property
    def questions(self) -> tuple[str, ...]:
        """Questions to begin with: those of the last example for the bundled reader."""
        if self._model is not None:
            return "What is the total?", "What is the title of this page?"
        return reader.EXAMPLE.question, "Point to Cash.", "What is the total?"

    def doubt(self, image: Image.Image, question: str) -> str | None:
        """Why the bundled reader may answer wrongly; None for another model, or where nothing is known against it."""
        return reader.outside_training([image], question) if self._model is None else None

    def ask(self, image: Image.Image, question: str, config: PruneConfig) -> list[Answer]:
        """The answers from the whole image and from the pruned one.

        Raises:
            ConfigError, ImageError, UnsupportedModelError: there is no question, or the model or the image does not
                allow it.
        """
        question = question.strip()
        if not question:
            raise ConfigError("Ask something about the image first.")
        if len(question) > LONGEST:
            raise ConfigError(f"A question may have {LONGEST} letters; this one has {len(question)}.")
        with self._lock:
            chat = self._load()
            chat.config = config
            return [
                chat.answer([image], question, "whole", MOST_NEW_TOKENS),
                chat.answer([image], question, "pruned", MOST_NEW_TOKENS),
            ]

    def _load(self) -> Chat:
        if self._chat is None:
            from ..hf.chat import Chat, quiet_libraries

            quiet_libraries()
            self._chat = Chat(self._model, dtype=self._dtype, device=self._device)
        return self._chat


def answers_html(answers: list[Answer], doubt: str | None = None) -> str:
    """Both answers with their times, side by side, and above them why they may be wrong."""
    whole = next(answer for answer in answers if answer.mode == "whole")
    cards = []
    for answer in answers:
        faster = f", {whole.first_token / answer.first_token:.2f}× as fast" if answer is not whole else ""
        cards.append(
            f'<div class="pp-answer" data-mode="{answer.mode}"><h4>{answer.mode}</h4>'
            f"<p>{escape(answer.text) or '<i>nothing</i>'}</p>"
            f'<p class="pp-quiet">{answer.image_tokens:,} image tokens; first token after '
            f"{answer.first_token:.2f} s{faster}; {answer.seconds:.2f} s in all</p></div>"
        )
    warning = f'<p class="pp-doubt">{escape(doubt)}</p>' if doubt is not None else ""
    return f'{warning}<div class="pp-answers">{"".join(cards)}</div>'
