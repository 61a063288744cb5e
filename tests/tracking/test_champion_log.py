"""The history of champions, read from its log whatever the order of its lines and whatever the alias says."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.tracking.champion import ROLLED_BACK, ChampionChange, champion_history

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
MOVES = st.lists(st.one_of(st.integers(1, 5).map(str), st.just("back")), max_size=20)


@given(MOVES, st.randoms(use_true_random=False))
def test_the_log_replays_to_the_stack_it_was_written_from(moves: list[str], random) -> None:
    """Whatever the order its lines come back in."""
    stack: list[str] = []
    log: list[ChampionChange] = []
    for n, move in enumerate(moves):
        before = stack[-1] if stack else ""
        if move == "back":
            if len(stack) < 2:
                continue
            stack.pop()
            how = ROLLED_BACK
        elif move == before:
            continue  # it is the champion already
        else:
            stack.append(move)
            how = "promoted"
        log.append(ChampionChange(MOMENT + timedelta(microseconds=n), stack[-1], before, how))
    random.shuffle(log)
    assert champion_history(log, stack[-1] if stack else "") == stack


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4), st.booleans()), max_size=12), st.integers(0, 4))
def test_whatever_the_log_says_the_alias_is_on_top_and_nobody_twice_in_a_row(lines, alias) -> None:
    log = [
        ChampionChange(
            MOMENT + timedelta(seconds=n), str(version), str(before or ""), ROLLED_BACK if back else "promoted"
        )
        for n, (version, before, back) in enumerate(lines)
    ]
    history = champion_history(log, str(alias or ""))
    assert not alias or history[-1] == str(alias)
    assert all(earlier != other for earlier, other in itertools.pairwise(history))
