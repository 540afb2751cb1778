"""What a run shows while it trains: a bar where there is a terminal, a line per log where there is none."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class RichProgress(TrainerCallback):
    """Shows steps, loss, tokens per second and retain ratio on the first process."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.training = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.training = True
        if not state.is_world_process_zero or not self.console.is_terminal:
            return
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, TextColumn("{task.fields[numbers]}"), console=self.console)
        self.bar.start()
        self.task = self.bar.add_task("", total=state.max_steps, completed=state.global_step, numbers="")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if not (self.training and state.is_world_process_zero and logs):
            return
        if "loss" not in logs and "eval_loss" not in logs:
            return
        text = numbers(logs)
        if self.bar is not None and "loss" in logs:
            self.bar.update(self.task, numbers=text)
        else:
            self.console.print(f"step {state.global_step}/{state.max_steps}  {text}", highlight=False, soft_wrap=True)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away, also after an error. The final evaluation is shown by who asked for it."""
        self.training = False
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def numbers(logs: dict[str, float]) -> str:
    """One line of what matters in a log."""
    shown = {
        "loss": "loss {:.4f}",
        "ce": "ce {:.4f}",
        "kl": "kl {:.4f}",
        "eval_loss": "eval loss {:.4f}",
        "eval_token_accuracy": "token accuracy {:.1%}",
        "eval_exact_match": "exact match {:.1%}",
        "tokens_per_second": "{:.0f} tokens/s",
        "retain_ratio": "{:.1%} kept",
    }
    return "  ".join(form.format(logs[name]) for name, form in shown.items() if name in logs)
