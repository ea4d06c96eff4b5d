"""Write a checkpoint as a graph for ONNX Runtime or OpenVINO: encoder, pooling and heads in one."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import torch
from filelock import FileLock
from torch import Tensor, nn

from rom_haystack.inference.backends.graph import GRAPH_OUTPUTS
from rom_haystack.inference.export.checks import check_graph
from rom_haystack.inference.export.folder import (
    TOKENIZER_FILE,
    GraphBackend,
    fingerprint,
    graph_path,
    has_graph,
    is_made_from,
    weights_path,
    write_facts,
)
from rom_haystack.inference.export.int8 import Inputs, calibration_inputs, quantize_onnx, quantize_openvino
from rom_haystack.inference.export.packages import check_packages
from rom_haystack.inference.export.quiet import quiet
from rom_haystack.inference.facts import ModelFacts, facts_of
from rom_haystack.inference.openvino_core import openvino_core
from rom_haystack.inference.samples import read_sample
from rom_haystack.inference.untracked import import_untracked
from rom_haystack.modeling import ROMModel, load_checkpoint
from rom_haystack.modeling.errors import CheckpointError
from rom_haystack.modeling.places import FACTS_FILE, check_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OPSET = 23  # the first with an operator for attention, which engines run fastest
_EXPORTING = threading.Lock()  # torch's exporter, and what keeps it quiet, are for one thread at a time


def export_graph(
    checkpoint: Path,
    folder: Path,
    backend: GraphBackend,
    *,
    int8: bool = False,
    calibration: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write a checkpoint as a graph, and beside it what inference without torch needs.

    The graph takes any batch and any length up to the model's, in all input forms, and gives the outputs of all heads
    that inference knows (`GRAPH_OUTPUTS`) in one run. It is compared with torch before it is kept. Several processes
    may ask for one graph at once: one makes it, the others wait. A graph that is there already stays, unless the
    checkpoint has changed or calibration texts are given.

    Args:
        checkpoint: Folder of a ROM checkpoint.
        folder: Export folder, made if need be. It may be the checkpoint's own.
        backend: Engine that the graph is for.
        int8: Quantise weights and activations to 8 bits.
        calibration: Pairs of a question and a passage to choose the ranges of 8-bit values by, for `int8`. Default:
            those of the bundled sample.

    Returns:
        The graph's path, as `graph_path` gives it.

    Raises:
        CheckpointError: The folder holds another model, the checkpoint can't be loaded, its encoder can't be written as
            a graph, or the graph's outputs differ from torch's.
        ImportError: A package that exports need is not installed.
        OSError: The folder can't be written.
    """
    check_folder(checkpoint)
    check_packages(backend, int8=int8)
    _check_free(folder, checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    graph = graph_path(folder, backend, int8=int8)
    source = fingerprint(checkpoint)
    with _EXPORTING, FileLock(folder / ".lock"):
        current = is_made_from(folder, source)
        if current and has_graph(folder, backend, int8=int8) and not calibration:
            _copy_settings(checkpoint, folder)  # they may have come, or changed, since
            return graph
        model, tokenizer = load_checkpoint(checkpoint, local_files_only=True)
        facts = facts_of(model, tokenizer)
        with _workplace(folder) as workplace:
            made = graph_path(workplace, backend, int8=int8)
            with quiet():
                plain = _plain_graph(folder if current else workplace, workplace, model, facts)
                if backend == "openvino":
                    examples = calibration_inputs(tokenizer, facts, calibration or _sample_pairs()) if int8 else None
                    _write_openvino(plain, made, half=_is_half_precision(model), examples=examples)
                elif int8:
                    quantize_onnx(plain, made)
            check_graph(made, backend, model, facts, int8=int8)
            if not current:
                _remove_graphs(folder)
            _write_companions(workplace, checkpoint, tokenizer, facts, source)
            _publish(workplace, folder, graph)
    return graph


def _check_free(folder: Path, checkpoint: Path) -> None:
    """Refuse to write an export over a model that is not one."""
    if folder.resolve() == checkpoint.resolve() or (folder / FACTS_FILE).exists():
        return
    if (folder / "config.json").exists() or (folder / TOKENIZER_FILE).exists() or any(folder.glob("*.safetensors")):
        raise CheckpointError(f"{folder} holds another model, which an export would overwrite; choose an empty folder.")


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """Make a folder for unfinished files; what an export that was killed left there goes first."""
    workplace = folder / ".export"
    shutil.rmtree(workplace, ignore_errors=True)
    workplace.mkdir()
    try:
        yield workplace
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


class _AllHeads(nn.Module):
    """The encoder and every head that inference knows, in one forward pass."""

    def __init__(self, model: ROMModel) -> None:
        super().__init__()
        self.model = model
        self.outputs = {name: outputs for name, outputs in GRAPH_OUTPUTS.items() if name in model.heads}
        # Left alone, rotary encoders make one row of positions for all inputs; ONNX's operator wants one for each.
        self.takes_positions = getattr(model.config.encoder, "rope_parameters", None) is not None

    @property
    def output_names(self) -> list[str]:
        return [in_graph for names in self.outputs.values() for in_graph in names.values()]

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        if self.takes_positions:
            inputs["position_ids"] = torch.arange(input_ids.shape[1]).expand(input_ids.shape)
        hidden_states = self.model.encoder(**inputs).last_hidden_state
        word_embeddings = self.model.get_input_embeddings().weight
        found = {name: self.model.heads[name](hidden_states, attention_mask, word_embeddings) for name in self.outputs}
        return tuple(found[head][name] for head, names in self.outputs.items() for name in names)


def _sample_pairs() -> list[tuple[str, str]]:
    """Pairs of the half of the sample on which no engine is measured."""
    return read_sample(part=slice(1, None, 2)).pairs()


def _plain_graph(kept: Path, workplace: Path, model: ROMModel, facts: ModelFacts) -> Path:
    """Return the ONNX graph in float32 that all others are made from, written if it isn't there yet."""
    if has_graph(kept, "onnx", int8=False):
        return graph_path(kept, "onnx", int8=False)
    path = graph_path(workplace, "onnx", int8=False)
    _write_onnx(path, model, facts)
    return path


def _write_openvino(plain: Path, path: Path, *, half: bool, examples: Sequence[Inputs] | None) -> None:
    """Convert an ONNX graph, and quantise it if there are examples to do it by."""
    openvino = import_untracked("openvino")
    model = openvino_core().read_model(plain)
    if examples:
        model = quantize_openvino(model, examples)
    openvino.save_model(model, path, compress_to_fp16=half)


def _write_onnx(path: Path, model: ROMModel, facts: ModelFacts) -> None:
    module = _AllHeads(model).eval()
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if facts.uses_token_types else [])]
    example = {name: torch.ones(2, 16, dtype=torch.int64) for name in names}
    example["attention_mask"][1, 8:] = 0
    dimensions = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=facts.max_length)}
    try:
        program = torch.onnx.export(
            module,
            kwargs=example,
            dynamo=True,
            opset_version=_OPSET,
            dynamic_shapes=dict.fromkeys(names, dimensions),
            input_names=names,
            output_names=module.output_names,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise CheckpointError(
            f"Encoders of the kind '{model.config.encoder.model_type}' can't be written as a graph by this version of "
            f"PyTorch ({torch.__version__}); use backend='torch'. ({_first_line(error.__cause__ or error)})"
        ) from error
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program.")
    program.save(path, external_data=True)


def _is_half_precision(model: ROMModel) -> bool:
    """Whether 16 bits hold the weights without loss, as those of a released checkpoint."""
    return all(torch.equal(weights, weights.half().float()) for weights in model.state_dict().values())


def _write_companions(
    folder: Path, checkpoint: Path, tokenizer: PreTrainedTokenizerBase, facts: ModelFacts, source: str
) -> None:
    write_facts(folder, facts, source=source)
    tokenizer.backend_tokenizer.save(str(folder / TOKENIZER_FILE))
    _copy_settings(checkpoint, folder)


def _copy_settings(checkpoint: Path, folder: Path) -> None:
    for name in ("config.json", "calibration.json"):
        if (checkpoint / name).exists() and checkpoint.resolve() != folder.resolve():
            shutil.copyfile(checkpoint / name, folder / name)


def _publish(workplace: Path, folder: Path, graph: Path) -> None:
    """Put finished files in their place, the graph itself last: a folder with a graph in it is complete."""
    graph.unlink(missing_ok=True)
    wanted = [FACTS_FILE, TOKENIZER_FILE, "config.json", "calibration.json", weights_path(graph).name, graph.name]
    for name in wanted:
        if (workplace / name).exists():
            (workplace / name).replace(folder / name)


def _remove_graphs(folder: Path) -> None:
    """Remove the graphs of another checkpoint, so that no folder mixes two."""
    for backend in get_args(GraphBackend):
        for int8 in (False, True):
            graph = graph_path(folder, backend, int8=int8)
            graph.unlink(missing_ok=True)
            weights_path(graph).unlink(missing_ok=True)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
