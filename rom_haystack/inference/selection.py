"""What `backend="auto"` means on this machine: the fastest engine that answers as torch in float32 does.

Where several engines could run, they are measured once, on the bundled sample. The choice is kept in the cache, for
this machine and these versions, so that later processes only look it up.
"""

from __future__ import annotations

import functools
import gc
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from rom_haystack.inference.announcing import preparation
from rom_haystack.inference.choices import Choice, ChoiceFile
from rom_haystack.inference.export.folder import GraphBackend, cache_place, export_place, graph_path, has_graph
from rom_haystack.inference.fidelity import Fidelity, compare
from rom_haystack.inference.loading import checkpoint_folder, default_dtype, load_encoder
from rom_haystack.inference.machine import circumstances, computes_in_bfloat16
from rom_haystack.inference.registry import AUTO, DTYPES, EncoderSpec
from rom_haystack.inference.samples import Sample, read_sample
from rom_haystack.modeling import bundled_checkpoints
from rom_haystack.modeling.places import has_weights

if TYPE_CHECKING:
    from rom_haystack.inference.encoder import ROMEncoder

logger = logging.getLogger(__name__)

#: The environment variable that says what auto means on CPUs.
VARIABLE = "ROM_BACKEND"
#: Its value for what was measured, but not to measure now: where no one has yet, auto is torch until someone does.
MEASURED = "measured"
#: What each engine for graphs needs installed, the likely best first; and what an export needs.
_PACKAGES: dict[GraphBackend, str] = {"openvino": "openvino", "onnx": "onnxruntime"}
_EXPORT_PACKAGES = ("torch", "onnx", "onnxscript")

_REFERENCE = "torch"
_REFERENCE_DTYPE = "float32"
#: Half of the bundled sample's files: seconds of work, and still over a hundred answers.
_PART = slice(0, None, 2)

_RECORD = "selection.json"


def chosen(spec: EncoderSpec) -> tuple[str, str]:
    """Return engine and type for a spec that leaves either open, measuring engines if no one has yet.

    Raises:
        CheckpointError: The checkpoint can't be found or loaded.
        ImportError: The engine that was asked for is not installed.
        ValueError: `ROM_BACKEND` names no engine.
    """
    if spec.backend != AUTO:
        return spec.backend, spec.dtype or default_dtype(spec.backend)
    choice = known_choice(spec)
    if choice is None and os.environ.get(VARIABLE) == MEASURED:
        choice = _unmeasured_choice(spec)
    if choice is None:
        choice = _measured_choice(spec)
    _announce(spec.model, choice)
    return choice.backend, choice.dtype


def known_choice(spec: EncoderSpec) -> Choice | None:
    """Return what `auto` means for a spec if that is known without exporting or measuring; None if not.

    Raises:
        CheckpointError: The checkpoint can't be found.
        ImportError: The engine that `ROM_BACKEND` names is not installed.
        ValueError: `ROM_BACKEND` names no engine.
    """
    if choice := _choice_by_rule(spec):
        return choice
    checkpoint = checkpoint_folder(spec)
    candidates = _candidates(spec, checkpoint)
    if not candidates:
        return Choice(_REFERENCE, _REFERENCE_DTYPE, _why_no_other())
    if not has_weights(checkpoint) or find_spec(_REFERENCE) is None:
        first = candidates[0]
        return Choice(first.backend, first.dtype or default_dtype(first.backend), "there is nothing to compare with")
    return ChoiceFile(_record(checkpoint)).find(_circumstances(checkpoint))


def _choice_by_rule(spec: EncoderSpec) -> Choice | None:
    """Choose where there is nothing to measure."""
    dtype = spec.dtype or _REFERENCE_DTYPE
    if spec.device != "cpu":
        return Choice(_REFERENCE, dtype, f"no other engine runs on '{spec.device}'")
    if spec.options != "{}":
        return Choice(_REFERENCE, dtype, f"no other engine takes these loading options: {spec.options}")
    named = os.environ.get(VARIABLE, "")
    if named not in ("", AUTO, MEASURED, *DTYPES):
        possible = ", ".join([AUTO, MEASURED, *DTYPES])
        raise ValueError(f"{VARIABLE} is '{named}'; set it to one of {possible}, or unset it.")
    if named in DTYPES:
        return Choice(named, spec.dtype or default_dtype(named), f"{VARIABLE} names it")
    if spec.dtype in DTYPES[_REFERENCE]:
        return Choice(_REFERENCE, dtype, f"dtype '{dtype}' was asked for, and no other engine")
    if spec.dtype is not None:
        installed = [engine for engine, package in _PACKAGES.items() if find_spec(package)]
        return Choice([*installed, *_PACKAGES][0], dtype, f"torch does not compute in '{dtype}'")
    return None


def _candidates(spec: EncoderSpec, checkpoint: Path) -> list[EncoderSpec]:
    """Return a spec for each engine that could stand in for torch, the likely best first.

    A graph must be there or can be made. Quantised ones are never made unasked.
    """
    place = export_place(checkpoint)
    exportable = has_weights(checkpoint) and all(map(find_spec, _EXPORT_PACKAGES))
    found = []
    for engine, package in _PACKAGES.items():
        if find_spec(package) is None:
            continue
        if exportable or has_graph(place, engine, int8=False):
            found.append(replace(spec, backend=engine))
        if has_graph(place, engine, int8=True):
            found.append(replace(spec, backend=engine, dtype="int8"))
    return found


def _why_no_other() -> str:
    missing = [package for package in ("openvino", *_EXPORT_PACKAGES) if find_spec(package) is None]
    return f"no other can run it without {', '.join(missing) or 'onnxruntime'} (pip install 'rom-haystack[openvino]')"


def _unmeasured_choice(spec: EncoderSpec) -> Choice:
    """Choose where engines could be measured, but not now. bfloat16 is known to keep the bundled models' answers."""
    fast = spec.model in bundled_checkpoints() and computes_in_bfloat16()
    dtype = "bfloat16" if fast else _REFERENCE_DTYPE
    return Choice(_REFERENCE, dtype, f"no other was measured here yet, and {VARIABLE} says not to do so now")


def _measured_choice(spec: EncoderSpec) -> Choice:
    """Measure and keep the choice; others who want the same meanwhile wait for it."""
    checkpoint = checkpoint_folder(spec)
    record = _record(checkpoint)
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(record.with_suffix(".lock")):
            if choice := known_choice(spec):
                return choice
            choice, measured = _measure(spec, _candidates(spec, checkpoint))
            gc.collect()  # the engines that were measured have cycles, and are large
            ChoiceFile(record).keep(_circumstances(checkpoint), choice, measured)
            return choice
    except OSError as error:
        logger.warning("No engine can be prepared in %s (%s). Set ROM_HOME to a writable folder.", record.parent, error)
        return Choice(_REFERENCE, _REFERENCE_DTYPE, f"others can't be prepared in {record.parent} now")


def _measure(spec: EncoderSpec, candidates: Sequence[EncoderSpec]) -> tuple[Choice, dict[str, Any]]:
    """Compare engines with the reference; also return what was measured, in plain values."""
    preparation.info("Preparing %s for this machine, once …", spec.model)
    sample = read_sample(part=_PART)
    reference = load_encoder(replace(spec, backend=_REFERENCE, dtype=_REFERENCE_DTYPE))
    try:
        compare(reference, {}, _smallest(sample))
    except KeyError as error:
        return Choice(_REFERENCE, _REFERENCE_DTYPE, f"it can't be compared with others: {error.args[0]}"), {}
    engines: dict[EncoderSpec, ROMEncoder] = {}
    failures: dict[str, str] = {}
    for candidate in sorted(candidates, key=lambda spec: spec.backend != "onnx"):  # other graphs are made from ONNX
        try:
            concrete = candidate.resolved()
            encoder = load_encoder(concrete)
            compare(reference, {concrete: encoder}, _smallest(sample))  # one that can't run is found out here
        except Exception as error:  # engines fail in many ways, and torch remains
            if isinstance(error, MemoryError) or isinstance(error.__cause__ or error, OSError):
                raise OSError(str(error)) from error  # it may pass, so it must not decide for good
            failures[_name(candidate)] = f"{type(error).__name__}: {error}"
            logger.warning("%s can't run %s: %s", _name(candidate), spec.model, failures[_name(candidate)])
        else:
            engines[concrete] = encoder
    found = compare(reference, engines, sample)
    return _best(found), {**{_name(engine): asdict(fidelity) for engine, fidelity in found.items()}, **failures}


def _smallest(sample: Sample) -> Sample:
    """Take one question and its passage."""
    question = sample.questions[0]
    return Sample((sample.passages[question.passage],), (replace(question, passage=0),))


def _best(found: Mapping[EncoderSpec, Fidelity]) -> Choice:
    better = [engine for engine, fidelity in found.items() if fidelity.faithful and fidelity.speedup > 1]
    if not better:
        others = "; ".join(f"{_name(engine)} is {_summary(fidelity)}" for engine, fidelity in found.items())
        return Choice(
            _REFERENCE, _REFERENCE_DTYPE, f"no other is both faithful and faster here ({others or 'none runs'})"
        )
    best = max(better, key=lambda engine: found[engine].speedup)
    return Choice(best.backend, str(best.dtype), f"it is {_summary(found[best])}")


def _name(engine: EncoderSpec) -> str:
    return f"{engine.backend}-{engine.dtype or 'default'}"


def _summary(fidelity: Fidelity) -> str:
    return (
        f"{fidelity.speedup:.1f} times as fast as {_REFERENCE}-{_REFERENCE_DTYPE} on this machine, with the same "
        f"answer in {fidelity.span_agreement:.1%} of the passages"
    )


def _record(checkpoint: Path) -> Path:
    """Place the file of choices in the cache, also for a checkpoint with graphs beside it: its folder is left alone."""
    return cache_place(checkpoint) / _RECORD


def _circumstances(checkpoint: Path) -> dict[str, Any]:
    """Return all that a measured choice depends on."""
    place = export_place(checkpoint)
    graphs = {}
    for engine in _PACKAGES:
        for int8 in (False, True):
            if has_graph(place, engine, int8=int8):
                status = graph_path(place, engine, int8=int8).stat()
                graphs[graph_path(place, engine, int8=int8).name] = [status.st_size, status.st_mtime_ns]
    return {**circumstances(), "graphs": graphs}


@functools.cache
def _announce(model: str, choice: Choice) -> None:
    """Say once per process what was chosen."""
    logger.info("Backend of %s: %s, as %s.", model, choice.name, choice.reason)
