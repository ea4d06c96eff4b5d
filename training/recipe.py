"""Recipes: everything that defines a training run, read from YAML and checked before anything is loaded."""

from __future__ import annotations

import difflib
import math
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import torch
import yaml

from rom_haystack.modeling import CheckpointError
from rom_haystack.modeling.heads import build_head
from training.errors import OptionError, RecipeError
from training.limits import check_limits
from training.schedules import SCHEDULES, STAGED, Mixture, Stage
from training.tasks import TASKS

Options = TypeVar("Options")


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Args:
        name: Name of the run and of the model it makes.
        encoder: Folder or hub id of the pretrained encoder to start from, or folder or bundled name of a ROM checkpoint
            to continue with, heads and all. DPR and question answering models must be converted first (`rom convert`).
        data: Folder (JSON lines, text files) or file (SQuAD's or DPR's JSON, text) of the training data, below the
            `--data` option, or a list of them. A task's own `data` goes first.
        tasks: Options of each task by task name; see `training.tasks`.
        steps: Number of optimizer steps.
        epochs: Instead of `steps`, how often the questions or passages of every task are passed at least, a batch per
            step; where the schedule draws one task per step, that often on average.
        heads: Heads of the model; None for one `retrieval` (mean pooling) and one `reading` head, or for those of the
            ROM checkpoint, and for those of the tasks.
        two_towers: Train a query encoder of its own beside the passages', as DPR has it; each starts from `encoder`.
            All tasks must train the `retrieval` head. The run's `model` is then the passage encoder, and the folder
            `query_model` beside it the query encoder.
        schedule: Name of the schedule, see `training.schedules`.
        stages: Parts of the run for the schedules `sequential` and `annealed`, each with the `weights` of the tasks it
            trains, which multiply the tasks' own, and its `share` of the steps; None makes each task a stage, in the
            order of `tasks`, all equally long.
        seed: Seed of weights, data order and sampling.
        learning_rate: Peak learning rate, reached after warm-up, then falling linearly to 0.
        layer_decay: What the learning rate of each layer of the encoder is of the next higher one's, see
            `training.layers`; 1 trains all alike.
        warmup_ratio: Share of the steps in which the learning rate rises.
        warmup_steps: Number of these steps instead; None for `warmup_ratio`.
        weight_decay: AdamW's weight decay.
        max_grad_norm: Gradient clipping.
        freeze_embeddings: Keep the word and position embeddings as they are.
        dropout: Dropout everywhere in the encoder; 0 lets attention take fast kernels on CPUs.
        bf16: Train under bfloat16 autocast.
        attention: Attention implementation of transformers (`sdpa`, `eager`), or `lean`, which trains fastest on CPUs
            (`training.attention`); None for what transformers takes for the encoder.
        checkpoint_every: Steps between resumable checkpoints.
        gradient_accumulation: Batches per optimizer step on each device, one after the other; their gradients'
            mean is taken.
        log_every: Steps between entries of `metrics.jsonl`, which are means over these steps.
        development: Folder or file of development data, below the `--data` option; None measures nothing while
            training.
        evaluate_every: Steps between evaluations on it; the last step is followed by one, too.
        development_questions: Questions of it that are asked, drawn by the seed.
        metric: Metric of it that early stopping watches, see `training.development`; the higher the better.
        patience: Evaluations in a row without a better one after which training stops. The model of the best
            evaluation is then the run's, whether training stopped early or not. None never stops and keeps the last.
        workers: Processes that make batches ahead, for each device; it changes nothing but the speed. None for 0 on
            CPUs, where the training process makes them itself, and for up to 8 on a GPU.
        tensorboard: Write TensorBoard's event files, too.
        remarks: What the model card should say of how the run went (hardware, time, interruptions).
    """

    name: str
    encoder: str
    data: str | list[str]
    tasks: dict[str, Any]
    steps: int = 0
    epochs: int | None = None
    heads: dict[str, dict[str, Any]] | None = None
    two_towers: bool = False
    schedule: str = "joint"
    stages: list[Any] | None = None
    seed: int = 13
    learning_rate: float = 1e-4
    layer_decay: float = 1.0
    warmup_ratio: float = 0.06
    warmup_steps: int | None = None
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    freeze_embeddings: bool = True
    dropout: float = 0.0
    bf16: bool = True
    attention: str | None = None
    checkpoint_every: int = 200
    gradient_accumulation: int = 1
    log_every: int = 20
    development: str | None = None
    evaluate_every: int = 200
    development_questions: int = 200
    metric: str = "F1"
    patience: int | None = None
    workers: int | None = None
    tensorboard: bool = False
    remarks: str = ""
    task_options: dict[str, Any] = field(default_factory=dict, init=False, compare=False)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise RecipeError("Recipe key 'tasks' is empty; name at least one task.")
        if not self.data:
            raise RecipeError("Recipe key 'data' is empty; name a folder or file below --data.")
        if self.schedule not in SCHEDULES:
            raise RecipeError(f"Recipe key 'schedule' is '{self.schedule}'; choose from {', '.join(SCHEDULES)}.")
        if self.epochs is not None and self.steps:
            raise RecipeError("Recipe keys 'steps' and 'epochs' both say how long to train; leave one out.")
        if self.epochs is None and self.steps < 1:
            found = self.steps or "0 or missing"
            raise RecipeError(f"Recipe key 'steps' is {found}; it must be at least 1, unless 'epochs' is given.")
        check_limits(self)
        for name, options in (self.heads or {}).items():
            self._check_head(name, options)
        self._check_tasks()
        self._check_stages()

    @property
    def mixture(self) -> Mixture:
        """How the schedule mixes the tasks."""
        options = self.task_options.items()
        rates = {name: option.sampling_rate for name, option in options if option.sampling_rate is not None}
        return Mixture({name: option.weight for name, option in options}, rates, self._stages)

    @property
    def _stages(self) -> list[Stage]:
        return [checked(Stage, stage, f"stages.{i}.") for i, stage in enumerate(self.stages or [])]

    @staticmethod
    def _check_head(name: str, options: dict[str, Any]) -> None:
        try:
            with torch.random.fork_rng():
                build_head(name, options, hidden_size=1, embedding_size=1, vocab_size=1)
        except CheckpointError as error:
            raise RecipeError(f"Recipe key 'heads.{name}' can't be used: {error}") from error

    def _check_tasks(self) -> None:
        for name, options in self.tasks.items():
            if name not in TASKS:
                raise RecipeError(f"Recipe key 'tasks.{name}' is no known task; choose from {', '.join(TASKS)}.")
            self.task_options[name] = checked(TASKS[name].Options, options or {}, f"tasks.{name}.")
            if self.heads is not None and TASKS[name].head not in self.heads:
                raise RecipeError(
                    f"Recipe key 'heads' lacks '{TASKS[name].head}', which task '{name}' trains; add it, or leave "
                    "'heads' out."
                )
            if self.two_towers and TASKS[name].head != "retrieval":
                raise RecipeError(
                    f"Recipe key 'two_towers' is true, but task '{name}' trains the head '{TASKS[name].head}', and "
                    "only 'retrieval' has queries apart from passages; leave the key or the task out."
                )

    def _check_stages(self) -> None:
        if self.stages is None:
            return
        trained = {name: f"stages.{i}.weights.{name}" for i, stage in enumerate(self._stages) for name in stage.weights}
        for name, key in trained.items():
            if name not in self.tasks:
                choice = ", ".join(self.tasks)
                raise RecipeError(f"Recipe key '{key}' is no task of this recipe; choose from {choice}.")
        for name in self.tasks:
            if name not in trained:
                raise RecipeError(f"Recipe key 'stages' has no stage that trains task '{name}'; add it to one.")
        if self.schedule not in STAGED:
            raise RecipeError(
                f"Recipe key 'stages' is given, but the schedule '{self.schedule}' knows none; leave it out, or choose "
                f"'schedule' from {', '.join(STAGED)}."
            )


def load_recipe(path: Path, **overrides: Any) -> Recipe:
    """Read and check a recipe.

    Args:
        path: A YAML file.
        **overrides: Values that replace the file's; None leaves the file's value.

    Raises:
        RecipeError: The file is no YAML mapping, or a key is unknown, missing or of the wrong type.
    """
    values = read_mapping(path, "Recipe")
    if overrides.get("steps") is not None:
        values.pop("epochs", None)
    values.update({key: value for key, value in overrides.items() if value is not None})
    return checked(Recipe, values)


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; errors call it `what`.

    Raises:
        RecipeError: It can't be read, or is no YAML mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{what} {path} can't be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{what} {path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{what} {path} must be a mapping of keys to values.")
    return values


def checked(kind: type[Options], values: dict[str, Any], prefix: str = "") -> Options:
    """Build the dataclass `kind` from a mapping, naming the key of whatever does not fit.

    Raises:
        RecipeError: A key is unknown or missing, or a value has the wrong type.
    """
    if not isinstance(values, dict):
        raise RecipeError(f"Recipe key '{prefix.rstrip('.')}' must be a mapping, found {values!r}.")
    known = {f.name: f for f in fields(kind) if f.init}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean '{prefix}{close[0]}'?" if close else f" Known keys: {', '.join(known)}."
            raise RecipeError(f"Recipe key '{prefix}{key}' is unknown.{hint}")
    for name, spec in known.items():
        if name not in values and spec.default is MISSING and spec.default_factory is MISSING:
            raise RecipeError(f"Recipe key '{prefix}{name}' is missing.")
    hints = get_type_hints(kind)
    typed = {key: _typed(value, hints[key], prefix + key) for key, value in values.items()}
    try:
        return kind(**typed)
    except OptionError as error:
        raise RecipeError(f"Recipe key '{prefix}{error.key}' {error.problem}") from error


def _typed(value: Any, hint: Any, key: str) -> Any:
    if get_origin(hint) is UnionType:
        kinds = [kind for kind in get_args(hint) if kind is not NoneType]
        if value is None and NoneType in get_args(hint):
            return None
        return _typed(value, next((k for k in kinds if isinstance(value, get_origin(k) or k)), kinds[0]), key)
    if get_origin(hint) is list:
        if not isinstance(value, list):
            raise RecipeError(f"Recipe key '{key}' must be a list, found {value!r}.")
        return [_typed(item, get_args(hint)[0], f"{key}.{i}") for i, item in enumerate(value)]
    if get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise RecipeError(f"Recipe key '{key}' must be a mapping, found {value!r}.")
        return {name: _typed(item, get_args(hint)[1], f"{key}.{name}") for name, item in value.items()}
    if hint is float and isinstance(value, str | int | float) and not isinstance(value, bool):
        return _number(value, key)
    if hint in (int, float, bool, str) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise RecipeError(f"Recipe key '{key}' must be of type {hint.__name__}, found {value!r}.")
    return value


def _number(value: str | float, key: str) -> float:
    try:
        number = float(value)  # YAML reads 1e-4 as text
    except ValueError:
        raise RecipeError(f"Recipe key '{key}' must be a number, found {value!r}.") from None
    if not math.isfinite(number):
        raise RecipeError(f"Recipe key '{key}' is {number}; it must be finite.")
    return number
