"""A training run: recipe in, run folder with resumable checkpoints and a final model out."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from filecmp import cmpfiles
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerCallback, TrainingArguments, set_seed

from rom_haystack.modeling import ROMModel, save_checkpoint
from training.batches import StepDataset, in_steps, only_item, plan_of
from training.callbacks import EarlyStopping, Evaluate, FollowSchedule, LogLast, StopAfter, WriteMetrics
from training.checkpoints import checkpoint_at, history_of, last_checkpoint, step_of, whole_checkpoints
from training.curves import write_curves
from training.data.dataset import DataSet
from training.data.formats import read_together
from training.data.stores import delete_stores
from training.development import PREFIX, Development
from training.errors import DataError, RecipeError
from training.files import delete_folder, replace_folder
from training.layers import layer_factors
from training.limits import METRICS
from training.loop import ROMTrainer
from training.progress import Progress
from training.recipe import Recipe
from training.runs import STORES, begin, claim_folder, make_folder
from training.starting import load_start
from training.tasks import TASKS, Task
from training.tasks.lengths import check_lengths
from training.towers import QUERY_MODEL, take_query_tower

logger = logging.getLogger(__name__)

#: Most processes that make batches for a GPU, where the recipe does not say.
_MOST_WORKERS = 8

#: Batches that each of them makes ahead.
_PREFETCHED = 4


def train(recipe: Recipe, data: Path, output: Path, *, stop_after: int | None = None) -> Path | None:
    """Run a recipe, continuing from the run folder's last checkpoint where there is one.

    On several devices every process calls it (`accelerate launch -m training train …`).

    Args:
        recipe: What to train.
        data: Root folder of the data; `recipe.data` and the tasks' own are looked up below it.
        output: Run folder. Holds the recipe's checkpoints while training and the model at the end.
        stop_after: Stop after this step with a checkpoint, as if the run had been interrupted there; None to finish.

    Returns:
        Folder of the trained model (`output/model`), with its tokenizer; None where `stop_after` came first.

    Raises:
        RecipeError: The recipe's encoder can't be loaded or is a model of another kind, it asks for what this machine
            lacks, or the run folder can't be written or belongs to another recipe or data.
        CheckpointError: The recipe names a head or head option that does not exist.
        DataError: The data can't be used.
        RunError: A loss or gradient was no finite number.
    """
    set_seed(recipe.seed)
    make_folder(output)
    model, tokenizer = load_start(recipe)
    return train_model(model, tokenizer, recipe, data, output, stop_after=stop_after)


def train_model(
    model: ROMModel,
    tokenizer: PreTrainedTokenizerBase,
    recipe: Recipe,
    data: Path,
    output: Path,
    *,
    stop_after: int | None = None,
) -> Path | None:
    """Train a model that has been loaded; see `train`. The recipe's own encoder is not used."""
    check_lengths(recipe.task_options, model, tokenizer)
    if recipe.layer_decay < 1:
        layer_factors(model, recipe.layer_decay)  # an encoder that it can't be done for ends the run here
    store = output / STORES
    tasks = build_tasks(recipe, data, tokenizer, store)
    development = build_development(recipe, data, model, store)
    recipe = in_steps(recipe, tasks)
    arguments = training_arguments(recipe, output)
    plan = plan_of(recipe, arguments.world_size)
    model.to(arguments.device)
    with arguments.main_process_first(desc="loading teachers"):
        for task in tasks.values():
            task.load_teacher(model)
    with arguments.main_process_first(desc="claiming the run folder"):
        claim_folder(recipe, data, output, arguments.world_size)
    with arguments.main_process_first(desc="preparing tasks"):
        for task in tasks.values():
            task.prepare(model, output)
    checkpoint = last_checkpoint(output)
    if stop_after is not None and checkpoint and step_of(checkpoint) >= stop_after:
        return None
    stopping = None if recipe.patience is None else EarlyStopping(PREFIX + recipe.metric, recipe.patience)
    if stopping is not None:
        require_best(output, stopping, history_of(checkpoint))
    trainer = ROMTrainer(
        model=model,
        args=arguments,
        train_dataset=StepDataset(tasks, plan),
        data_collator=only_item,
        processing_class=tokenizer,
        tasks=tasks,
        development=development,
        stopping=stopping,
        layer_decay=recipe.layer_decay,
        callbacks=_callbacks(recipe, output, stopping, stop_after),
    )
    trainer.remove_callback(PrinterCallback)  # `Progress` says the same, readably
    with arguments.main_process_first(desc="preparing the run folder"):
        if trainer.is_world_process_zero():
            begin(recipe, output, checkpoint, arguments.world_size)
    history = _train_on(trainer, checkpoint)
    if history is None:
        return None
    if stopping is not None:
        load_best(model, output, stopping, history)
    return save_run(trainer, model, tokenizer, output)


def _train_on(trainer: ROMTrainer, checkpoint: Path | None) -> list[dict[str, Any]] | None:
    """Train from a checkpoint to the end, and return all that was logged; None where the run stopped before."""
    stopping, history = trainer.stopping, history_of(checkpoint)
    if stopping is not None and stopping.exhausted(history):
        return history
    if checkpoint:
        trainer.restore_means(checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    history = trainer.state.log_history
    ended = trainer.state.global_step >= trainer.args.max_steps or (stopping and stopping.exhausted(history))
    return history if ended else None


def build_tasks(
    recipe: Recipe, root: Path, tokenizer: PreTrainedTokenizerBase, store: Path | None = None
) -> dict[str, Task[Any]]:
    """Create the recipe's tasks, each over its own data or the recipe's, below a root folder.

    Args:
        recipe: The recipe.
        root: The root folder.
        tokenizer: The encoder's tokenizer.
        store: Folder for data that is too large for memory; None keeps it in memory.

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
            read[where] = read_together(paths, store)
            for description, count in (+read[where].left_out).items():
                logger.info("%s: left out %d x %s", where, count, description)
        data, kind = read[where], TASKS[name]
        items = kind.items_of(data)
        if not items:
            raise DataError(f"{where}: {kind.nothing_found}, so task '{name}' has nothing to train on.")
        tasks[name] = kind(options, items, data.passages, tokenizer, recipe.seed)
    return tasks


def build_development(recipe: Recipe, data: Path, model: ROMModel, store: Path | None = None) -> Development | None:
    """Read the recipe's development data; None where it names none.

    Args:
        recipe: The recipe.
        data: Root folder of the data.
        model: The model that will be measured.
        store: Folder for data that is too large for memory; None keeps it in memory.

    Raises:
        RecipeError: Early stopping watches a metric that can't be measured of this model or on this data.
        DataError: The data can't be read, or has no question with an answer.
    """
    if recipe.development is None:
        return None
    limit, seed = recipe.development_questions, recipe.seed
    development = Development(data / recipe.development, limit=limit, seed=seed, store=store)
    measured = development.metrics(model.config.heads)
    if recipe.patience is not None and recipe.metric not in measured:
        raise RecipeError(
            f"Recipe key 'metric' is '{recipe.metric}', which can't be measured: it takes the head "
            f"'{METRICS[recipe.metric]}' (this model has: {', '.join(model.config.heads)}) and, for recall@k, as many "
            f"passages (the sample has {len(development.passages)}). Choose from {', '.join(measured)}."
        )
    return development


def training_arguments(recipe: Recipe, output: Path) -> TrainingArguments:
    """Translate a recipe into the trainer's settings; uses a GPU where there is one.

    Raises:
        RecipeError: The GPU lacks bfloat16.
    """
    if recipe.bf16 and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        raise RecipeError("Recipe key 'bf16' is true, but this GPU has no bfloat16; set it to false.")
    on_gpu, workers = torch.cuda.is_available(), worker_count(recipe)
    arguments = TrainingArguments(
        output_dir=str(output),
        max_steps=recipe.steps,
        per_device_train_batch_size=1,  # one item of StepDataset is a whole batch
        gradient_accumulation_steps=recipe.gradient_accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(recipe.warmup_ratio * recipe.steps) if recipe.warmup_steps is None else recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=recipe.bf16,
        use_cpu=not on_gpu,
        seed=recipe.seed,
        data_seed=recipe.seed,
        save_steps=recipe.checkpoint_every,
        save_total_limit=None,  # `training.checkpoints` deletes
        logging_steps=min(recipe.log_every, recipe.steps),
        logging_nan_inf_filter=False,  # such losses stop the run
        remove_unused_columns=False,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        dataloader_prefetch_factor=_PREFETCHED if workers else None,
        dataloader_pin_memory=on_gpu,
        accelerator_config={"non_blocking": on_gpu},
        disable_tqdm=True,  # `Progress` shows it
        report_to=["tensorboard"] if recipe.tensorboard else [],
    )
    if arguments.n_gpu > 1:  # one process would share its batches among the GPUs; here a batch is one item
        logger.warning("Only one of %d GPUs is used. `accelerate launch -m training …` uses all.", arguments.n_gpu)
        arguments._n_gpu = 1  # noqa: SLF001 (the only way to tell it)
    return arguments


def require_best(output: Path, stopping: EarlyStopping, history: Sequence[dict[str, Any]]) -> None:
    """Refuse to continue a run with patience where the model of its best evaluation so far was not kept.

    Raises:
        RecipeError: The run went on without patience, so that this checkpoint was deleted or never written.
    """
    step = stopping.best_step(history)
    if step is not None and step not in whole_checkpoints(output):
        raise RecipeError(
            f"Recipe key 'patience' is {stopping.patience}, but {output} has no checkpoint of its best evaluation so "
            f"far, after step {step}, as it was trained without patience. Leave 'patience' out, or choose another "
            "--output."
        )


def worker_count(recipe: Recipe) -> int:
    """Return how many processes make batches for this one.

    Raises:
        RecipeError: The recipe asks for some where processes can't be forked.
    """
    forks = "fork" in torch.multiprocessing.get_all_start_methods()
    if recipe.workers and not forks:
        raise RecipeError(
            f"Recipe key 'workers' is {recipe.workers}, but this system can't fork processes; set it to 0."
        )
    if recipe.workers is not None or not (forks and torch.cuda.is_available()):
        return recipe.workers or 0
    cores = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(_MOST_WORKERS, cores - 1))


def load_best(model: ROMModel, output: Path, stopping: EarlyStopping, history: Sequence[dict[str, Any]]) -> None:
    """Give a model the weights that it had at its best evaluation."""
    step = stopping.best_step(history)
    if step is not None:
        model.load_state_dict(load_file(checkpoint_at(output, step) / "model.safetensors"))
        logger.info("The model of step %d was best by %s.", step, stopping.metric)


def save_run(trainer: ROMTrainer, model: ROMModel, tokenizer: PreTrainedTokenizerBase, output: Path) -> Path:
    """Write the model (of two towers, both), its tokenizer and the learning curves, the model last and at once."""
    query_model = take_query_tower(model)
    if trainer.is_world_process_zero():
        write_curves(output)
        if query_model is not None:
            _save(query_model, tokenizer, output / QUERY_MODEL)
        _save(model, tokenizer, output / "model")
        delete_stores(output / STORES)
    trainer.accelerator.wait_for_everyone()
    return output / "model"


def _save(model: ROMModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    save_checkpoint(model, tokenizer, partial)
    if _has_all_of(folder, partial):  # of an earlier start; a calibration may be beside it
        delete_folder(partial)
    else:
        replace_folder(partial, folder)


def _has_all_of(folder: Path, other: Path) -> bool:
    names = [file.name for file in other.iterdir()]
    same, _, _ = cmpfiles(other, folder, names, shallow=False)
    return len(same) == len(names)


def _callbacks(
    recipe: Recipe, output: Path, stopping: EarlyStopping | None, stop_after: int | None
) -> list[TrainerCallback]:
    """Return what happens between steps, in the order in which it must."""
    chosen: list[TrainerCallback] = [] if recipe.development is None else [Evaluate(recipe.evaluate_every)]
    chosen += [FollowSchedule(), LogLast(), WriteMetrics(output), Progress()]
    if stopping is not None:
        chosen.append(stopping)
    if stop_after is not None:
        chosen.append(StopAfter(stop_after))
    return chosen
