"""Training from DPR's and SQuAD's files with the arguments of 1.x's `train` methods.

The training module does it, in a process of its own. It is no part of the package: it runs from a checkout of the
repository, `pip install -e ".[training]"`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import yaml
from haystack import logging

from rom_haystack.compat.models import is_checkpoint
from rom_haystack.modeling.places import FACTS_FILE

logger = logging.getLogger(__name__)

#: Folder in the output where a run keeps its checkpoints until it is finished.
RUN_FOLDER = "training-run"
#: Of other weights than those that are written; a trained model has none.
_CALIBRATION = "calibration.json"
_LAST_LINES = 20


def train_retriever(
    model: Path,
    output: Path,
    *,
    data_dir: Path,
    train_filename: str,
    dev_filename: str | None = None,
    epochs: int = 1,
    batch_size: int = 2,
    learning_rate: float = 1e-5,
    num_positives: int = 1,
    num_hard_negatives: int = 1,
    max_query_length: int = 64,
    max_passage_length: int = 256,
    embed_title: bool = True,
    warmup_steps: int | None = None,
    weight_decay: float = 0.0,
    seed: int = 13,
) -> Path:
    """Train a model to find passages, from a DPR file (or a SQuAD file, or a folder of JSON lines).

    Each query is contrasted with every passage of the file, as the model saw them at first, and with those of its
    batch, and an anchor keeps passages near their first place, so the model to begin with should be one that retrieves
    already. A reading head stays as it is, above an encoder that has moved.

    Args:
        model: Folder of a ROM checkpoint, whose heads and weights go on.
        output: Folder of the trained checkpoint; earlier files of the same names are replaced at the end. An
            interrupted run is continued.
        data_dir: Folder of the training file.
        train_filename: Name of the training file in it.
        dev_filename: Without effect; a warning says so.
        epochs: How often each question is seen.
        batch_size: Questions per step.
        learning_rate: The greatest one.
        num_positives: Without effect: each step draws one of a question's positives, and the others count neither for
            nor against it. Another value than 1 is warned of.
        num_hard_negatives: Without effect: all passages of the file take part. Another value than 1 is warned of.
        max_query_length: Tokens per query.
        max_passage_length: Tokens per passage.
        embed_title: Put passages' titles before their texts.
        warmup_steps: Steps until the learning rate is reached; None for 6% of all.
        weight_decay: AdamW's weight decay.
        seed: Seed of data order and sampling.

    Returns:
        `output`.

    Raises:
        ImportError: The training module can't be found.
        ValueError: `output` is no folder for a checkpoint.
        RuntimeError: Training failed; the message holds its last lines.
    """
    if num_positives != 1:
        _warn("num_positives", num_positives, "Each step draws one positive of a question and ignores its others.")
    if num_hard_negatives != 1:
        _warn("num_hard_negatives", num_hard_negatives, "Every passage of the file takes part as a negative.")
    options = {
        "batch_size": batch_size,
        "max_query_length": max_query_length,
        "max_passage_length": max_passage_length,
        "title_rate": float(embed_title),
    }
    recipe = _recipe(model, train_filename, dev_filename, {"retrieval": options}, epochs, learning_rate, seed)
    return _train({**recipe, "warmup_steps": warmup_steps, "weight_decay": weight_decay}, output, data_dir)


def train_reader(
    model: Path,
    output: Path,
    *,
    data_dir: Path,
    train_filename: str,
    dev_filename: str | None = None,
    epochs: int = 1,
    batch_size: int = 10,
    learning_rate: float = 1e-5,
    max_length: int = 256,
    stride: int = 128,
    warmup_ratio: float = 0.06,
    seed: int = 13,
) -> Path:
    """Train a model to read answers, from a SQuAD file (or a DPR file, or a folder of JSON lines).

    A fifth of the questions are asked of a passage without the answer, of the same article, so that the relevance of
    passages is learnt, too. A retrieval head stays as it is, above an encoder that has moved: embed documents anew.

    Args:
        model: As in `train_retriever`.
        output: As in `train_retriever`.
        data_dir: As in `train_retriever`.
        train_filename: As in `train_retriever`.
        dev_filename: As in `train_retriever`.
        epochs: As in `train_retriever`.
        batch_size: Questions per step.
        learning_rate: The greatest one.
        max_length: Tokens per question and passage; longer passages are cut into windows.
        stride: Tokens that neighbouring windows share.
        warmup_ratio: Share of the steps until the learning rate is reached.
        seed: As in `train_retriever`.

    Returns:
        `output`.

    Raises:
        ImportError: As in `train_retriever`.
        ValueError: As in `train_retriever`.
        RuntimeError: As in `train_retriever`.
    """
    options = {"batch_size": batch_size, "max_length": max_length, "stride": stride}
    recipe = _recipe(model, train_filename, dev_filename, {"reading": options}, epochs, learning_rate, seed)
    return _train({**recipe, "warmup_ratio": warmup_ratio}, output, data_dir)


def _recipe(
    model: Path,
    train_filename: str,
    dev_filename: str | None,
    tasks: dict[str, Any],
    epochs: int,
    learning_rate: float,
    seed: int,
) -> dict[str, Any]:
    if dev_filename is not None:
        _warn("dev_filename", dev_filename, "Training watches no development set: measure the trained model on it.")
    return {
        "encoder": str(model.expanduser().resolve()),
        "data": train_filename,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "seed": seed,
        "bf16": _bfloat16(),
        "tasks": tasks,
    }


def _train(recipe: dict[str, Any], output: Path, data_dir: Path) -> Path:
    root = _training_root()
    output = Path(output).expanduser().resolve()
    taken = (output / "config.json").exists() and not is_checkpoint(output)
    if output.is_file() or taken or (output / FACTS_FILE).is_file():
        raise ValueError(
            f"{output} is a file, or holds another config.json or exported graphs of a model. Name another folder for "
            "the trained one."
        )
    run = output / RUN_FOLDER
    run.mkdir(parents=True, exist_ok=True)
    path = run / "recipe.yaml"
    recipe = {"name": output.name, **recipe}
    path.write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), encoding="utf-8")
    arguments = [str(path), "--data", str(Path(data_dir).expanduser().resolve()), "--output", str(run)]
    # -P, or a training.py in the user's working folder would be run
    code, last_lines = _run([sys.executable, "-P", "-m", "training", "train", *arguments], root)
    if code != 0:
        raise RuntimeError(
            f"Training ended with exit code {code}. Its checkpoints are in {run}: calling again continues from the "
            f"last one, deleting the folder begins anew. Its last lines:\n{last_lines}"
        )
    (output / _CALIBRATION).unlink(missing_ok=True)
    for file in (run / "model").iterdir():
        file.replace(output / file.name)
    for name in ("recipe.yaml", "metrics.jsonl"):
        (run / name).replace(output / name)
    shutil.rmtree(run)
    return output


def _run(command: list[str], root: Path) -> tuple[int, str]:
    """Run a command with `root` first on its path, show what it says, and return its exit code and last lines."""
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}
    # the command is this interpreter with arguments of ours, and no shell reads them
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as process:  # noqa: S603
        try:
            said = _show(process.stdout) if process.stdout else ""
        except BaseException:
            process.terminate()  # interrupted: its checkpoints remain
            raise
    return process.returncode, "\n".join(said.replace("\r", "\n").splitlines()[-_LAST_LINES:])


def _show(stream: IO[bytes], kept: int = 8192) -> str:
    """Pass on what comes, as it comes, for progress bars; return the end of it."""
    tail = b""
    while piece := stream.read1(kept):  # type: ignore[attr-defined]
        sys.stderr.write(piece.decode("utf-8", "replace"))
        sys.stderr.flush()
        tail = (tail + piece)[-kept:]
    return tail.decode("utf-8", "replace")


def _training_root() -> Path:
    """Find the folder that holds the training module: the package's own checkout, else one on the path.

    Raises:
        ImportError: There is none.
    """
    checkout = Path(__file__).resolve().parents[2]
    spec = importlib.util.find_spec("training")
    found = [Path(folder).resolve().parent for folder in (spec.submodule_search_locations or [])] if spec else []
    for root in (checkout, *found):
        if (root / "training" / "recipe.py").is_file() and (root / "training" / "tasks").is_dir():
            return root
    raise ImportError(
        "Training needs the module 'training', which runs from a checkout of the repository and is no part of the "
        'installed package. In a checkout of rom-haystack: pip install -e ".[training]".'
    )


def _bfloat16() -> bool:
    """Tell whether the device that training will choose computes in bfloat16."""
    import torch  # noqa: PLC0415 (only training needs it)

    return not torch.cuda.is_available() or bool(torch.cuda.is_bf16_supported())


def _warn(argument: str, value: Any, instead: str) -> None:
    logger.warning("{argument}={value} has no effect. {instead}", argument=argument, value=repr(value), instead=instead)
