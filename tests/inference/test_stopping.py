"""When reading may stop: the rule itself, and where checkpoints keep it."""

from __future__ import annotations

import json
import math
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rom_haystack.inference.stopping import CALIBRATION_FILE, StoppingRule, chosen_rule, load_stopping
from rom_haystack.modeling import DEFAULT_CHECKPOINT, CheckpointError, resolve_checkpoint

LOGITS = st.floats(-50, 50)
RULES = st.builds(StoppingRule, level=LOGITS, slope=st.floats(0, 10))
RULE = StoppingRule(level=4.0, slope=2.0)
GOOD = {"passage_score_weight": 0.5, "settings": {"cautious": {"level": 5, "slope": 1.5}}}


def write(folder, stopping):
    text = stopping if isinstance(stopping, str) else json.dumps({"stopping": stopping})
    (folder / CALIBRATION_FILE).write_text(text, encoding="utf-8")


class TestRule:
    def test_bound_is_level_and_slope_times_what_is_left(self):
        assert RULE.bound(1, 10) == pytest.approx(4 + 2 * math.log(10))
        assert RULE.bound(5, 10) == pytest.approx(4 + 2 * math.log(2))
        assert RULE.bound(10, 10) == 4

    def test_settled_from_the_bound_on(self):
        bound = RULE.bound(2, 10)
        assert RULE.settled(2, 10, bound)
        assert not RULE.settled(2, 10, math.nextafter(bound, -math.inf))

    def test_nothing_settles_before_the_first_passage(self):
        assert not RULE.settled(0, 10, math.inf)

    @pytest.mark.parametrize(("read", "total"), [(3, 3), (4, 3), (0, 0)])
    def test_settled_when_none_is_left(self, read, total):
        assert RULE.settled(read, total, -math.inf)

    def test_without_an_answer_reading_goes_on(self):
        assert not StoppingRule(-1e9, 0).settled(9, 10, -math.inf)

    @given(RULES, st.integers(1, 30), st.integers(1, 30), LOGITS, st.floats(0, 50))
    def test_better_answers_and_fewer_unread_passages_settle_too(self, rule, read, more, best, better):
        total = read + more
        if rule.settled(read, total, best):
            assert rule.settled(read, total, best + better)
            assert rule.settled(read + 1, total, best)
            assert rule.settled(read, total - 1, best)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"level": math.nan}, "level is nan"),
            ({"level": math.inf}, "level is inf"),
            ({"slope": -0.1}, "slope is -0.1"),
            ({"slope": math.nan}, "slope is nan"),
            ({"slope": math.inf}, "slope is inf"),
            ({"passage_score_weight": 1.1}, "passage_score_weight is 1.1"),
            ({"passage_score_weight": math.nan}, "passage_score_weight is nan"),
        ],
    )
    def test_values_out_of_range(self, values, message):
        with pytest.raises(ValueError, match=message):
            StoppingRule(**{"level": 4.0, "slope": 1.0, **values})


class TestFile:
    def test_folder_without_calibration_has_no_rules(self, tmp_path):
        assert load_stopping(tmp_path) == {}

    def test_reads_rules_by_setting(self, tmp_path):
        settings = {**GOOD["settings"], "fast": {"level": -1.0, "slope": 0}}
        write(tmp_path, {"passage_score_weight": 0.25, "settings": settings, "measured": {"checks": []}})
        assert load_stopping(tmp_path) == {
            "cautious": StoppingRule(5.0, 1.5, passage_score_weight=0.25),
            "fast": StoppingRule(-1.0, 0.0, passage_score_weight=0.25),
        }

    @pytest.mark.parametrize(
        "damage",
        [
            "",
            "[]",
            "{}",
            '{"stopping": null}',
            {**GOOD, "passage_score_weight": None},
            {**GOOD, "passage_score_weight": 2},
            {**GOOD, "settings": [1]},
            {**GOOD, "settings": {"fast": [1, 2]}},
            {**GOOD, "settings": {"fast": {"level": 1}}},
            {**GOOD, "settings": {"fast": {"level": "1", "slope": 1}}},
            {**GOOD, "settings": {"fast": {"level": True, "slope": 1}}},
            {**GOOD, "settings": {"fast": {"level": math.nan, "slope": 1}}},
            {**GOOD, "settings": {"fast": {"level": 1, "slope": -1}}},
            {"settings": GOOD["settings"]},
        ],
        ids=str,
    )
    def test_damaged_file_is_named_with_the_remedy(self, tmp_path, damage):
        write(tmp_path, damage)
        with pytest.raises(CheckpointError) as caught:
            load_stopping(tmp_path)
        assert str(tmp_path / CALIBRATION_FILE) in str(caught.value)
        assert "python -m training calibrate" in str(caught.value)

    def test_bytes_that_are_no_text(self, tmp_path):
        (tmp_path / CALIBRATION_FILE).write_bytes(b"\xff\xfe\x00")
        with pytest.raises(CheckpointError, match="is damaged"):
            load_stopping(tmp_path)


class TestChoice:
    RULES: ClassVar = {"cautious": RULE}

    def test_off_needs_no_calibration(self):
        assert chosen_rule({}, "off", passage_score_weight=0.9) is None

    def test_takes_the_rule_of_the_setting(self):
        assert chosen_rule(self.RULES, "cautious", passage_score_weight=0.5) is RULE

    @pytest.mark.parametrize("rules", [{}, RULES])
    def test_setting_that_was_not_calibrated(self, rules):
        with pytest.raises(ValueError, match=r"'fast'.*python -m training calibrate") as caught:
            chosen_rule(rules, "fast", passage_score_weight=0.5)
        assert f"it has: {', '.join(['off', *rules])}." in str(caught.value)

    def test_other_weight_than_calibrated_with(self):
        with pytest.raises(ValueError, match=r"passage_score_weight is 0\.25.*calibrated with 0\.5"):
            chosen_rule(self.RULES, "cautious", passage_score_weight=0.25)


class TestBundledCheckpoint:
    def test_cautious_reads_at_least_as_much_as_fast(self):
        rules = load_stopping(resolve_checkpoint(DEFAULT_CHECKPOINT))
        assert sorted(rules) == ["cautious", "fast"]
        for total in (2, 5, 10, 20):
            for read in range(1, total):
                assert rules["cautious"].bound(read, total) >= rules["fast"].bound(read, total)

    def test_keeps_its_promises_on_the_questions_held_out(self):
        file = resolve_checkpoint(DEFAULT_CHECKPOINT) / CALIBRATION_FILE
        measured = json.loads(file.read_text(encoding="utf-8"))["stopping"]["measured"]
        assert measured["promises"] == {"cautious": 99.5, "fast": 97.0}
        kept = {}
        for row in measured["checks"]:  # the first check of each setting is the largest: dense retrieval, 10 passages
            if row["passages"] == 10:
                kept.setdefault(row["setting"], row["agreement"]["mean"] >= measured["promises"][row["setting"]])
        assert kept == {"cautious": True, "fast": True}
