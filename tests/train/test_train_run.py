"""``pixelprune train``: configs, what a run leaves behind, and going on after a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from train_kit import load_model, rows, write
from transformers import AutoModelForImageTextToText, AutoTokenizer, TrainingArguments

from pixelprune.errors import ConfigError, PixelPruneError
from pixelprune.hf import PrunedProcessor
from pixelprune.train import run
from pixelprune.train.checkpoint import last_complete_checkpoint
from pixelprune.train.config import Data, load_config, parse_config
from pixelprune.train.options import DEFAULTS, MOVED, OURS

PIXELPRUNE = [sys.executable, "-m", "pixelprune"]
EXAMPLES = Path(__file__).parents[2] / "examples" / "train"


@pytest.fixture
def content(folder: Path, pictures: Path, tmp_path: Path) -> dict[str, Any]:
    """A config of six steps an epoch."""
    return {
        "model": str(folder),
        "output": str(tmp_path / "out"),
        "data": {
            "train": [str(write(pictures / "run.jsonl", rows(12)))],
            "eval": [str(write(pictures / "held.jsonl", rows(5)))],
        },
        "images": {"min_pixels": 1024},
        "trainer": {
            "max_steps": 8,
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-3,
            "lr_scheduler_type": "constant",
            "logging_steps": 1,
            "save_steps": 4,
        },
        "device": "cpu",
    }


def losses(output: Path) -> list[float]:
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def saved(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def command(*arguments: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [*PIXELPRUNE, "train", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=900, check=False, env=environment)


def test_a_run_leaves_a_model_and_its_logs(content: dict[str, Any], tmp_path: Path, folder: Path) -> None:
    result = command(saved(tmp_path / "c.yaml", content), "trainer.max_steps=4", "trainer.save_steps=2")
    assert result.returncode == 0, result.stderr
    output = tmp_path / "out"
    assert re.search(r"step 4/4  loss \d+\.\d+  \d+ tokens/s  \d+\.\d% kept", result.stderr)
    assert re.search(r"evaluation: eval loss .* token accuracy .* exact match ", result.stdout)
    assert f"4 steps; the model is in {output}" in " ".join(result.stdout.split())
    assert len(losses(output)) == 4

    # The model is in Hugging Face form, its evaluation is that of the saved weights, and pruned processors load.
    again = run.build_trainer(parse_config({**content, "model": str(output), "output": str(tmp_path / "other")}))
    metrics = json.loads((output / "metrics.json").read_text())
    assert again.evaluate()["eval_loss"] == pytest.approx(metrics["eval_loss"], rel=1e-5)
    assert 0 < metrics["eval_retain_ratio"] < 1
    assert PrunedProcessor.from_pretrained(output).prune is not None
    assert len(AutoTokenizer.from_pretrained(output)) == 263
    before, after = load_model(folder).state_dict(), AutoModelForImageTextToText.from_pretrained(output).state_dict()
    assert set(before) == set(after) and not torch.equal(before["lm_head.weight"], after["lm_head.weight"])

    assert {path.name for path in output.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}
    board = EventAccumulator(str(output / "tensorboard")).Reload()
    shown = [event.value for event in board.Scalars("train/loss")]
    assert shown == pytest.approx(losses(output), rel=1e-6)
    assert {"train/retain_ratio", "train/tokens_per_second", "eval/loss"} <= set(board.Tags()["scalars"])
    assert not (output / "runs").exists()


def test_it_goes_on_after_a_kill_to_the_same_losses(content: dict[str, Any], tmp_path: Path) -> None:
    """With dropout and a mixture of files, so that random states and the order of rows count."""
    extra = write(Path(content["data"]["train"][0]).parent / "more.jsonl", rows(7)[::-1])
    content["data"]["train"] = [{"path": content["data"]["train"][0], "weight": 2}, {"path": str(extra), "weight": 1}]
    content["tune"] = {"lora": {"rank": 4, "dropout": 0.2, "parts": ["vision", "language"]}}
    content["distill"] = {"alpha": 0.5, "temperature": 2.0}
    content["trainer"]["max_steps"] = 24
    whole = {**content, "output": str(tmp_path / "whole")}
    run.train(parse_config(whole))

    path = saved(tmp_path / "c.yaml", content)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*PIXELPRUNE, "train", str(path)], env=environment, stderr=subprocess.DEVNULL)
    output = tmp_path / "out"
    while not (output / "checkpoint-12" / "trainer_state.json").exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it must not have ended before it was killed"
    last = last_complete_checkpoint(output)
    assert last is not None and not (output / "trainer_state.json").exists()
    # As if it had been killed while a checkpoint was written.
    broken = output / "checkpoint-20"
    broken.mkdir(exist_ok=True)
    (broken / "trainer_state.json").write_text('{"global_step": 20, "log_hist')
    assert last_complete_checkpoint(output) == last

    result = run.train(parse_config(content))
    assert result.steps == 24
    assert losses(output) == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    weights = [load_file(place / "adapter_model.safetensors") for place in (output, tmp_path / "whole")]
    assert all(torch.allclose(value, weights[1][name], atol=1e-6) for name, value in weights[0].items())
    # Control: another seed is another curve.
    other = {**content, "output": str(tmp_path / "other"), "trainer": {**content["trainer"], "seed": 1}}
    run.train(parse_config(other))
    assert losses(tmp_path / "other") != pytest.approx(losses(output), rel=1e-3)


def test_another_run_s_checkpoints_are_refused(content: dict[str, Any]) -> None:
    first = run.train(parse_config(content))
    with pytest.raises(ConfigError, match=r"holds a run with other settings: prune\.threshold was 0\.0 and is 0\.02"):
        run.train(parse_config({**content, "prune": {"threshold": 0.02}}))
    with pytest.raises(ConfigError, match=r"holds a run with other settings: prune\.lattice was 0 and is 4"):
        run.train(parse_config({**content, "prune": {"lattice": 4}}))
    # What shapes no weight may change; a finished run is only evaluated again.
    again = run.train(parse_config({**content, "trainer": {**content["trainer"], "save_steps": 2}}))
    assert again.steps == first.steps == 8
    assert again.metrics["eval_loss"] == pytest.approx(first.metrics["eval_loss"], rel=1e-6)
    # A run of a version that did not know a key had its default.
    saved_run = Path(content["output"]) / "run.yaml"
    assert "unpruned_fraction: 0.0" in saved_run.read_text()
    saved_run.write_text(saved_run.read_text().replace("  unpruned_fraction: 0.0\n", ""))
    run.train(parse_config(content))
    with pytest.raises(ConfigError, match=r"data\.unpruned_fraction was 0\.0 and is 0\.5"):
        run.train(parse_config({**content, "data": {**content["data"], "unpruned_fraction": 0.5}}))


def test_whole_images_are_for_training_only(content: dict[str, Any], tmp_path: Path) -> None:
    """Nearly all rows whole: the log of training says so, evaluation prunes as ever."""
    pruned = run.train(parse_config(content))
    mixed = {**content, "output": str(tmp_path / "mixed"), "data": {**content["data"], "unpruned_fraction": 0.99}}
    result = run.train(parse_config(mixed))
    assert result.metrics["eval_retain_ratio"] == pruned.metrics["eval_retain_ratio"] < 0.9
    logged = [
        [
            entry["retain_ratio"]
            for entry in json.loads((folder / "trainer_state.json").read_text())["log_history"]
            if "retain_ratio" in entry
        ]
        for folder in (result.output, pruned.output)
    ]
    assert min(logged[0]) == 1.0 > max(logged[1])


@pytest.mark.parametrize(
    ("changes", "trained"),
    [
        ({"tune": {"freeze": ["vision"]}}, r"(?!model\.visual\.).*|model\.visual\.(merger|deepstack).*"),
        ({"tune": {"freeze": ["vision", "merger"]}, "data": {"packing": True}}, r"(?!model\.visual\.).*"),
        ({"tune": {"freeze": ["language"]}, "prune": None}, r"model\.visual\..*"),
        (
            {"tune": {"freeze": ["language", "vision"]}, "trainer": {"bf16": True}},
            r"model\.visual\.(merger|deepstack).*",
        ),
        ({"tune": {"linear_patches": False}, "trainer": {"gradient_checkpointing": True}, "distill": {}}, ".*"),
    ],
)  # fmt: skip
def test_what_is_frozen_stays(
    content: dict[str, Any], changes: dict[str, Any], trained: str, folder: Path, tmp_path: Path
) -> None:
    for section in ("data", "trainer"):
        changes[section] = {**content[section], **changes.get(section, {})}
    changes["trainer"]["max_steps"] = 2
    run.train(parse_config({**content, **changes}))
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    wanted = {name for name in before if re.fullmatch(trained, name)}
    # Biases that attention cannot see (those of keys) have no gradient.
    assert changed <= wanted and len(changed) > 0.8 * len(wanted) > 0


def test_an_adapter_alone_or_merged(content: dict[str, Any], tmp_path: Path) -> None:
    content["tune"] = {"lora": {"rank": 2, "parts": ["merger", "language"]}}
    content["trainer"]["max_steps"] = 3
    alone = run.train(parse_config(content))
    assert not (tmp_path / "out" / "model.safetensors").exists()
    names = list(load_file(tmp_path / "out" / "adapter_model.safetensors"))
    assert any("merger" in name for name in names) and not any("visual.blocks" in name for name in names)
    content["tune"]["lora"]["merge"] = True
    merged = run.train(parse_config({**content, "output": str(tmp_path / "merged")}))
    assert merged.metrics["eval_loss"] == pytest.approx(alone.metrics["eval_loss"], rel=1e-5)
    again = run.build_trainer(parse_config({**content, "model": str(tmp_path / "merged"), "tune": {}}))
    assert again.evaluate()["eval_loss"] == pytest.approx(alone.metrics["eval_loss"], rel=1e-4)


def test_bad_rows_end_the_run_or_are_counted(content: dict[str, Any], tmp_path: Path) -> None:
    train = Path(content["data"]["train"][0])
    write(train, [*rows(6), "{", *rows(6)])
    path = saved(tmp_path / "c.yaml", content)
    result = command(path)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert re.fullmatch(r"pixelprune: \S+run\.jsonl:7: not valid JSON .* leaves such rows out\)\n", result.stderr)
    result = command(path, "data.skip_bad_rows=true", "trainer.max_steps=1")
    assert result.returncode == 0, result.stderr
    said = "".join(result.stderr.split())  # lines break where the terminal ends
    assert "run.jsonl:7:notvalidJSON" in said and "1badrowwasleftout" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modle": "x"}, "unknown key 'modle'; did you mean 'model'?"),
        ({"trainer": {"learning_rat": 1}}, "trainer: TrainingArguments has no option 'learning_rat'; did you mean 'l"),
        ({"trainer": {"qqq": 1}}, "TrainingArguments has no option 'qqq'; see the documentation of transformers."),
        ({"trainer": {"output_dir": "x"}}, "trainer: output_dir is set by the key output; leave it out"),
        ({"trainer": {"report_to": "all"}}, "trainer: report_to is set by the run: it logs"),
        ({"trainer": [1]}, "trainer: must hold options of TrainingArguments, such as max_steps: 100; got [1]"),
        ({"trainer": {"bf16": "perhaps"}}, "trainer: bf16: Input should be a valid boolean"),
        ({"tune": {"lora": {"ranks": 1}}}, "unknown key 'tune.lora.ranks'; did you mean 'rank'?"),
        ({"data": {"train": [{"file": "a"}]}}, "unknown key 'data.train.0.file'; known are path, weight"),
        ({"prune": {"treshold": 0}}, "prune: unknown setting 'treshold'; did you mean 'threshold'?"),
        ({"prune": {"threshold": 2}}, "threshold must be a number from 0 to 1"),
        ({"trainer": {"per_device_train_batch_size": 0}}, "per_device_train_batch_size must be more than 0; got 0"),
        ({"trainer": {"learning_rate": "fast"}}, "trainer: learning_rate: Input should be a valid number"),
        ({"tune": {"freeze": ["eyes"]}}, "tune.freeze.0: Input should be 'vision', 'merger' or 'language'; got 'eyes'"),
        ({"tune": {"freeze": ["vision"], "lora": {}}}, "tune.freeze does nothing beside tune.lora"),
        ({"data": {"train": []}}, "data.train: name at least one JSONL file"),
        ({"data": {"train": ["a", {"path": "b", "weight": 1}]}}, "give every file a weight, or none"),
        ({"data": {"train": ["a"]}, "trainer": {"eval_steps": 10}}, "trainer.eval_steps need data.eval"),
        ({"schedule": {"max_steps": 5}}, "schedule.max_steps is now trainer.max_steps"),
        (
            {"tune": {"bf16": True}, "save": {"every": 5}},
            "save.every is now trainer.save_steps; tune.bf16 is now trainer.bf16",
        ),
        ({"schedule": None}, "the section schedule is now trainer, with the names of TrainingArguments"),
        ({"data": {"train": "a", "whole_share": 0.5}}, "data.whole_share is now data.unpruned_fraction"),
        ({"data": {"train": ["a"], "unpruned_fraction": 1}}, "unpruned_fraction: Input should be less than 1; got 1"),
        ({"data": {"train": ["a"], "unpruned_fraction": 0.5}, "prune": None}, "does nothing where prune is"),
        ({"output": None}, "output: Input should be a valid string; got None"),
        ({"distill": {"alpha": 1.5}}, "distill.alpha: Input should be less than or equal to 1; got 1.5"),
    ],
)  # fmt: skip
def test_configs_that_are_wrong(content: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({**content, **changes}, "c.yaml")
    assert str(caught.value).startswith("c.yaml: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)
    parse_config(content)


def test_config_files(content: dict[str, Any], tmp_path: Path) -> None:
    path = saved(tmp_path / "c.yaml", content)
    config = load_config(path, ["trainer.learning_rate=2e-4", "tune.lora.rank=8", "prune=null", "data.eval=[]"])
    assert config.trainer["learning_rate"] == 2e-4 and config.tune.lora is not None and config.tune.lora.rank == 8
    assert config.prune is None and config.data.eval == []
    assert config == parse_config(config.model_dump(mode="json")), "what a run notes down is its config"
    for text, message in (("trainer", "an override is key=value"), ("model.x=1", "model is no section")):
        with pytest.raises(ConfigError, match=message):
            load_config(path, [text])
    for text, message in (
        ("a: [", "not valid YAML"),
        ("- 1", "must hold keys such as model"),
        (None, "cannot be read"),
    ):
        path.unlink() if text is None else path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_config(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "/no/such/folder"}, "there is no folder '/no/such/folder'"),
        ({"model": "nobody/no-such-model"}, "nobody/no-such-model cannot be loaded"),
        ({"images": {"min_pixels": 5000, "max_pixels": 4000}}, "min_pixels 5000 is more than max_pixels 4000"),
        ({"tune": {"freeze": ["vision", "merger", "language"]}}, "frozen nothing is left to train"),
        ({"trainer": {"lr_scheduler_type": "sideways"}}, "the Hugging Face Trainer refuses these settings: .*sideways"),
        ({"tune": {"attention": "telepathy"}}, "cannot be loaded: .*telepathy"),
        ({"data": {"train": ["/no/such.jsonl"]}}, "/no/such.jsonl: cannot be read"),
    ],
)
def test_runs_that_cannot_begin(content: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PixelPruneError, match=message):
        run.train(parse_config({**content, **changes}))


def test_bf16_without_a_gpu_runs_on_the_cpu(content: dict[str, Any]) -> None:
    config = parse_config({**content, "device": "auto", "trainer": {"bf16": True}})
    args = run._arguments(config)
    assert args.bf16 and args.use_cpu == (not torch.accelerator.is_available())


def test_options_reach_the_trainer_and_have_defaults(content: dict[str, Any]) -> None:
    """Any option of TrainingArguments is handed through; YAML reads 1e-5 as a text."""
    content["trainer"] = {"learning_rate": "1e-5", "max_grad_norm": 0.5, "adam_beta2": 0.9, "eval_steps": 7}
    args = run._arguments(parse_config(content))
    assert (args.learning_rate, args.max_grad_norm, args.adam_beta2, args.eval_steps) == (1e-5, 0.5, 0.9, 7)
    assert (args.eval_strategy, args.lr_scheduler_type, args.output_dir) == ("steps", "cosine", content["output"])
    for name, value in DEFAULTS.items():
        assert getattr(args, name) == value or name in content["trainer"]
    # A default that is written out makes no other run.
    assert parse_config({**content, "trainer": {}}) == parse_config({**content, "trainer": {"seed": 0}})


def test_moved_keys_are_gone_and_their_new_places_exist(content: dict[str, Any]) -> None:
    known = TrainingArguments.__dataclass_fields__
    for old, new in MOVED.items():
        section, _, key = old.partition(".")
        with pytest.raises(ConfigError, match=f"{re.escape(old)} is now {re.escape(new)}"):
            parse_config({**content, section: {**content.get(section, {}), key: 1}})
        section, _, key = new.partition(".")
        assert key in (known if section == "trainer" else Data.model_fields)
    assert set(DEFAULTS) <= set(known) and set(OURS) <= set(known)


def test_one_file_needs_no_list(content: dict[str, Any]) -> None:
    data = {name: files[0] for name, files in content["data"].items()}
    assert parse_config({**content, "data": data}) == parse_config(content)
    weighted = {"train": {"path": "a", "weight": 2}}
    assert parse_config({**content, "data": weighted}).data.train[0].weight == 2


def test_paths_are_relative_to_the_working_directory(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Path(content["data"]["train"][0])
    (tmp_path / "configs").mkdir()
    path = saved(tmp_path / "configs" / "c.yaml", {**content, "data": {"train": train.name}, "output": "here"})
    monkeypatch.chdir(train.parent)
    result = run.train(load_config(path, ["trainer.max_steps=1"]))
    assert result.output.resolve() == train.parent.resolve() / "here" and (train.parent / "here").is_dir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PixelPruneError, match=f"{train.name}: cannot be read"):
        run.train(load_config(path))


def test_a_short_run_logs_its_first_and_last_step_and_says_what_it_did(content: dict[str, Any]) -> None:
    content["data"].pop("eval")
    content["trainer"] |= {"max_steps": 3, "logging_steps": 10}
    output = run.train(parse_config(content)).output
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 3]
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["steps"] == 3 and metrics["train_loss"] == losses(output)[-1]
    assert 0 < metrics["train_retain_ratio"] < 1
