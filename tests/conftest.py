"""Fixtures shared by all tests: tiny random models, never the network."""

from __future__ import annotations

import os
import tempfile

os.environ["ROM_HOME"] = tempfile.mkdtemp(prefix="rom-home-")
os.environ["ROM_BACKEND"] = "torch"  # what `auto` means, or every tiny checkpoint would be exported and measured
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models gain nothing from more, and lose much on busy machines

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
import hypothesis
import numpy as np
import pytest
import torch
from fpdf import FPDF
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedTokenizerFast

from rom_haystack.inference import ROMEncoder
from rom_haystack.inference.backends.base import Backend, Head, Outputs, TokenIds
from rom_haystack.modeling import ROMConfig, ROMModel, load_checkpoint

# The same examples in every run, and no verdict by the clock.
hypothesis.settings.register_profile("repository", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repository")

HOME = os.environ["ROM_HOME"]
NOBODY = 65534  # user id without rights
CORPUS = Path(__file__).parent.parent / "rom_haystack" / "sample_corpus"


def pytest_unconfigure() -> None:
    """Remove the session's own home folder."""
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Undo what a test does to the environment, as commands do that run in this process."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def word_pieces() -> dict[str, int]:
    """Train 800 pieces on the sample corpus, the same ones in every process.

    The trainer breaks ties by the pieces' numbers, and numbers the characters that go on in a word as it meets them, in
    a random order; so they are named beforehand.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    texts = [path.read_text(encoding="utf-8") for path in sorted(CORPUS.glob("*.md"))]
    characters = sorted(set("".join(map(tokenizer.normalizer.normalize_str, texts)).replace("\n", "").replace(" ", "")))
    first = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"##{character}" for character in characters)]
    trainer = trainers.WordPieceTrainer(vocab_size=800, special_tokens=first, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.get_vocab()


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of 800 pieces, trained on the sample corpus, with BERT's pair template."""
    tokenizer = Tokenizer(models.WordPiece(word_pieces(), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@pytest.fixture(scope="session")
def tiny_model(tiny_tokenizer: PreTrainedTokenizerFast) -> ROMModel:
    """A random 2-layer, 64-wide BERT with retrieval and reading heads."""
    encoder = AutoConfig.for_model(
        "bert",
        vocab_size=len(tiny_tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        initializer_range=0.2,  # wide, so that different inputs give visibly different outputs
    )
    torch.manual_seed(7)
    return ROMModel(ROMConfig(encoder=encoder)).eval()


@pytest.fixture(scope="session")
def tiny_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: ROMModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> Path:
    """Folder of the tiny model and its tokenizer. Copy it before changing anything in it."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    tiny_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(tiny_checkpoint: Path) -> ROMEncoder:
    """The tiny model behind the inference interface."""
    return ROMEncoder.from_model(*load_checkpoint(tiny_checkpoint))


class FakeBackend(Backend):
    """Gives what it is told to give, and remembers its calls.

    Args:
        outputs_of: From one input to its outputs.
    """

    name = "fake"

    def __init__(self, outputs_of: Callable[[TokenIds], Outputs]) -> None:
        self.outputs_of = outputs_of
        self.calls: list[list[TokenIds]] = []

    def run(self, inputs: Sequence[TokenIds], head: Head, *, batch_size: int | None = None) -> list[Outputs]:
        self.calls.append(list(inputs))
        return [self.outputs_of(tokens) for tokens in inputs]


@pytest.fixture
def fake_encoder(tiny_encoder: ROMEncoder) -> Callable[..., ROMEncoder]:
    """Build an encoder with the tiny model's tokenizer over a `FakeBackend`: `fake_encoder(outputs_of, **options)`.

    By default every output is noise that depends on nothing but the input.
    """

    def noise(tokens: TokenIds) -> Outputs:
        rng = np.random.default_rng(tokens.input_ids)
        logits = rng.normal(size=(2, len(tokens))).astype(np.float32)
        outputs = {"start_logits": logits[0], "end_logits": logits[1]}
        outputs["relevance_logits"] = np.array(rng.normal(), dtype=np.float32)
        return {**outputs, "embedding": rng.normal(size=tiny_encoder.embedding_dim).astype(np.float32)}

    def make(outputs_of: Callable[[TokenIds], Outputs] = noise, **options: Any) -> ROMEncoder:
        return ROMEncoder(FakeBackend(outputs_of), tiny_encoder.tokenizer, tiny_encoder.facts, **options)

    return make


class Family(NamedTuple):
    """One family of encoders: a tiny configuration and a tokenizer that fits it."""

    name: str
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerFast


_SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64}
#: Family name to: its own options, and whether its tokenizer works on bytes (and pads with id 1).
_FAMILIES: dict[str, tuple[dict[str, Any], bool]] = {
    "bert": (_SIZES, False),
    "mpnet": ({**_SIZES, "max_position_embeddings": 66}, True),
    "roberta": ({**_SIZES, "max_position_embeddings": 66, "type_vocab_size": 1}, True),
    "electra": ({**_SIZES, "embedding_size": 16}, False),
    "modernbert": ({**_SIZES, "local_attention": 16, "global_attn_every_n_layers": 2}, True),
    "distilbert": ({"n_layers": 2, "n_heads": 4, "dim": 32, "hidden_dim": 64}, False),
}


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 600 pieces with RoBERTa's pair template; its padding id is 1."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((path.read_text(encoding="utf-8") for path in sorted(CORPUS.glob("*.md"))), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )


@pytest.fixture(params=list(_FAMILIES))
def family(
    request: pytest.FixtureRequest, tiny_tokenizer: PreTrainedTokenizerFast, byte_tokenizer: PreTrainedTokenizerFast
) -> Family:
    """Each family of encoders in turn: 2 layers, 32 wide, 64 positions."""
    options, bytes_ = _FAMILIES[request.param]
    tokenizer = byte_tokenizer if bytes_ else tiny_tokenizer
    defaults = {"max_position_embeddings": 64, "initializer_range": 0.2}
    tokens = {
        "pad_token_id": tokenizer.pad_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }
    config = AutoConfig.for_model(request.param, vocab_size=len(tokenizer), **{**defaults, **tokens, **options})
    return Family(request.param, config, tokenizer)


@pytest.fixture
def encoder_folder(family: Family, tmp_path: Path) -> Path:
    """Folder of the family's plain encoder, as AutoModel writes it, with its tokenizer."""
    folder = tmp_path / f"{family.name}-encoder"
    torch.manual_seed(3)
    AutoModel.from_config(family.config).save_pretrained(folder)
    family.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if anything asks the hub, or even its cache."""

    def ask(*args: Any, **kwargs: Any) -> str:
        raise RuntimeError(f"the hub was asked for {args}")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", ask)


@pytest.fixture(scope="session")
def pdf() -> Callable[..., bytes]:
    """Make a PDF file of pages: `pdf("first page", "second", ...)`."""

    def make(*pages: str, **encryption: str) -> bytes:
        file = FPDF()
        file.set_font("Helvetica", size=11)
        for text in pages:
            file.add_page()
            file.multi_cell(0, 6, text)
        if encryption:
            file.set_encryption(**encryption)
        return bytes(file.output())

    return make


@pytest.fixture
def unprivileged():
    """A context in which this process has no rights in particular, even if it is root's."""

    @contextmanager
    def context():
        if os.getuid() != 0:
            yield
            return
        os.setresuid(NOBODY, NOBODY, 0)
        try:
            yield
        finally:
            os.setresuid(0, 0, 0)

    return context
