"""Turn a finished run into a release: half-precision weights, tokenizer, and a model card with measured figures."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from string import Template
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from rom_haystack.metrics import Figure
from rom_haystack.modeling import load_checkpoint, save_release
from training.figures import markdown_table
from training.recipe import Recipe
from training.samples import resampled
from training.starting import rom_checkpoint

_TEMPLATE = Path(__file__).parent / "model_card.md"


def release(run_model: Path, output: Path, recipe: Recipe, recipe_path: Path, evaluation: Path) -> None:
    """Write a checkpoint folder that can be published.

    Args:
        run_model: Trained model (`<run folder>/model`).
        output: Folder to write; holds safetensors in float16, config, tokenizer and `README.md`, the model card.
        recipe: The recipe that made the model.
        recipe_path: Where the recipe stands, for the card's command.
        evaluation: JSON written by `python -m training evaluate`.
    """
    report = read_report(evaluation)
    model, tokenizer = load_checkpoint(run_model)
    counts = model.parameter_counts()
    goes_on = rom_checkpoint(recipe.encoder) is not None  # which knows its own base
    base = model.config.encoder._name_or_path if goes_on else recipe.encoder  # noqa: SLF001 (there is no other name)
    model.config.encoder._name_or_path = base  # noqa: SLF001 (else it names a folder of this machine)
    save_release(model, tokenizer, output)
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
        resampled=resampled(report["settings"]),
        further=_further_options(report["settings"]),
        **{f"eval_{key}".replace(" ", "_").replace("-", "_"): value for key, value in report["settings"].items()},
    )
    metadata = ModelCardData(license="apache-2.0", base_model=base, language="en", pipeline_tag="question-answering")
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


def _further_options(settings: dict[str, Any]) -> str:
    """Return the options by which more than the usual was evaluated."""
    options = {"--also-passages": "further passage counts", "--further": "further sets", "--beir": "BEIR folders"}
    return "".join(f" {option} {value}" for option, key in options.items() for value in settings.get(key, []))


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write an evaluation as JSON."""
    path.write_text(json.dumps(report, default=dataclasses.asdict, indent=2) + "\n", encoding="utf-8")


def read_report(path: Path) -> dict[str, Any]:
    """Read an evaluation back, figures included."""
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for part in ("systems", "differences"):
        report[part] = {
            name: {metric: Figure(**values) for metric, values in figures.items()}
            for name, figures in report.get(part, {}).items()
        }
    return report
