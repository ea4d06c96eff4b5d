"""Text into the inputs of the model, without transformers: queries, passages, and windows of query-passage pairs."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice, takewhile

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from rom_haystack.inference.backends.base import TokenIds
from rom_haystack.inference.characters import CharacterTable
from rom_haystack.inference.facts import ModelFacts

#: Tokens of passages that are kept for the next question.
CACHED_TOKENS = 500_000
#: Texts tokenised in one go: enough for all cores, while the tokenizer's own bulky results stay few.
_TEXTS_AT_ONCE = 1024
_CHARACTERS_PER_TOKEN = 16  # far more than is usual: what a text without tokens weighs in the cache

_SURROGATE = re.compile("[\ud800-\udfff]")
#: Scripts written without blanks between words: Thai, Lao, Burmese, Khmer, kana and Chinese characters.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


@dataclass(frozen=True)
class Window:
    """One window of a tokenised pair: where its tokens stand in the passage.

    Attributes:
        offsets: `[length, 2]` character offsets of each token in the passage; zeros for all other tokens.
        may_start: `[length]`, whether an answer may begin at the token.
        may_end: `[length]`, whether an answer may end at the token.
    """

    offsets: NDArray[np.int64]
    may_start: NDArray[np.bool_]
    may_end: NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """Query-passage pairs, cut into windows.

    Attributes:
        tokens: Per window, what the model reads.
        windows: Per window, where its tokens stand in the passage.
        owners: Per window, the index of its pair; a pair's windows are neighbours, in the order of the passage.
    """

    tokens: list[TokenIds]
    windows: list[Window]
    owners: list[int]


class TextTokenizer:
    """Turn texts into the inputs of one model; safe to use from several threads.

    Gives what transformers' tokenizer call gives, and keeps tokenised passages, so that a passage read again for
    another question costs nothing here.

    Args:
        tokenizer: The model's tokenizer. It is copied; its truncation and padding do not matter.
        facts: Facts of the model.
        cached_tokens: Tokens of passages to keep; the least recently used go first.

    Raises:
        ValueError: The tokenizer finds no token in any text.
    """

    def __init__(self, tokenizer: Tokenizer, facts: ModelFacts, *, cached_tokens: int = CACHED_TOKENS) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.encode_special_tokens = tokenizer.encode_special_tokens  # not part of its text form
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._single = _Template.of(self._tokenizer, pair=False, token_types=facts.uses_token_types)
        self._pair = _Template.of(self._tokenizer, pair=True, token_types=facts.uses_token_types)
        self._cache = _PassageCache(cached_tokens)

    def singles(self, texts: Sequence[str], max_length: int) -> list[TokenIds]:
        """Tokenise queries or passages, each for itself.

        Args:
            texts: Any texts, the empty one included.
            max_length: Most tokens per text, special tokens included; what is longer is cut.

        Raises:
            ValueError: `max_length` has no room for the special tokens.
        """
        room = max_length - self._single.added
        if room < 0:
            raise ValueError(f"max_length is {max_length}; a text's special tokens alone are {self._single.added}.")
        return [self._single.fill(_ids(encoding)[:room]) for encoding in self._encode(texts, with_offsets=False)]

    def pairs(
        self,
        queries: Sequence[str],
        passages: Sequence[str],
        *,
        max_seq_length: int,
        stride: int,
        max_query_length: int,
    ) -> Pairs:
        """Tokenise pairs and cut them into windows; a passage of nothing but white space has none.

        Args:
            queries: One query per pair.
            passages: One passage per pair, of any length.
            max_seq_length: Most tokens per window, query and special tokens included.
            stride: Tokens that neighbouring windows of one passage share.
            max_query_length: Tokens of the query that are kept.

        Raises:
            ValueError: A passage is longer than a window, and windows have no room for more than `stride` tokens of it.
        """
        readable = [index for index, passage in enumerate(passages) if passage.strip()]
        query_ids = self._query_ids(dict.fromkeys(queries[index] for index in readable), max_query_length)
        tokenised = self._tokenised(dict.fromkeys(passages[index] for index in readable))
        found = Pairs([], [], [])
        for index in readable:
            query, passage = query_ids[queries[index]], tokenised[passages[index]]
            first = self._pair.passage_start(len(query))
            room = max_seq_length - len(query) - self._pair.added
            if not (len(passage) <= room or stride < room):
                raise ValueError(
                    f"max_seq_length is {max_seq_length} and stride {stride}: beside a query of {len(query)} tokens "
                    f"and {self._pair.added} special tokens, a window has room for {max(room, 0)} tokens of the "
                    "passage, and must have room for more than the stride. Raise max_seq_length, or lower stride or "
                    "max_query_length."
                )
            for start, stop in _cuts(len(passage), room, stride):
                tokens = self._pair.fill(query, passage.ids[start:stop])
                found.tokens.append(tokens)
                found.windows.append(passage.window(start, stop, first, len(tokens)))
                found.owners.append(index)
        return found

    def clip_query(self, query: str, max_length: int) -> str:
        """Cut a query after at most `max_length` tokens, never inside a character."""
        (encoding,) = self._encode([query])
        return clip(query, encoding.offsets, max_length)

    def _query_ids(self, queries: Collection[str], max_length: int) -> dict[str, NDArray[np.int64]]:
        """Tokenise queries, cut to `max_length`; a cut query anew, since its last word may have become another."""
        ids = {}
        for query, encoding in zip(queries, self._encode(queries), strict=True):
            ids[query] = _ids(encoding)
            if len(encoding) > max_length:
                (clipped,) = self._encode([clip(query, encoding.offsets, max_length)])
                ids[query] = _ids(clipped)
        return ids

    def _tokenised(self, passages: Collection[str]) -> dict[str, _Passage]:
        known = self._cache.look_up(passages)
        missing = [passage for passage in passages if passage not in known]
        new = {
            passage: _Passage.of(passage, encoding)
            for passage, encoding in zip(missing, self._encode(missing), strict=True)
        }
        self._cache.add(new)
        return known | new

    def _encode(self, texts: Iterable[str], *, with_offsets: bool = True) -> Iterator[Encoding]:
        """Tokenise texts without special tokens, a bounded number at a time."""
        encode = self._tokenizer.encode_batch if with_offsets else self._tokenizer.encode_batch_fast
        remaining = iter(texts)
        while batch := [_tokenizable(text) for text in islice(remaining, _TEXTS_AT_ONCE)]:
            yield from encode(batch, add_special_tokens=False)


def clip(text: str, offsets: Sequence[tuple[int, int]], limit: int) -> str:
    """Cut a text after at most `limit` of its tokens, never inside a character (byte-level tokens may end there).

    Args:
        text: Any text.
        offsets: Characters of each of its tokens, special tokens left out.
        limit: Tokens to keep.
    """
    if len(offsets) <= limit:
        return text
    kept = limit
    while kept and offsets[kept - 1][1] > offsets[kept][0]:
        kept -= 1
    return text[: offsets[kept - 1][1]] if kept else ""


def splits_word(text: str, position: int) -> bool:
    """Tell whether a cut at `position` would part a word; in scripts without blanks every character may stand alone.

    Decided by the text, since tokenizers differ in what they call a word (SentencePiece counts punctuation in).
    """
    return 0 < position < len(text) and _is_of_word(text[position - 1]) and _is_of_word(text[position])


@dataclass(frozen=True)
class _Passage:
    """A tokenised passage: `[length]` each, offsets `[length, 2]`."""

    ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    may_start: NDArray[np.bool_]
    may_end: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, text: str, encoding: Encoding) -> _Passage:
        """Mark the tokens that stand for any text, and among them those that begin and end words."""
        offsets = np.fromiter(chain.from_iterable(encoding.offsets), np.int64, 2 * len(encoding)).reshape(-1, 2)
        starts, ends = offsets[:, 0], offsets[:, 1]
        inside_words = _inside_words(text)
        visible = starts < ends
        return cls(_ids(encoding), offsets, visible & ~inside_words[starts], visible & ~inside_words[ends])

    def window(self, start: int, stop: int, first: int, length: int) -> Window:
        """Place tokens `start` to `stop` at position `first` of a window of `length` tokens."""
        offsets = np.zeros((length, 2), dtype=np.int64)
        may_start, may_end = np.zeros((2, length), dtype=np.bool_)
        place, taken = slice(first, first + stop - start), slice(start, stop)
        offsets[place], may_start[place], may_end[place] = (
            self.offsets[taken],
            self.may_start[taken],
            self.may_end[taken],
        )
        return Window(offsets, may_start, may_end)


@dataclass(frozen=True)
class _Part:
    """A run of a template: special tokens, or one of the sequences (0 or 1), all of one segment."""

    sequence: int | None
    ids: NDArray[np.int64]
    token_type: int


@dataclass(frozen=True)
class _Template:
    """How a tokenizer surrounds one sequence, or two, with special tokens."""

    parts: tuple[_Part, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, pair: bool, token_types: bool) -> _Template:
        """Find a tokenizer's template by a probe: what it says of a text that has tokens."""
        words = chain(["a"], filter(None, map(tokenizer.id_to_token, range(tokenizer.get_vocab_size()))))
        probe = next((word for word in words if tokenizer.encode(word, add_special_tokens=False).ids), None)
        if probe is None:
            raise ValueError("The tokenizer finds no token in any text, not even in its own vocabulary.")
        encoding = tokenizer.encode(probe, probe if pair else None)
        types = encoding.type_ids if token_types else [0] * len(encoding)
        runs = groupby(
            zip(encoding.sequence_ids, types, encoding.ids, strict=True), key=lambda token: (token[0], token[1])
        )
        return cls(
            tuple(
                _Part(
                    sequence, np.array([token[2] for token in run] if sequence is None else [], dtype=np.int64), type_
                )
                for (sequence, type_), run in runs
            )
        )

    @property
    def added(self) -> int:
        """Number of special tokens."""
        return sum(len(part.ids) for part in self.parts)

    def passage_start(self, query_length: int) -> int:
        """Position of the second sequence's first token."""
        before = takewhile(lambda part: part.sequence != 1, self.parts)
        return sum(query_length if part.sequence == 0 else len(part.ids) for part in before)

    def fill(self, *sequences: NDArray[np.int64]) -> TokenIds:
        """Put token ids into their places."""
        runs = [part.ids if part.sequence is None else sequences[part.sequence] for part in self.parts]
        types = np.repeat([part.token_type for part in self.parts], [len(run) for run in runs])
        return TokenIds(np.concatenate(runs), types)


class _PassageCache:
    """Tokenised passages by their text, up to a number of tokens in all; the least recently used go first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._passages: OrderedDict[str, _Passage] = OrderedDict()
        self._lock = threading.Lock()

    def look_up(self, texts: Iterable[str]) -> dict[str, _Passage]:
        """Return those of the passages that are here."""
        with self._lock:
            found = {text: self._passages[text] for text in texts if text in self._passages}
            for text in found:
                self._passages.move_to_end(text)
            return found

    def add(self, passages: Mapping[str, _Passage]) -> None:
        """Keep passages, the last ones if there is not room for all, and none that would take all the room."""
        with self._lock:
            for text, passage in passages.items():
                weight = _weight(text, passage)
                if text not in self._passages and weight <= self._capacity:  # another thread may have been faster
                    self._used += weight
                    self._passages[text] = passage
            while self._used > self._capacity:
                self._used -= _weight(*self._passages.popitem(last=False))


def _weight(text: str, passage: _Passage) -> int:
    return max(len(passage), 1 + len(text) // _CHARACTERS_PER_TOKEN)


def _ids(encoding: Encoding) -> NDArray[np.int64]:
    return np.array(encoding.ids, dtype=np.int64)


def _cuts(length: int, room: int, stride: int) -> Iterator[tuple[int, int]]:
    """Cut `length` tokens into windows of at most `room` that share `stride`: from which token to which."""
    yield 0, min(room, length)
    if length > room:
        step = room - stride
        for start in range(step, length - stride, step):
            yield start, min(start + room, length)


def _tokenizable(text: str) -> str:
    """Replace lone surrogates, which no tokenizer takes, one for one, so that offsets stay true."""
    return _SURROGATE.sub("\ufffd", text)


def _inside_words(text: str) -> NDArray[np.bool_]:
    """For each position from 0 to the text's length, whether a cut there would part a word: `splits_word`, at once."""
    of_word = _WORDS.look_up(text) == 2
    inside = np.zeros(len(text) + 1, dtype=np.bool_)
    inside[1:-1] = of_word[1:] & of_word[:-1]
    return inside


def _is_of_word(character: str) -> bool:
    """Tell whether a character belongs together with its like to either side."""
    return (character.isalnum() or unicodedata.category(character).startswith("M")) and not _UNSPACED.match(character)


#: 2 for what is part of a word, 1 for what stands alone.
_WORDS = CharacterTable(lambda character: 2 if _is_of_word(character) else 1)
