"""JSON read item by item, and damaged files named with their place."""

from __future__ import annotations

import json
import re

import pytest

from training.data import json_files
from training.data.formats import read_data
from training.data.json_files import json_items
from training.errors import DataError

from .conftest import ITEM, SQUAD


class TestStream:
    def test_items_come_before_the_file_is_read_to_its_end(self, save, monkeypatch):
        monkeypatch.setattr(json_files, "_CHUNK", 8)
        items = json_items(save(b'[{"a": 1.5}, {"a": 2}, oops' + b" " * 99_999 + b"\xff"))
        assert [next(items), next(items)] == [(1, {"a": 1.5}), (2, {"a": 2})]
        with pytest.raises(DataError, match=r"item 3: not JSON \(Expecting value at 'oops"):
            next(items)

    @pytest.mark.parametrize("chunk", [1, 2, 3, 5, 8, 64])
    def test_values_are_whole_wherever_the_file_is_cut(self, save, monkeypatch, chunk):
        monkeypatch.setattr(json_files, "_CHUNK", chunk)
        values = [ITEM, 12, -1.5e-3, True, None, 'a\\"b😀\ud800]', [[], {}, "]"], {}, float("inf"), -float("inf")]
        for text in (json.dumps(values), json.dumps(values, indent=2), json.dumps(values, ensure_ascii=True, indent=0)):
            assert list(json_items(save(text.encode()))) == list(enumerate(values, start=1))
        assert list(json_items(save(b" [ ] "))) == []

    @pytest.mark.parametrize("chunk", [3, 1 << 20])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"[" + json.dumps(ITEM).encode(), r"item 1: not JSON \(Expecting ',' or '\]' at ''"),
            (json.dumps([ITEM, ITEM]).encode()[:-30], "item 2: not JSON"),
            (b'[{"a": 1} {"a": 2}]', r"item 1: not JSON \(Expecting ',' or '\]' at '{"),
            (b"[1, ]", r"item 2: not JSON \(Expecting value at '\]'"),
            (b"[", r"item 1: not JSON \(Expecting value at ''"),
            (b"[] []", r"item 0: not JSON \(Extra data at '\['"),
            (b"[" * 100_000, "item 1: not JSON .*recursion"),
            (b"[" + b"9" * 5000 + b"]", "item 1: not JSON .*digits"),
        ],
    )
    def test_damage_is_named(self, save, monkeypatch, chunk, content, message):
        monkeypatch.setattr(json_files, "_CHUNK", chunk)
        path = save(content)
        with pytest.raises(DataError, match=message) as error:
            list(json_items(path))
        assert str(path) in str(error.value)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b'[{"question": "\xff"}]', "can't be read"),
            (b'{"data": [{"title": nan}]}', r"article 1: not JSON \(Expecting value at 'nan"),
            (b'{"a":' * 100_000, "not JSON .*recursion"),
            (b"", "it begins with ''"),
            (b" \n\t ", "it begins with ''"),
            (b"title,text\n", "neither SQuAD's JSON .* it begins with 't'"),
            (b"\x89PNG\r\n", "can't be read"),
            (b"\x00" * 99, "neither SQuAD's JSON"),
        ],
    )
    def test_what_is_no_data_file(self, save, content, message):
        path = save(content)
        with pytest.raises(DataError, match=message) as error:
            read_data(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)

    def test_lines_are_named(self, save):
        path = save((json.dumps(ITEM) + "\n\n" + "{oops}\n").encode(), "data.jsonl")
        with pytest.raises(DataError, match=re.escape(f"{path}, line 3: not JSON (")):
            read_data(path)
        path = save((json.dumps(ITEM) + "\n\n" + "{}").encode(), "data.jsonl")
        with pytest.raises(DataError, match=re.escape(f"{path}, line 3: field 'question'")):
            read_data(path)

    def test_half_a_gzip(self, save):
        path = save([{**ITEM, "id": str(n), "question": str(n) * 50} for n in range(300)], "data.json.gz")
        path.write_bytes(path.read_bytes()[:600])
        with pytest.raises(DataError, match=re.escape(f"{path}: can't be read")):
            read_data(path)

    def test_byte_order_mark_and_white_space(self, save):
        for value in ([ITEM], SQUAD):
            assert read_data(save(b"\xef\xbb\xbf \r\n" + json.dumps(value).encode())).questions
