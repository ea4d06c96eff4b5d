"""Turn a finished run into a release: half-precision weights, tokenizer, and a model card with measured figures."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from rom_haystack.inference.stopping import CALIBRATION_FILE
from rom_haystack.metrics import Figure
from rom_haystack.modeling import load_checkpoint, save_release
from training.errors import DataError
from training.evaluation import UNANSWERABLE, EvaluationOptions
from training.figures import markdown_table
from training.recipe import Recipe
from training.samples import resampled
from training.starting import rom_checkpoint

_TEMPLATE = Path(__file__).parent / "model_card.md"

#: Options of the evaluate command, the settings that they lead to, and the names of `EvaluationOptions`.
_OPTIONS = (
    ("--questions", "questions", "questions"),
    ("--collection", "passages", "passages"),
    ("--unanswerable", "unanswerable questions", "unanswerable"),
    ("--limit", "limit", "limit"),
    ("--end-to-end-limit", "end-to-end question count", "end_to_end_limit"),
    ("--passages", "passages read end to end", "passage_count"),
    ("--also-passages", "further passage counts", "further_counts"),
    ("--further", "further sets", "further"),
    ("--beir", "BEIR folders", "beir"),
    ("--dtype", "dtype", "dtype"),
    ("--seed", "seed", "seed"),
)


def release(
    run_model: Path,
    output: Path,
    recipe: Recipe,
    recipe_path: Path,
    evaluation: Path,
    *,
    licence: str = "apache-2.0",
    language: str = "en",
) -> None:
    """Write a checkpoint folder that can be published.

    Args:
        run_model: Trained model (`<run folder>/model`).
        output: Folder to write; holds safetensors in float16, config, tokenizer, `calibration.json` where the model was
            calibrated, and `README.md`, the model card.
        recipe: The recipe that made the model.
        recipe_path: Where the recipe stands, for the card's command.
        evaluation: JSON written by `python -m training evaluate`.
        licence: The model's licence, for the card's metadata, as the Hugging Face hub names licences.
        language: Its language, by its ISO 639-1 code.

    Raises:
        CheckpointError: The model can't be loaded.
        DataError: The evaluation can't be read, or is none of a model.
    """
    report = _evaluation(evaluation)
    model, tokenizer = load_checkpoint(run_model)
    counts = model.parameter_counts()
    goes_on = rom_checkpoint(recipe.encoder) is not None  # which knows its own base
    base = model.config.encoder._name_or_path if goes_on else recipe.encoder  # noqa: SLF001 (there is no other name)
    model.config.encoder._name_or_path = base  # noqa: SLF001 (else it names a folder of this machine)
    settings = report["settings"]
    card = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=recipe.name,
        encoder=base,
        length=f"{recipe.steps} steps" if recipe.epochs is None else f"{recipe.epochs} epochs",
        seed=recipe.seed,
        schedule=recipe.schedule,
        recipe=recipe_path.as_posix(),
        tasks=_data_by_task(recipe),
        remarks=recipe.remarks.strip(),
        total=f"{counts['total'] / 1e6:.1f}",
        shared=f"{counts['shared'] / 1e6:.1f}",
        separate=f"{counts['three separate encoders'] / 1e6:.1f}",
        table=markdown_table(report["systems"]),
        resampled=resampled(settings),
        collection=_listed(settings["passages"]),
        options=(f" --base {base}" if settings.get("base") else "") + _options(settings),
        **{f"eval_{key}".replace(" ", "_").replace("-", "_"): value for key, value in settings.items()},
    )
    save_release(model, tokenizer, output)
    (output / CALIBRATION_FILE).unlink(missing_ok=True)  # of what is released anew there
    if (run_model / CALIBRATION_FILE).is_file():
        shutil.copy(run_model / CALIBRATION_FILE, output)
    metadata = ModelCardData(license=licence, base_model=base, language=language, pipeline_tag="question-answering")
    ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{card}").save(output / "README.md")


def _data_by_task(recipe: Recipe) -> str:
    """List what each task learns from; a set that is named several times comes as often in an epoch."""
    lines = []
    for name, options in recipe.task_options.items():
        sources = options.data or recipe.data
        counts = Counter([sources] if isinstance(sources, str) else sources)
        sets = (f"`{source}`" + (f" ({count} times)" if count > 1 else "") for source, count in counts.items())
        lines.append(f"- {name}: {', '.join(sets)}")
    return "\n".join(lines)


def _listed(names: Sequence[str]) -> str:
    *most, last = [f"`{name}`" for name in names]
    return f"{', '.join(most)} and {last}" if most else last


def _options(settings: dict[str, Any]) -> str:
    """Return the options by which another evaluation than the usual was made."""
    usual = asdict(EvaluationOptions(unanswerable=UNANSWERABLE))
    words = []
    for option, key, name in _OPTIONS:
        value = settings.get(key, usual[name])
        if value not in (None, usual[name]):
            words += [f" {option} {one}" for one in (value if isinstance(value, list) else [value])]
    return "".join(words)


def _evaluation(path: Path) -> dict[str, Any]:
    """Read the report of a model's evaluation."""
    try:
        report = read_report(path)
        settings = report["settings"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no report of `python -m training evaluate` ({error!r}).") from error
    if "calibration factor" not in settings:
        raise DataError(f"{path} is a report of several models; name one of `python -m training evaluate`.")
    return report


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write an evaluation as JSON."""
    path.write_text(json.dumps(report, default=asdict, indent=2) + "\n", encoding="utf-8")


def read_report(path: Path) -> dict[str, Any]:
    """Read an evaluation back, figures included."""
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for part in ("systems", "differences"):
        report[part] = {
            name: {metric: Figure(**values) for metric, values in figures.items()}
            for name, figures in report.get(part, {}).items()
        }
    return report
