"""The gate, check by check: what each lets through and what it stops, for its own reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stored_evaluations import stored_evaluation

from pipeline.errors import UsageError
from pipeline.evaluation.gate_checks import ChampionOptions, Decision, Gate
from pipeline.evaluation.promotion_gate import Candidate, decide
from pipeline.evaluation.significance import compare

GATE = Gate()
N = 300


def values(rng: np.random.Generator, mean: float = 0.3, n: int = N) -> np.ndarray:
    return np.clip(rng.normal(mean, 0.1, n), 0, 1)


def failed(decision: Decision) -> list[str]:
    return [check.name for check in decision.failed]


def test_the_first_champion_has_to_beat_popular_and_nothing_else(rng):
    decision = decide(Candidate(stored_evaluation(values(rng))), None, GATE)
    assert decision.promote
    assert [check.name for check in decision.checks] == [
        "artifacts verified",
        "fitted to its end",
        "better than popular",
    ]
    assert "on 300 users, lift +19" in decision.checks[2].sentence


@pytest.mark.parametrize(
    ("popular", "said"), [(0.35, "not better than popular: "), (0.3, "unclear whether better than popular: ")]
)
def test_not_better_than_popular(rng, popular, said):
    decision = decide(Candidate(stored_evaluation(values(rng), values(rng, popular))), None, GATE)
    assert failed(decision) == ["better than popular"]
    assert decision.failed[0].sentence.startswith(said)


def test_lists_of_held_out_items_alone_say_nothing_of_what_is_published(rng):
    decision = decide(Candidate(stored_evaluation(values(rng, 0.5), 0.0, name="items")), None, GATE)
    assert failed(decision) == ["better than popular"]
    assert "train with another --split" in decision.checks[-1].sentence


def test_what_tags_claim_is_recomputed_and_no_evaluated_user_is_no_yes():
    decision = decide(Candidate(stored_evaluation(np.full(50, np.nan))), None, GATE)
    assert failed(decision) == ["better than popular"]
    assert "No user has a value" in decision.failed[0].sentence


def test_damaged_artifacts_a_rollback_and_no_evaluation(rng):
    evaluation = stored_evaluation(values(rng))
    assert failed(decide(Candidate(evaluation, fault="seen.npz is missing"), None, GATE)) == ["artifacts verified"]
    assert failed(decide(Candidate(evaluation, rolled_back="on Monday"), None, GATE)) == ["not rolled back"]
    decision = decide(Candidate(None), evaluation, GATE, reigning="rankline/1")
    assert failed(decision) == ["evaluated"]
    assert "trained before runs were evaluated" in decision.failed[0].sentence
    assert "train again" in decision.failed[0].sentence


def test_a_fit_that_was_cut_short_does_not_pass(rng):
    decision = decide(Candidate(stored_evaluation(values(rng)), interrupted="holdout's fit, fit"), None, GATE)
    assert failed(decision) == ["fitted to its end"]
    assert decision.failed[0].sentence.startswith("cut short: Ctrl-C ended the holdout's fit and the fit (--on-inter")
    assert "NO · cut short" in decision.reasons[1]
    whole = decide(Candidate(stored_evaluation(values(rng))), None, GATE)
    assert whole.reasons[1] == "ok · fitted to its end: Ctrl-C cut no fit of its training short"


def test_a_champion_that_was_never_evaluated_is_nothing_to_compare_with(rng):
    decision = decide(Candidate(stored_evaluation(values(rng))), None, GATE, reigning="rankline/1")
    assert failed(decision) == ["not worse than the champion"]
    assert "rankline/1, the champion, was trained before runs were evaluated" in decision.failed[0].sentence


def test_the_same_and_a_better_one_pass(rng):
    base = values(rng)
    for change in (0.0, 0.02):
        decision = decide(
            Candidate(stored_evaluation(base + change)), stored_evaluation(base, label="rankline/1"), GATE
        )
        assert decision.promote, decision.reasons
        assert [check.name for check in decision.checks][3:] == [
            "same split",
            "not worse than the champion",
            "no segment collapses",
        ]


def test_worse_unclear_and_probably_worse_do_not_pass(rng):
    base = values(rng)
    champion = stored_evaluation(base, label="rankline/1")
    worse = decide(Candidate(stored_evaluation(base - 0.05)), champion, GATE)
    assert failed(worse) == ["not worse than the champion"]
    assert worse.failed[0].sentence.startswith("worse than the champion: ")
    noise = rng.normal(0, 0.5, N)
    noise -= noise.mean()
    unclear = decide(Candidate(stored_evaluation(base + noise)), champion, GATE)
    assert failed(unclear) == ["not worse than the champion"]
    assert unclear.failed[0].sentence.startswith("unclear whether worse than the champion: ")
    probably = decide(Candidate(stored_evaluation(base - 0.02 + noise)), champion, GATE)
    assert probably.failed[0].sentence.startswith("probably worse than the champion: ")


def test_an_unclear_one_says_which_margin_and_how_many_users_would_do(rng):
    base = values(rng)
    noise = rng.normal(0, 0.5, N)
    noise -= noise.mean()
    sentence = decide(Candidate(stored_evaluation(base + noise)), stored_evaluation(base), GATE).failed[0].sentence
    margin = float(sentence.rsplit("--margin ", 1)[1])
    needed = int(sentence.split("some ")[1].split(" users")[0].replace(",", ""))
    assert decide(Candidate(stored_evaluation(base + noise)), stored_evaluation(base), Gate(margin=margin)).promote
    assert not decide(
        Candidate(stored_evaluation(base + noise)), stored_evaluation(base), Gate(margin=margin - 0.002)
    ).promote
    times = -(-needed // N)
    many = stored_evaluation(np.tile(base + noise, times)), stored_evaluation(np.tile(base, times))
    assert decide(Candidate(many[0]), many[1], GATE).promote
    fewer = max(1, times // 2)
    few = stored_evaluation(np.tile(base + noise, fewer)), stored_evaluation(np.tile(base, fewer))
    assert not decide(Candidate(few[0]), few[1], GATE).promote


def test_the_margin_is_a_share_of_the_champions_mean(rng):
    base = values(rng)
    for loss, margin, passes in ((0.01, 0.05, True), (0.01, 0.03, False), (0.03, 0.09, False), (0.03, 0.11, True)):
        decision = decide(Candidate(stored_evaluation(base - loss)), stored_evaluation(base), Gate(margin=margin))
        # A loss that is the same for everybody has no spread: 0.01 of 0.3 is 3.3 %, 0.03 is 10 %.
        assert decision.promote is passes, (loss, margin, decision.reasons)


@given(st.integers(0, 10_000), st.floats(-0.1, 0.1), st.floats(0.001, 0.2), st.floats(0, 0.3), st.integers(40, 200))
def test_the_rule_on_the_same_split_is_the_low_end_against_the_margin(seed, change, spread, margin, n):
    rng = np.random.default_rng(seed)
    base = values(rng, n=n)
    other = base + rng.normal(change, spread, n)
    decision = decide(Candidate(stored_evaluation(other)), stored_evaluation(base), Gate(margin=margin))
    check = next(check for check in decision.checks if check.name == "not worse than the champion")
    assert check.passed == (compare(base, other).difference.low >= -margin * base.mean())


def test_a_wider_margin_never_refuses_what_a_narrower_one_lets_pass(rng):
    base = values(rng)
    other = base + rng.normal(0, 0.1, N)
    passed = [
        decide(Candidate(stored_evaluation(other)), stored_evaluation(base), Gate(margin=m)).promote
        for m in np.linspace(0, 0.5, 26)
    ]
    assert passed == sorted(passed)
    assert {False, True} == set(passed)


def test_a_segment_that_collapses_stops_what_is_better_on_average(rng):
    base, segment = values(rng), np.arange(N) % 3
    other = np.where(segment == 2, base * 0.7, base * 1.3)
    decision = decide(Candidate(stored_evaluation(other)), stored_evaluation(base), GATE)
    assert failed(decision) == ["no segment collapses"]
    assert decision.failed[0].sentence.startswith("a segment collapses: hot -30.0% ")
    assert decide(Candidate(stored_evaluation(other)), stored_evaluation(base), Gate(segment_margin=0.4)).promote
    # Too few to tell, or within the margin: no collapse.
    few = np.where(np.arange(N) < 29, 2, np.arange(N) % 2)
    other = np.where(few == 2, base * 0.3, base * 1.1)
    assert decide(Candidate(stored_evaluation(other, segment=few)), stored_evaluation(base, segment=few), GATE).promote
    few[29] = 2
    other = np.where(few == 2, base * 0.3, base * 1.1)
    assert failed(
        decide(Candidate(stored_evaluation(other, segment=few)), stored_evaluation(base, segment=few), GATE)
    ) == ["no segment collapses"]
    gentle = np.where(segment == 2, base * 0.85, base * 1.3)
    assert decide(Candidate(stored_evaluation(gentle)), stored_evaluation(base), GATE).promote


def test_a_fall_that_may_be_luck_is_no_collapse(rng):
    base, segment = values(rng, n=120), np.arange(120) % 3
    noise = rng.normal(0, 0.9, 120)
    noise -= noise[segment == 2].mean() + 0.08
    other = np.where(segment == 2, base + noise, base + 0.3)
    decision = decide(Candidate(stored_evaluation(other)), stored_evaluation(base), GATE)
    assert decision.promote, decision.reasons


@pytest.mark.parametrize(
    "how", [{"name": "random"}, {"params": {"share": 0.1, "seed": 42}}, {"params": {"share": 0.2, "seed": 7}}]
)
@pytest.mark.parametrize("data", ["d" * 64, "e" * 64])
def test_another_kind_of_split_is_nothing_to_compare(rng, how, data):
    base = values(rng)
    decision = decide(
        Candidate(stored_evaluation(base, **how, data=data, split="6" * 64)), stored_evaluation(base), GATE
    )
    assert failed(decision) == ["same split"]
    assert "was evaluated on" in decision.failed[0].sentence


def test_other_interactions_held_out_of_the_same_data(rng):
    base = values(rng)
    decision = decide(Candidate(stored_evaluation(base, split="6" * 64)), stored_evaluation(base), GATE)
    assert failed(decision) == ["same split"]
    assert "66666666" in decision.failed[0].sentence
    # A cut in time moves with the data, and only with them.
    before, after = ({"cutoff": f"2026-01-0{day}"} for day in (1, 2))
    old = stored_evaluation(base, name="time", params=before)
    for data, passes in (("e" * 64, True), ("d" * 64, False)):
        new = stored_evaluation(base, name="time", params=after, data=data, split="6" * 64)
        decision = decide(Candidate(new), old, GATE)
        assert decision.promote is passes
        assert passes or "cutoff 2026-01-02" in decision.failed[0].sentence


def other_data(ndcg, popular=0.1, **how):
    return stored_evaluation(ndcg, popular, data="e" * 64, split="6" * 64, **how)


def test_on_other_data_what_counts_is_what_each_has_more_than_popular(rng):
    base = values(rng)
    champion = stored_evaluation(base)
    # Everything got harder by the same: as good as before.
    harder = decide(Candidate(other_data(base - 0.08, 0.02)), champion, GATE)
    assert harder.promote, harder.reasons
    assert "user by user" in harder.checks[3].sentence
    # The numbers stayed, but popular got better: worse.
    worse = decide(Candidate(other_data(base, 0.15)), champion, GATE)
    assert failed(worse) == ["not worse than the champion"]
    assert worse.failed[0].sentence.startswith("worse than the champion: ")
    # Too little to tell is no reason to keep a model of older data.
    noise = rng.normal(0, 0.5, N)
    noise -= noise.mean()
    unclear = decide(Candidate(other_data(base + noise)), champion, GATE)
    assert unclear.promote
    assert "not shown to be worse" in unclear.checks[4].sentence
    # A loss beyond the margin that may be luck.
    assert decide(Candidate(other_data(base - 0.02 + noise)), champion, Gate(segment_margin=0.9)).promote


def test_on_other_data_the_loss_must_be_beyond_the_margin_too(rng):
    base = values(rng)
    for loss, passes in ((0.01, True), (0.02, False)):
        assert decide(Candidate(other_data(base - loss)), stored_evaluation(base), GATE).promote is passes


def test_on_other_data_a_segment_may_not_collapse_either(rng):
    base, segment = values(rng), np.arange(N) % 3
    other = np.where(segment == 0, base - 0.1, base + 0.1)
    assert failed(decide(Candidate(other_data(other)), stored_evaluation(base), GATE)) == ["no segment collapses"]


def test_on_other_data_users_are_paired_by_id_and_few_are_too_few(rng):
    base = values(rng)
    # The same users in another place, among new ones who are worse: only those in both are compared.
    users = np.concatenate([np.arange(N) - 10_000, np.arange(N)])
    many = other_data(np.concatenate([np.full(N, 0.15), base]), users=users)
    assert decide(Candidate(many), stored_evaluation(base), GATE).promote
    strangers = other_data(base, users=np.arange(N) + N - 29)
    decision = decide(Candidate(strangers), stored_evaluation(base), GATE)
    assert failed(decision) == ["not worse than the champion"]
    assert "only 29 users were evaluated for both" in decision.failed[0].sentence
    assert (
        decide(Candidate(other_data(np.roll(base, 30), users=np.arange(N) + N - 30)), stored_evaluation(base), GATE)
        .checks[4]
        .passed
    )
    text = other_data(base, users=np.arange(N).astype(str))
    assert "only 0 users" in decide(Candidate(text), stored_evaluation(base), GATE).failed[0].sentence


# ---- the champion's options on the version's own holdout ------------------------------------------------

SAME, MEASURED = ChampionOptions(same=True, days_newer=1.0), ChampionOptions(measured=True, days_newer=1.0)


def beside(ndcg, of_champion, popular=0.1, **how):
    """An evaluation on other data, with the values of the champion's options."""
    own = other_data(ndcg, popular, **how)
    return replace(own, columns={**own.columns, "champion_ndcg_at_10": np.asarray(of_champion, float)})


def test_same_options_and_newer_data_pass_in_a_market_that_drifts(rng):
    base = values(rng)
    champion, candidate = stored_evaluation(base), Candidate(other_data(base, 0.15))
    decision = decide(candidate, champion, GATE, options=SAME)
    assert decision.promote, decision.reasons
    names = ["same split", "not worse than the champion", "no sudden fall"]
    assert [check.name for check in decision.checks][3:] == names
    assert decision.checks[4].sentence.startswith("same options as the champion, newer data")
    # Without knowing the options, or of data that is older, what each has over most popular decides.
    for options in (ChampionOptions(days_newer=1.0), replace(SAME, days_newer=-0.1), replace(SAME, days_newer=None)):
        assert failed(decide(candidate, champion, GATE, options=options)) == ["not worse than the champion"]
    # They need no evaluation of the champion, and no version of the same options is better than popular by them.
    assert decide(candidate, None, GATE, reigning="rankline/1", options=SAME).promote
    low = Candidate(other_data(base, 0.3))
    assert failed(decide(low, None, GATE, reigning="rankline/1", options=SAME)) == ["better than popular"]
    # Another kind of split is no obstacle: the holdout is the version's own.
    assert decide(Candidate(other_data(base, name="random")), champion, GATE, options=SAME).promote


def test_what_is_lost_at_once_is_not_the_market(rng):
    base = values(rng)
    for popular, days, passes in ((0.15, 1.0, True), (0.19, 1.0, False), (0.19, 8.5, True)):
        options = replace(SAME, days_newer=days)
        decision = decide(Candidate(other_data(base, popular)), stored_evaluation(base), GATE, options=options)
        assert decision.promote is passes, decision.reasons
        assert passes or failed(decision) == ["no sudden fall"]
    assert decision.checks[-1].name == "not worse than the champion"  # after eight days nothing is sudden


def test_newer_data_that_makes_the_model_worse_is_stopped(rng):
    base = values(rng)
    before, newcomers = base.copy(), np.arange(N) >= N - 20
    before[newcomers] = np.nan  # the champion did not know them
    options, champion = replace(SAME, before=True), stored_evaluation(base, 0.9)
    for loss, passes in ((0.0, True), (0.01, True), (0.03, False)):  # 0.015 is the margin
        own = other_data(np.where(newcomers, 0.0, base - loss), 0.05)
        known = replace(own, columns={**own.columns, "champion_before_ndcg_at_10": before})
        decision = decide(Candidate(known), champion, GATE, options=options)
        assert decision.promote is passes, decision.reasons
        assert decision.checks[-1].name == "newer data does no harm"
        # Of a version of other options, the champion's options are what the newer data makes worse or not.
        columns = {**known.columns, "champion_ndcg_at_10": known.metric("ndcg_at_10"), "ndcg_at_10": base}
        other = decide(
            Candidate(replace(known, columns=columns)), champion, GATE, options=replace(MEASURED, before=True)
        )
        assert [check.passed for check in other.checks if check.name == "newer data does no harm"] == [passes]
    # A loss that may be luck does not stop it.
    noise = rng.normal(0, 0.9, N)
    noise[~newcomers] -= noise[~newcomers].mean() + 0.02
    lucky = replace(
        known, columns={**known.columns, "ndcg_at_10": base + noise, "popular_ndcg_at_10": base + noise - 0.2}
    )
    assert decide(Candidate(lucky), champion, GATE, options=options).promote


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(-0.1, 0.1), st.floats(0.001, 0.5), st.floats(0, 0.3), st.integers(20, 200))
def test_other_options_on_newer_data_fail_where_the_loss_is_beyond_the_margin(seed, change, spread, margin, n):
    rng = np.random.default_rng(seed)
    base = values(rng, n=n)
    other = base + rng.normal(change, spread, n)
    champion = stored_evaluation(base[::-1], 0.9)  # its own split says nothing
    decision = decide(Candidate(beside(other, base)), champion, Gate(margin=margin), options=MEASURED)
    check = next(check for check in decision.checks if check.name == "not worse than the champion")
    value, low, _ = compare(base, other).difference
    bound = -margin * base.mean()
    assert check.passed == (low >= bound or (n >= 30 and value > bound))
    assert ("not shown to be worse, and of newer data" in check.sentence) == (check.passed and low < bound)


def test_other_options_on_newer_data_by_segment_and_with_nobody(rng):
    base, segment = values(rng), np.arange(N) % 3
    other = np.where(segment == 2, base * 0.7, base * 1.3)
    decision = decide(Candidate(beside(other, base)), stored_evaluation(base), GATE, options=MEASURED)
    assert failed(decision) == ["no segment collapses"]
    nobody = beside(base, np.full(N, np.nan))
    decision = decide(Candidate(nobody), None, GATE, reigning="rankline/1", options=MEASURED)
    assert decision.failed[0].sentence == "nothing to compare: no user has a value of both"
    # On the same held-out interactions the champion itself is there to be compared with.
    same = replace(beside(base - 0.1, base - 0.1), data_digest="d" * 64, split_digest="5" * 64)
    assert decide(Candidate(same), stored_evaluation(base), GATE, options=MEASURED).promote is False


def test_reasons_are_lines_that_say_how_each_went(rng):
    base = values(rng)
    decision = decide(Candidate(stored_evaluation(base - 0.1)), stored_evaluation(base), GATE)
    assert [reason[:5] for reason in decision.reasons] == [*["ok · "] * 4, "NO · ", "NO · "]
    assert all("\n" not in reason for reason in decision.reasons)


@pytest.mark.parametrize(
    ("name", "value"), [("margin", -0.1), ("margin", 1.0), ("margin", float("nan")), ("segment_margin", 2)]
)
def test_a_margin_that_makes_no_sense(name, value):
    with pytest.raises(UsageError, match=f"{name} must be (at least 0 and below 1|finite)"):
        Gate(**{name: value})


def test_a_metric_that_is_not_there(rng):
    with pytest.raises(UsageError, match=r"no metric 'ndgc'.*it has ndcg_at_10"):
        decide(Candidate(stored_evaluation(values(rng))), None, Gate(metric="ndgc"))


def test_a_champion_that_finds_nothing_is_not_divided_by(rng):
    zero = np.zeros(N)
    assert decide(Candidate(stored_evaluation(values(rng))), stored_evaluation(zero), GATE).promote


def test_a_list_that_is_the_same_for_everybody_becomes_champion_by_force_alone(rng):
    better = stored_evaluation(values(rng))
    assert decide(Candidate(better), None, GATE).promote
    decision = decide(Candidate(better, impersonal="recently popular"), None, GATE)
    assert failed(decision) == ["a list of their own for every user"]
    assert decision.failed[0].sentence.startswith("recently popular gives everybody the same list")
    assert "--force" in decision.failed[0].sentence
