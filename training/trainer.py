"""A training run: recipe in, run folder with resumable checkpoints and a final model out."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.utils import cached_file

from rom_haystack.modeling import (
    CheckpointError,
    ROMConfig,
    ROMModel,
    bundled_checkpoints,
    load_checkpoint,
    resolve_checkpoint,
)
from rom_haystack.modeling.config import DEFAULT_HEADS
from rom_haystack.modeling.conversion.sources import recognise
from rom_haystack.modeling.places import MODEL_TYPE
from training.data.dataset import DataSet
from training.data.formats import read_together
from training.errors import DataError, RecipeError
from training.recipe import Recipe
from training.schedules import SCHEDULES, Plan, shares
from training.tasks import TASKS, Task
from training.tasks.base import Features

logger = logging.getLogger(__name__)

#: Kinds of models that are no plain encoders, as messages call them.
_NEED_CONVERSION = {"dpr": "a DPR model", "reader": "a question answering model"}


class StepDataset(Dataset):  # type: ignore[type-arg]
    """Item i holds the features of every task that step i trains, as the schedule planned it."""

    def __init__(self, tasks: Mapping[str, Task[Any]], plan: Plan) -> None:
        self.tasks = tasks
        self.plan = plan
        self._numbers: list[dict[str, int]] = []
        counts: dict[str, int] = defaultdict(int)
        for active in plan:
            self._numbers.append({name: counts[name] for name in active})
            for name in active:
                counts[name] += 1

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> dict[str, Any]:
        features = {name: self.tasks[name].batch(number) for name, number in self._numbers[step].items()}
        return {"features": features, "weights": self.plan[step]}


class ROMTrainer(Trainer):
    """Hugging Face's trainer over a plan of task batches, in the plan's order."""

    def __init__(self, *args: Any, tasks: Mapping[str, Task[Any]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tasks = tasks
        self.model_accepts_loss_kwargs = False
        self._metrics: dict[str, list[float]] = defaultdict(list)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,  # noqa: ARG002 (the base class passes it)
    ) -> Any:
        """Add up the weighted losses of the step's tasks."""
        total: Tensor | None = None
        for name, features in inputs["features"].items():
            loss, metrics = self.tasks[name].loss(model, features)  # type: ignore[arg-type]
            weighted = inputs["weights"][name] * loss
            total = weighted if total is None else total + weighted
            for metric, value in metrics.items():
                self._metrics[f"{name}/{metric}"].append(value)
        return (total, {}) if return_outputs else total

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log the means of the tasks' metrics since the last time, beside the trainer's own figures."""
        means = {name: round(sum(values) / len(values), 4) for name, values in self._metrics.items()}
        self._metrics.clear()
        super().log({**logs, **means}, *args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)


class StopAfter(TrainerCallback):
    """Write a checkpoint after a number of steps and stop there, to be continued later."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(
        self,
        _arguments: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Check the number of steps."""
        if state.global_step == self.steps:
            control.should_save = control.should_training_stop = True


def train(recipe: Recipe, data: Path, output: Path, *, stop_after: int | None = None) -> Path | None:
    """Run a recipe, continuing from the run folder's last checkpoint where there is one.

    Args:
        recipe: What to train.
        data: Root folder of the data; `recipe.data` and the tasks' own are looked up below it.
        output: Run folder. Holds the recipe's checkpoints while training and the model at the end.
        stop_after: Stop after this step with a checkpoint, as if the run had been interrupted there; None to finish.

    Returns:
        Folder of the trained model (`output/model`), with its tokenizer; None where `stop_after` came first.

    Raises:
        RecipeError: The recipe's encoder can't be loaded or is a model of another kind, or the run folder belongs to
            another recipe or data.
        CheckpointError: The recipe names a head or head option that does not exist.
        DataError: The data can't be used.
    """
    set_seed(recipe.seed)
    output.mkdir(parents=True, exist_ok=True)
    try:
        model = start_model(recipe)
        tokenizer = AutoTokenizer.from_pretrained(rom_checkpoint(recipe.encoder) or recipe.encoder)
    except (CheckpointError, RecipeError):
        raise
    except (OSError, ValueError) as error:  # what transformers raises for missing and unknown encoders
        raise RecipeError(f"Recipe key 'encoder' is '{recipe.encoder}', which can't be loaded: {error}") from error
    tasks = build_tasks(recipe, data, tokenizer)
    claim_folder(recipe, data, output)
    recipe = in_steps(recipe, tasks)
    arguments = training_arguments(recipe, output)
    model.to(arguments.device)
    for task in tasks.values():
        task.prepare(model, output)
    plan = SCHEDULES[recipe.schedule](recipe.mixture, recipe.steps * arguments.world_size, recipe.seed)
    trainer = ROMTrainer(
        model=model,
        args=arguments,
        train_dataset=StepDataset(tasks, plan),
        data_collator=_only_item,
        processing_class=tokenizer,
        tasks=tasks,
        callbacks=[StopAfter(stop_after)] if stop_after is not None else None,
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(output))
    if trainer.state.global_step < recipe.steps:
        return None
    return save_run(trainer, model, tokenizer, output)


def claim_folder(recipe: Recipe, data: Path, output: Path) -> None:
    """Tie a run folder to what is trained there, so that no run continues another one's checkpoints.

    The number of steps or epochs, the checkpoints' distance and the remarks may change.

    Raises:
        RecipeError: The folder belongs to another recipe or data.
    """
    free = ("steps", "epochs", "checkpoint_every", "remarks", "task_options")
    settings = {key: value for key, value in asdict(recipe).items() if key not in free}
    settings["data_root"] = str(data.resolve())
    path = output / "settings.json"
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        for key, value in json.loads(json.dumps(settings)).items():
            if before.get(key) != value:
                raise RecipeError(
                    f"{output} belongs to a run with {key} = {before.get(key)!r}, not {value!r}. Choose another "
                    "--output."
                )
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def last_checkpoint(output: Path) -> str | None:
    """Find a run folder's last whole checkpoint; None where there is none.

    The trainer writes `trainer_state.json` last, so a checkpoint without it was cut off while it was written.
    """
    whole = [folder for folder in output.glob("checkpoint-*") if _is_json(folder / "trainer_state.json")]
    latest = max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)
    return str(latest) if latest else None


def in_steps(recipe: Recipe, tasks: Mapping[str, Task[Any]]) -> Recipe:
    """Turn a recipe's epochs into steps, shared by the processes of a run on several devices."""
    if recipe.epochs is None:
        return recipe
    share = shares(recipe.schedule, recipe.mixture)
    batches = recipe.epochs * max(task.batches_per_epoch / share[name] for name, task in tasks.items())
    return replace(recipe, steps=math.ceil(round(batches) / int(os.environ.get("WORLD_SIZE", "1"))), epochs=None)


def rom_checkpoint(encoder: str) -> Path | None:
    """Return the folder of a ROM checkpoint that a recipe's encoder names; None where it names a plain encoder."""
    if encoder in bundled_checkpoints():
        return bundled_checkpoints()[encoder]
    try:
        config = json.loads((Path(encoder).expanduser() / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):
        return None
    is_rom = isinstance(config, dict) and config.get("model_type") == MODEL_TYPE
    return resolve_checkpoint(encoder) if is_rom else None


def check_kind(encoder: str) -> None:
    """Refuse an encoder that comes with a head of another kind: the head would be lost, or in the way.

    A sentence-transformers model is an encoder as good as any.

    Raises:
        RecipeError: It is a DPR or question answering model; the message names the remedy.
        OSError: Nothing of that name can be found.
    """
    config = cached_file(encoder, "config.json")
    kind = recognise(Path(config).parent) if config else None
    if kind in _NEED_CONVERSION:
        raise RecipeError(
            f"Recipe key 'encoder' is '{encoder}', {_NEED_CONVERSION[kind]}, which training can't start from as it is. "
            f"Convert it by `rom convert {encoder} --output FOLDER`, and name that folder: its head goes on, too."
        )


def start_model(recipe: Recipe) -> ROMModel:
    """Load the recipe's encoder with fresh heads, or its ROM checkpoint; set dropout and freeze what stays.

    Raises:
        RecipeError: The encoder is a model of another kind.
    """
    checkpoint = rom_checkpoint(recipe.encoder)
    if checkpoint is not None:
        model = continued_model(recipe, checkpoint)
    else:
        check_kind(recipe.encoder)
        model = ROMModel.from_encoder(
            recipe.encoder,
            recipe.heads or {**DEFAULT_HEADS, **heads_of(recipe)},
            seed=recipe.seed,
            attn_implementation=recipe.attention,
        )
    set_dropout(model, recipe.dropout)
    if recipe.freeze_embeddings:
        embeddings = getattr(model.encoder, "embeddings", model.get_input_embeddings())
        embeddings.requires_grad_(requires_grad=False)
    return model


def continued_model(recipe: Recipe, checkpoint: Path) -> ROMModel:
    """Load a ROM checkpoint to be trained on; heads that it lacks, or has with other options, start fresh."""
    model, _ = load_checkpoint(checkpoint, model_kwargs={"attn_implementation": recipe.attention})
    retrieval = model.config.heads.get("retrieval", {})
    if retrieval.get("similarity") == "unscaled_cosine":  # the loss takes inner products, so lengths end here
        retrieval["similarity"] = model.retrieval_head.similarity = "cosine"
    heads = recipe.heads or {**heads_of(recipe), **model.config.heads}
    if heads == model.config.heads:
        return model
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        started = ROMModel(ROMConfig(encoder=model.config.encoder, heads=heads))
    started.encoder = model.encoder
    for name, options in heads.items():
        if model.config.heads.get(name) == options:
            started.heads[name] = model.heads[name]
    return started


def heads_of(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Return the heads that a recipe's tasks train, with the options of a fresh model."""
    names = [TASKS[task].head for task in recipe.tasks]
    usual = {name: options for name, options in DEFAULT_HEADS.items() if name in names}
    return {**usual, **{name: {} for name in names if name not in usual}}


def set_dropout(model: ROMModel, probability: float) -> None:
    """Set every dropout in the model, those inside fused attention included."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
        for attribute in ("dropout_prob", "attention_dropout"):
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, probability)


def build_tasks(recipe: Recipe, root: Path, tokenizer: PreTrainedTokenizerBase) -> dict[str, Task[Any]]:
    """Create the recipe's tasks, each over its own data or the recipe's, below a root folder.

    Raises:
        DataError: The data can't be read, or holds nothing that a task can be trained on.
    """
    read: dict[str, DataSet] = {}
    tasks = {}
    for name, options in recipe.task_options.items():
        sources = options.data or recipe.data
        paths = [root / source for source in ([sources] if isinstance(sources, str) else sources)]
        where = ", ".join(map(str, paths))
        if where not in read:
            read[where] = read_together(paths)
            for description, count in (+read[where].left_out).items():
                logger.info("%s: left out %d x %s", where, count, description)
        data, kind = read[where], TASKS[name]
        items = kind.items_of(data)
        if not items:
            raise DataError(f"{where}: {kind.nothing_found}, so task '{name}' has nothing to train on.")
        tasks[name] = kind(options, items, data.passages, tokenizer, recipe.seed)
    return tasks


def training_arguments(recipe: Recipe, output: Path) -> TrainingArguments:
    """Translate a recipe into the trainer's settings; uses a GPU where there is one."""
    return TrainingArguments(
        output_dir=str(output),
        max_steps=recipe.steps,
        per_device_train_batch_size=1,  # one item of StepDataset is a whole step
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(recipe.warmup_ratio * recipe.steps) if recipe.warmup_steps is None else recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=recipe.bf16,
        use_cpu=not torch.cuda.is_available(),
        seed=recipe.seed,
        data_seed=recipe.seed,
        save_steps=recipe.checkpoint_every,
        save_total_limit=2,
        logging_steps=min(20, recipe.steps),
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        report_to=[],
    )


def save_run(trainer: ROMTrainer, model: ROMModel, tokenizer: PreTrainedTokenizerBase, output: Path) -> Path:
    """Write the model, its tokenizer and the log of the run, the model last and at once."""
    with (output / "metrics.jsonl").open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(entry) + "\n" for entry in trainer.state.log_history)
    final, partial = output / "model", output / "model.partial"
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    return final


def _only_item(items: list[dict[str, Any]]) -> dict[str, Features]:
    return items[0]


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
