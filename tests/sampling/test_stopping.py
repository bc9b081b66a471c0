"""Stop rules against what any and all of their answers say."""

from __future__ import annotations

from functools import reduce
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import BadConfig
from emulator.sampling.estimate import Estimate
from emulator.sampling.stopping import (
    Standing,
    StopRule,
    ci_half_width,
    max_time,
    max_trials,
    min_critical,
)

RULES = st.recursive(
    st.integers(1, 5000).map(max_trials)
    | st.floats(0.001, 0.3).map(ci_half_width)
    | st.floats(1, 100).map(max_time)
    | st.integers(1, 50).map(min_critical),
    lambda inner: st.tuples(inner, inner, st.booleans()).map(lambda t: t[0] | t[1] if t[2] else t[0] & t[1]),
    max_leaves=6,
)


def reached(trials: int = 0, critical: int = 0, seconds: float = 0.0, half_width: float = 0.5) -> Standing:
    estimate = Estimate(
        value=0.0, low=0.0, high=2 * half_width, confidence=0.95, n=10, ess=10.0, method="test"
    )
    return Standing(trials=trials, critical=critical, seconds=seconds, estimate=estimate)


STANDINGS = st.builds(reached, st.integers(0, 6000), st.integers(0, 60), st.floats(0, 120), st.floats(0, 0.4))


@given(rules=st.lists(RULES, min_size=2, max_size=4), standing=STANDINGS)
def test_rules_combine_as_any_and_all(rules: list[StopRule], standing: Standing) -> None:
    found = [rule.met(standing) for rule in rules]
    assert reduce(StopRule.__or__, rules).met(standing) == any(found)
    assert reduce(StopRule.__and__, rules).met(standing) == all(found)


@given(rule=RULES)
def test_a_limit_is_where_a_rule_stops_whatever_it_finds(rule: StopRule) -> None:
    limit = rule.limit()
    if limit is not None:
        assert rule.met(reached(limit))
        assert not rule.met(reached(limit - 1))
    else:
        assert not rule.met(reached(10**12))


@given(rule=RULES, standing=STANDINGS)
def test_a_rule_once_met_stays_met(rule: StopRule, standing: Standing) -> None:
    if rule.met(standing):
        narrower = standing.estimate.half_width / 2
        assert rule.met(reached(standing.trials + 1, standing.critical + 1, standing.seconds + 1, narrower))


@pytest.mark.parametrize(
    ("rule", "short", "enough"),
    [
        (max_trials(5), reached(trials=4), reached(trials=5)),
        (ci_half_width(0.01), reached(half_width=0.0101), reached(half_width=0.01)),
        (max_time(60), reached(seconds=59.9), reached(seconds=60)),
        (min_critical(3), reached(critical=2), reached(critical=3)),
    ],
    ids=str,
)
def test_a_rule_asks_for_one_thing(rule: StopRule, short: Standing, enough: Standing) -> None:
    assert not rule.met(short)
    assert rule.met(enough)


def test_rules_that_depend_on_outcomes_say_so_however_deep_they_are() -> None:
    blind, seeing = max_trials(9) & max_time(3), (ci_half_width(0.1), min_critical(4))
    assert not blind.looks
    for rule in seeing:
        assert rule.looks
        assert (blind | (max_time(2) & rule)).looks
        assert (max_trials(1) & (rule | max_time(2))).looks


def test_only_rules_on_critical_faults_count_them() -> None:
    assert not (max_trials(9) & max_time(3) | ci_half_width(0.1)).counts_critical
    assert (max_trials(9) | (ci_half_width(0.1) & min_critical(4))).counts_critical


def test_what_ended_a_campaign_is_the_part_that_is_met() -> None:
    timed, narrow = max_time(4), ci_half_width(0.001)
    slow = reached(trials=1, seconds=5, half_width=0.01)
    assert (narrow | timed).ended_by(slow) == timed
    assert (max_trials(9) | (timed & max_trials(1)) | narrow).ended_by(slow) == timed & max_trials(1)
    assert (narrow | timed).ended_by(reached(seconds=5, half_width=0.001)) == narrow


def test_rules_read_as_they_combine() -> None:
    rule = max_trials(20_000) | (ci_half_width(0.002) & max_time(60)) | min_critical(5)
    assert str(rule) == "20,000 trials or (half-width 0.2 % and max time 60 s) or 5 critical faults"
    assert (
        str((max_trials(1) | max_time(2)) & min_critical(3))
        == "(1 trials or max time 2 s) and 3 critical faults"
    )


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (max_trials, 0),
        (ci_half_width, 0.0),
        (ci_half_width, 0.5),
        (max_time, 0),
        (max_time, inf),
        (max_time, nan),
        (min_critical, 0),
    ],
)
def test_rules_that_never_or_always_stop_are_refused(rule: Any, value: float) -> None:
    with pytest.raises(BadConfig, match="allowed"):
        rule(value)
