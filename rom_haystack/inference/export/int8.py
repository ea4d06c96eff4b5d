"""Quantise graphs to 8 bits."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rom_haystack.inference.export.folder import weights_path
from rom_haystack.inference.untracked import import_untracked

if TYPE_CHECKING:
    import openvino
    from transformers import PreTrainedTokenizerBase

    from rom_haystack.inference.facts import ModelFacts

#: Longest calibration input.
_MAX_LENGTH = 384

Inputs = dict[str, NDArray[np.int64]]


def calibration_inputs(
    tokenizer: PreTrainedTokenizerBase, facts: ModelFacts, pairs: Sequence[tuple[str, str]]
) -> list[Inputs]:
    """Write pairs of a question and a passage as a graph's inputs: `[1, length]`, each in all three forms.

    Quantisation chooses its ranges by what flows through the model, so it must see queries, passages and pairs.
    """
    cut = {"truncation": True, "max_length": min(facts.max_length, _MAX_LENGTH), "return_tensors": "np"}
    forms = [texts for question, passage in pairs for texts in ((question,), (passage,), (question, passage))]
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if facts.uses_token_types else [])]
    encoded = [tokenizer(*texts, return_token_type_ids=facts.uses_token_types, **cut) for texts in forms]
    return [{name: np.asarray(tokens[name], dtype=np.int64) for name in names} for tokens in encoded]


def quantize_openvino(model: openvino.Model, inputs: Sequence[Inputs]) -> openvino.Model:
    """Quantise the weights and activations of an OpenVINO model.

    Args:
        model: Left as it is.
        inputs: What to choose the ranges of activations by.

    Raises:
        ImportError: NNCF is not installed.
    """
    nncf = _nncf()
    ranges = (
        nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX
    )  # cut no outlier off: it carries answers
    with contextlib.redirect_stdout(io.StringIO()):  # progress bars
        return nncf.quantize(
            model,
            nncf.Dataset(inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(inputs),
            advanced_parameters=nncf.AdvancedQuantizationParameters(activations_range_estimator_params=ranges),
        )


def quantize_onnx(source: Path, target: Path) -> None:
    """Quantise the matrix products of an ONNX model; ONNX Runtime chooses the ranges of activations as it runs.

    Embedding tables stay as they are: 8 bits would cost answers and gain no time.
    """
    import onnx  # noqa: PLC0415 (only int8 needs it)

    quantization = import_untracked("onnxruntime.quantization")
    model = onnx.load(source)
    # The exporter has optimised the graph; unless told so, ONNX Runtime sets up logging to advise it.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    quantization.quantize_dynamic(
        model,
        target,
        op_types_to_quantize=["MatMul"],
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        use_external_data_format=True,
    )
    weights_path(target).chmod(target.stat().st_mode)  # or only this user could read them


def _nncf() -> Any:
    try:
        return import_untracked("nncf")
    except ImportError as error:
        raise ImportError(
            f"Quantising to int8 needs NNCF ({error}). Install it: pip install 'rom-haystack[int8]'."
        ) from error
