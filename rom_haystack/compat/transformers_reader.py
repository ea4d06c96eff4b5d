"""1.x's `TransformersReader` on `ROMExtractiveReader`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rom_haystack.compat.arguments import Unused, device_of, token_of, warn_of_unused
from rom_haystack.compat.reader import Reader
from rom_haystack.components import ROMExtractiveReader
from rom_haystack.modeling import DEFAULT_CHECKPOINT

_UNUSED = {"tokenizer": Unused(None, "The checkpoint's own tokenizer is used.")}


class TransformersReader(Reader):
    """1.x's `TransformersReader`, on `ROMExtractiveReader`: `FARMReader` with other names and defaults.

    Args:
        model_name_or_path: Bundled name, folder or hub id of the model.
        model_version: Branch, tag or commit of a hub id.
        tokenizer: Without effect.
        context_window_size: Characters of an answer's `context` on either side, in whole words.
        use_gpu: With False, run on the CPU in any case.
        top_k: Most answers.
        top_k_per_candidate: Most answers per document.
        return_no_answers: Let "there is no answer here" compete with the answers.
        max_seq_len: Tokens per window, query included.
        doc_stride: Tokens that neighbouring windows share.
        batch_size: Most windows per forward pass.
        use_auth_token: Token for private hub ids; True for the one in the environment.
        devices: Where to run: the first counts. None for the machine's default.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(
        self,
        model_name_or_path: str | Path = DEFAULT_CHECKPOINT,
        model_version: str | None = None,
        tokenizer: str | None = None,
        context_window_size: int = 70,
        use_gpu: bool = True,
        top_k: int = 10,
        top_k_per_candidate: int = 3,
        return_no_answers: bool = False,
        max_seq_len: int = 256,
        doc_stride: int = 128,
        batch_size: int = 16,
        use_auth_token: str | bool | None = None,
        devices: Sequence[Any] | None = None,
    ) -> None:
        owner = type(self).__name__
        warn_of_unused(owner, _UNUSED, {"tokenizer": tokenizer})
        self.top_k = top_k
        self.top_k_per_candidate = top_k_per_candidate
        self.return_no_answers = return_no_answers
        self.reader = ROMExtractiveReader(
            model=model_name_or_path,
            revision=model_version,
            device=device_of(owner, use_gpu, devices),
            token=token_of(use_auth_token),
            top_k=top_k,
            no_answer=False,
            max_seq_length=max_seq_len,
            stride=doc_stride,
            max_batch_size=batch_size,
            answers_per_seq=top_k_per_candidate,
            context_window_size=2 * context_window_size,
        )
