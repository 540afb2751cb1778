"""Which characters of a rendered conversation are answers, found from the chat template itself.

The conversation is rendered twice, as it is and with every answer replaced by a marker. What stands between markers
is the template's own; in the rendering as it is, answers are what lies between those pieces. So a template may add
what it likes, to old turns and new, as long as it renders the words of an answer as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import DataError
from .rows import Message


def render(processor: Any, messages: Sequence[Message], where: str) -> tuple[str, list[tuple[int, int]]]:
    """Render a conversation and find its answers.

    Args:
        processor: has ``apply_chat_template``.
        messages: as in :class:`~pixelprune.train.Conversation`.
        where: begins every error.

    Returns:
        The text, and the start and end of each of the assistant's answers in it, without what the template puts
        around them.

    Raises:
        DataError: the template does not render the answers as they are, or refuses the conversation.
    """
    answers = [message["content"][0]["text"] for message in messages if message["role"] == "assistant"]
    markers = iter([_marker(number) for number in range(len(answers))])
    marked = [
        {"role": "assistant", "content": [{"type": "text", "text": next(markers)}]}
        if message["role"] == "assistant"
        else message
        for message in messages
    ]
    try:
        text: str = processor.apply_chat_template(list(messages), tokenize=False)
        skeleton: str = processor.apply_chat_template(marked, tokenize=False)
    except Exception as error:  # templates raise what they like
        raise DataError(f"{where}: the chat template refuses the conversation ({error})") from error
    spans, here = [], 0
    for number, answer in enumerate(answers):
        before, found, skeleton = skeleton.partition(_marker(number))
        here += len(before)
        # Templates strip answers or do not.
        shown = next((shape for shape in (answer, answer.strip()) if text.startswith(shape, here)), None)
        if not found or shown is None or not text.startswith(before, here - len(before)):
            raise DataError(
                f"{where}: the chat template does not render answer {number + 1} as it is; "
                f"leave out of answers what the template treats specially"
            )
        spans.append((here, here + len(shown)))
        here += len(shown)
    if text[here:] != skeleton:
        raise DataError(f"{where}: the chat template does not render answer {len(answers)} as it is")
    return text, spans


def _marker(number: int) -> str:
    # Letters alone: nothing that a template would strip, split or escape.
    return f"XpixelpruneAnswer{number}X"
