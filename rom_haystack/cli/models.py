"""Commands on models: describe one, export one."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rom_haystack.cli.app import DEFAULT_MODEL, EPILOG, JsonOption, ModelArgument, app, mistakes_explained
from rom_haystack.cli.output import print_json, print_rows
from rom_haystack.cli.quiet import preparation_announced, quiet

#: Suffixes of files that hold weights: of checkpoints, OpenVINO's and ONNX graphs.
_WEIGHTS = (".safetensors", ".bin", ".data")

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from rom_haystack.inference.samples import Sample


@app.command(epilog=EPILOG)
def info(
    model: ModelArgument = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Describe a model and what runs it here."""
    with mistakes_explained(as_json):
        quiet(model)
        facts = _describe(model)
        if as_json:
            print_json(facts)
        else:
            _show_facts(facts)


@app.command(epilog=EPILOG)
def export(
    model: ModelArgument = DEFAULT_MODEL,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Folder to write; use it as a model. Default: your cache, where it is found."),
    ] = None,
    backend: Annotated[Literal["openvino", "onnx"], typer.Option("--backend", help="Engine.")] = "openvino",
    int8: Annotated[bool, typer.Option("--int8", help="Quantise to 8 bits: for CPUs that lack bfloat16.")] = False,
    questions: Annotated[
        Path | None,
        typer.Option(
            "--questions",
            help="Measure on these: a table with file, question and answer, tabs between them and the files beside it. "
            "Default: a sample.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Export a model for another engine and measure it.

    The model is written as a graph, and that is compared with torch in float32: how true it is, and how fast.
    """
    with mistakes_explained(as_json):
        quiet(model)
        with preparation_announced():
            report = _export(model, output, backend, int8, questions)
        if as_json:
            print_json(report)
        else:
            _show_export(report)


def _describe(model: str) -> dict[str, Any]:
    import haystack.version  # noqa: PLC0415
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415
    from haystack.utils import ComponentDevice  # noqa: PLC0415

    from rom_haystack import __version__  # noqa: PLC0415
    from rom_haystack.inference.converted import find_checkpoint  # noqa: PLC0415
    from rom_haystack.modeling import ROMConfig, ROMModel, load_checkpoint  # noqa: PLC0415
    from rom_haystack.modeling.places import has_weights  # noqa: PLC0415

    folder = find_checkpoint(model)
    if has_weights(folder):
        loaded, _ = load_checkpoint(folder)
    else:  # an exported graph, counted by its configuration
        with torch.device("meta"):
            loaded = ROMModel(ROMConfig.from_pretrained(folder))
    device = ComponentDevice.resolve_device(None).to_torch_str()
    encoder: PretrainedConfig = loaded.config.encoder
    counts = loaded.parameter_counts()
    return {
        "model": model,
        "path": str(folder),
        "format_version": loaded.config.format_version,
        "encoder": encoder.model_type,
        "layers": encoder.num_hidden_layers,
        "hidden_size": encoder.hidden_size,
        "vocabulary": encoder.vocab_size,
        "heads": {name: dict(options) for name, options in loaded.config.heads.items()},
        "parameters": {
            "shared": counts["shared"],
            "heads": counts["heads"],
            "total": counts["total"],
            "three_separate_encoders": counts["three separate encoders"],
            "ratio": round(counts["three separate encoders"] / counts["total"], 3),
        },
        "weights_bytes": sum(path.stat().st_size for path in folder.iterdir() if path.suffix in _WEIGHTS),
        "device": device,
        "backend": _backend(model, device),
        "versions": {
            "rom-haystack": __version__,
            "haystack": haystack.version.__version__,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
        },
    }


def _backend(model: str, device: str) -> dict[str, Any]:
    """Say what `auto` means for a model here, without measuring."""
    from rom_haystack.inference import EncoderSpec  # noqa: PLC0415
    from rom_haystack.inference.selection import known_choice  # noqa: PLC0415

    choice = known_choice(EncoderSpec.create(model, device=device))
    if choice is None:
        return {"auto": None, "reason": "engines are measured when the model is first used"}
    return {"auto": choice.name, "reason": choice.reason}


def _export(
    model: str, output: Path | None, backend: Literal["openvino", "onnx"], int8: bool, questions: Path | None
) -> dict[str, Any]:
    from rom_haystack.folders import expanded  # noqa: PLC0415
    from rom_haystack.inference import EncoderSpec  # noqa: PLC0415
    from rom_haystack.inference.announcing import preparation  # noqa: PLC0415
    from rom_haystack.inference.converted import find_checkpoint  # noqa: PLC0415
    from rom_haystack.inference.export.folder import export_place, weights_path  # noqa: PLC0415
    from rom_haystack.inference.export.graph import export_graph  # noqa: PLC0415
    from rom_haystack.inference.fidelity import compare  # noqa: PLC0415
    from rom_haystack.inference.loading import default_dtype, load_encoder, load_exported  # noqa: PLC0415

    checkpoint = find_checkpoint(model)
    folder = export_place(checkpoint) if output is None else expanded(output).absolute()
    dtype = "int8" if int8 else default_dtype(backend)
    calibration, sample = _samples(questions, int8)
    preparation.info("Exporting %s for backend '%s' and measuring it …", model, backend)
    graph = export_graph(checkpoint, folder, backend, int8=int8, calibration=calibration)
    encoder = load_exported(folder, backend, dtype)
    reference = load_encoder(EncoderSpec.create(model, backend="torch", model_kwargs={"dtype": "float32"}))
    fidelity = compare(reference, {backend: encoder}, sample)[backend]
    return {
        "model": model,
        "engine": encoder.backend_name,
        "graph": str(graph),
        "bytes": sum(path.stat().st_size for path in (graph, weights_path(graph))),
        "reference": reference.backend_name,
        "questions": len(sample.questions),
        "passages": len(sample.passages),
        "fidelity": {
            **asdict(fidelity),
            "exact_match_change": fidelity.exact_match_change,
            "f1_change": fidelity.f1_change,
            "speedup": fidelity.speedup,
        },
        "faithful": fidelity.faithful,
    }


def _samples(questions: Path | None, int8: bool) -> "tuple[list[tuple[str, str]], Sample]":
    """Return pairs to quantise by, if need be, and a sample to measure on; the two share no file."""
    from rom_haystack.inference.samples import SAMPLE_CORPUS, SAMPLE_QUESTIONS, read_sample  # noqa: PLC0415

    table, folder = (SAMPLE_QUESTIONS, SAMPLE_CORPUS) if questions is None else (questions, questions.parent)
    if not int8:
        return [], read_sample(table, folder)
    made_by, measured_on = (read_sample(table, folder, part=slice(start, None, 2)) for start in (1, 0))
    return made_by.pairs(), measured_on


def _show_facts(facts: dict[str, Any]) -> None:
    parameters = facts["parameters"]
    rows = {
        "Model": facts["model"],
        "Path": facts["path"],
        "Format version": facts["format_version"],
        "Encoder": f"{facts['encoder']}, {facts['layers']} layers, {facts['hidden_size']} wide, "
        f"vocabulary of {facts['vocabulary']:,}",
        "Heads": "; ".join(
            name + "".join(f", {option} {value}" for option, value in options.items())
            for name, options in facts["heads"].items()
        ),
        "Parameters": f"{parameters['total']:,} (shared encoder {parameters['shared']:,}, "
        f"heads {parameters['heads']:,})",
        "Three encoders": f"{parameters['three_separate_encoders']:,}, {parameters['ratio']:.2f} times as many",
        "Weights": f"{facts['weights_bytes'] / 1e6:.1f} MB",
        "Device": facts["device"],
        "Backend": facts["backend"]["auto"] + ", as " + facts["backend"]["reason"]
        if facts["backend"]["auto"]
        else f"not chosen yet: {facts['backend']['reason']}",
        "Versions": ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
    }
    print_rows(rows)


def _show_export(report: dict[str, Any]) -> None:
    found = report["fidelity"]
    print_rows(
        {
            "Model": report["model"],
            "Graph": f"{report['graph']}, {report['bytes'] / 1e6:.1f} MB",
            "Engine": f"{report['engine']}, compared with {report['reference']} on {report['questions']} questions "
            f"about {report['passages']} passages",
            "Embeddings": f"cosine {found['cosine_mean']:.5f} on average, {found['cosine_min']:.5f} at least; "
            f"{found['top_overlap']:.1%} of the ten nearest passages are the same",
            "Answers": f"{found['span_agreement']:.1%} are the same; exact match {found['exact_match']:.1%} "
            f"({100 * found['exact_match_change']:+.1f} points), F1 {found['f1']:.1%} "
            f"({100 * found['f1_change']:+.1f} points)",
            "Speed": f"{found['tokens_per_second']:,.0f} tokens per second, {found['speedup']:.1f} times as many",
            "Faithful": "yes" if report["faithful"] else "no: backend 'auto' won't choose it; name it to use it",
        }
    )
