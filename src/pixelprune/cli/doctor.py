"""``pixelprune doctor``: is everything here that is needed, and is pruning right with these versions?"""

from __future__ import annotations

import importlib.util
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import install_hint

if TYPE_CHECKING:
    from rich.console import Console

_PACKAGES = ("numpy", "pillow", "numba", "torch", "transformers", "tokenizers", "accelerate", "peft", "torchvision")


def doctor(
    vllm: Annotated[
        Path | None,
        typer.Option(
            help="Check this vLLM instead, a wheel or a folder with its source, by signature: it is read, not run."
        ),
    ] = None,
) -> None:
    """Show versions and engines, and check pruned models against an oracle. Exit code 0 only when all is right."""
    from rich.console import Console

    console = Console(highlight=False)
    if vllm is not None:
        raise typer.Exit(0 if _check_vllm_source(console, vllm) else 1)
    _versions(console)
    right = _check_core(console)
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        console.print(f"[red]✗[/] engine hf: missing {', '.join(missing)}\n  {_install('hf')}", soft_wrap=True)
        right = False
    else:
        right = _check_hf(console) and _check_reader(console) and right
    right = _check_vllm(console) and right
    console.print("\n[bold green]All is right.[/]" if right else "\n[bold red]Something is wrong; see above.[/]")
    raise typer.Exit(0 if right else 1)


def _versions(console: Console) -> None:
    from .. import __version__

    console.print(f"[bold]pixelprune {__version__}[/], Python {platform.python_version()}, {platform.platform()}")
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"[dim]{name} -[/]")
    console.print("  ".join(found))
    if importlib.util.find_spec("torch") is not None:
        import torch

        devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        console.print(f"devices: {', '.join(devices) if devices else 'CPU only'}")


def _check_core(console: Console) -> bool:
    """Select on an image whose answer is known, and rebuild it."""
    import numpy as np

    from .. import select

    image = np.full((64, 96, 3), 255, np.uint8)
    image[40:48, 70:80] = 0
    selection = select(image, block_size=32)
    right = selection.kept_indices.tolist() == [0, 5] and bool((selection.reconstruct(image) == image).all())
    console.print(f"{_mark(right)} selection: kept blocks and exact reconstruction of a known image")
    return right


def _check_hf(console: Console) -> bool:
    try:
        import torch

        from ..check.selfcheck import TOLERANCE, check_family
        from ..hf.chat import quiet_libraries
        from ..models.refused import REFUSED
        from ..models.registry import FAMILIES
    except Exception as error:
        _failed(console, "engine hf: cannot be imported", error)
        return False
    quiet_libraries()
    torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other
    console.print(
        f"\nEngine hf: a tiny model of each family on pruned input, against a slow oracle.\n"
        f"Relative error of the logits: at most {TOLERANCE:.0e}; above it with wrong positions.\n"
        f"  {'family':<{max(map(len, FAMILIES))}}  kept  answer    error  wrong positions   time"
    )
    right, width = True, max(map(len, FAMILIES))
    for model_type in FAMILIES:
        try:
            result = check_family(model_type)
        except Exception as error:  # whatever goes wrong in a family is what the doctor is there to tell
            _failed(console, model_type, error)
            right = False
            continue
        right = right and result.passed
        console.print(
            f"{_mark(result.passed)} {model_type:<{width}}  {result.retain_ratio:>4.0%}  "
            f"{'same' if result.same_answer else 'OTHER':<6}  {result.difference:>7.0e}  {result.control:>15.0e}  "
            f"{result.seconds:>3.1f} s"
        )
    console.print(f"refused, for reasons in docs/models.md: {', '.join(REFUSED)}\n")
    return right


def _check_reader(console: Console) -> bool:
    """Whether the bundled reader reads a page, whole and pruned."""
    from rich.markup import escape

    from ..core.images import open_image
    from ..hf.chat import Chat
    from ..reader import EXAMPLE

    try:
        chat = Chat(device="cpu")
        image = open_image(EXAMPLE.image)
        whole = chat.answer([image], EXAMPLE.question, "whole", 40)
        pruned = chat.answer([image], EXAMPLE.question, "pruned", 40)
    except Exception as error:  # as above
        _failed(console, "reader", error)
        return False
    right = whole.text == pruned.text == EXAMPLE.answer
    console.print(
        f"{_mark(right)} bundled reader: {escape(repr(whole.text))} from {whole.image_tokens} blocks of a page, "
        f"{escape(repr(pruned.text))} from {pruned.image_tokens}"
    )
    return right


def _check_vllm(console: Console) -> bool:
    """Whether vLLM, where it is installed, finds the plugin and has what the plugin builds on."""
    from importlib.metadata import entry_points

    from rich.markup import escape

    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:  # without origin: any folder of that name on the path
        console.print(f"[dim]- engine vllm: not installed\n  {_install('vllm')}[/]", soft_wrap=True)
        return True
    try:
        import vllm.envs

        from ..vllm import compat

        chosen = vllm.envs.VLLM_PLUGINS
        missing = compat.find_missing()
    except Exception as error:
        _failed(console, "engine vllm: cannot be imported", error)
        return False
    if not entry_points(group="vllm.general_plugins", name="pixelprune"):
        missing.append("the plugin among the entry points (install pixelprune anew)")
    if chosen is not None and "pixelprune" not in chosen:
        missing.append("pixelprune in VLLM_PLUGINS")
    result = (
        f"missing {'; '.join(missing)}" if missing else f"the plugin is found and fits (tested with {compat.TESTED})"
    )
    console.print(
        f"{_mark(not missing)} engine vllm: vLLM {compat.installed_version()}: {escape(result)}", soft_wrap=True
    )
    return not missing


def _check_vllm_source(console: Console, path: Path) -> bool:
    """Whether a vLLM that is not installed has what the plugin builds on in vLLM itself."""
    from rich.markup import escape

    from ..vllm import compat
    from ..vllm.source import Source

    source = Source(path, "vllm")
    missing = compat.find_missing(source, "vllm")
    result = (
        f"missing {'; '.join(missing)}. Install vLLM {compat.TESTED}, or a newer pixelprune"
        if missing
        else f"the plugin fits: checked by signature, not run (tested with {compat.TESTED})"
    )
    console.print(
        f"{_mark(not missing)} vLLM {source.version or 'of unknown version'} in {escape(f'{path}: {result}')}",
        soft_wrap=True,
    )
    return not missing


def _install(extra: str) -> str:
    from rich.markup import escape

    return escape(install_hint(extra))


def _mark(right: bool) -> str:
    return "[green]✓[/]" if right else "[red]✗[/]"


def _failed(console: Console, what: str, error: Exception) -> None:
    from rich.markup import escape

    reason = " ".join(f"{type(error).__name__}: {error}".split())
    console.print(f"{_mark(False)} {what}: {escape(reason)}", soft_wrap=True)
