"""Prune an image, see what is kept of it, and ask a model about it. Run it with `python example.py`, then change it."""

from pathlib import Path

from pixelprune import PruneConfig, select
from pixelprune.core.images import open_image
from pixelprune.hf.chat import Chat
from pixelprune.viz import overlay

IMAGE = Path(__file__).parent / "examples" / "pages" / "page-4.png"
QUESTION = "Under card, which option is selected?"
MODEL = None  # the bundled reader; or a folder or hub id of a model, such as "Qwen/Qwen3-VL-2B-Instruct"
CONFIG = PruneConfig(method="pred2d", threshold=0.0)  # at 0 the image can be rebuilt from what is kept
PICTURE = Path("out") / "kept.png"


def main() -> None:
    image = open_image(IMAGE)
    chat = Chat(MODEL, CONFIG)

    pixels = chat.spec.resize(image)  # as the model's processor resizes it, uint8 (H, W, 3)
    selection = select(pixels, CONFIG, block_size=chat.spec.block_size)
    PICTURE.parent.mkdir(exist_ok=True)
    overlay(pixels, selection, CONFIG).save(PICTURE)
    print(f"kept {selection.num_kept} of {selection.num_blocks} blocks ({selection.retain_ratio:.1%}); see {PICTURE}")

    for mode in ("whole", "pruned"):
        answer = chat.answer([image], QUESTION, mode)
        print(f"{mode}: {answer.text!r} from {answer.image_tokens} image tokens")


if __name__ == "__main__":
    main()
