"""Tokenizers of other libraries' models, as ROM's checkpoints keep them."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, normalizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from rom_haystack.modeling.conversion.sources import read_json
from rom_haystack.modeling.errors import CheckpointError

_SPECIAL = ("cls_token", "mask_token", "pad_token", "sep_token", "unk_token")


def load_tokenizer(folder: Path, *, lower_case: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder.

    Args:
        folder: With the tokenizer's files.
        lower_case: Lower-case texts first, which sentence-transformers does apart from the tokenizer.

    Raises:
        CheckpointError: There is none, it is damaged, or it has no fast version.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds
        raise CheckpointError(f"{folder} holds no tokenizer that can be loaded ({error}).") from error
    if not tokenizer.is_fast:
        raise CheckpointError(f"The tokenizer in {folder} has no fast version, so answers would have no offsets.")
    if lower_case:
        backend = tokenizer.backend_tokenizer
        steps = [normalizers.Lowercase(), *([backend.normalizer] if backend.normalizer else [])]
        backend.normalizer = normalizers.Sequence(steps)
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a folder holds a tokenizer of BERT's kind."""
    return (folder / "tokenizer.json").is_file() or (folder / "vocab.txt").is_file()


def load_bert_tokenizer(
    folder: Path, *, max_length: int, lower_case: bool | None = None, reader: bool = False
) -> PreTrainedTokenizerBase:
    """Load a WordPiece tokenizer, which all DPR models have, free of DPR's own classes.

    Args:
        folder: With `tokenizer.json`, or with `vocab.txt`.
        max_length: Most tokens that the model takes.
        lower_case: For `vocab.txt` alone: whether texts are lower-cased. None for what `tokenizer_config.json` says,
            else yes, as DPR's models are uncased.
        reader: Write pairs as DPR's reader saw them for a passage without title, `[CLS] query [SEP] [SEP] passage`,
            all in one segment, instead of as BERT does.

    Raises:
        CheckpointError: There is no tokenizer, or it is damaged.
    """
    if not has_tokenizer(folder):
        raise CheckpointError(f"{folder} holds no tokenizer (tokenizer.json or vocab.txt).")
    settings = read_json(folder / "tokenizer_config.json")
    if lower_case is None:
        lower_case = not isinstance(settings, dict) or bool(settings.get("do_lower_case", True))
    try:
        named = BertTokenizer.from_pretrained(folder, local_files_only=True, do_lower_case=lower_case)
        path = folder / "tokenizer.json"
        backend = Tokenizer.from_file(str(path)) if path.is_file() else named.backend_tokenizer
    except Exception as error:  # transformers and tokenizers raise many kinds
        raise CheckpointError(f"The tokenizer in {folder} can't be loaded; is a file damaged? ({error})") from error
    if reader:
        backend.post_processor = TemplateProcessing(
            single=f"{named.cls_token}:0 $A:0 {named.sep_token}:0",
            pair=f"{named.cls_token}:0 $A:0 {named.sep_token}:0 {named.sep_token}:0 $B:0",
            special_tokens=[(named.cls_token, named.cls_token_id), (named.sep_token, named.sep_token_id)],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{name: getattr(named, name) for name in _SPECIAL},
    )
