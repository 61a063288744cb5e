"""The gate: may this version become the champion? Plain values in, a decision with its reasons out.

The rules, and why they are so, stand in docs/promotion.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.evaluation.champion_comparison import NOT_WORSE, beside_champion
from pipeline.evaluation.gate_checks import UNKNOWN, ChampionOptions, Decision, Gate, GateCheck, shares
from pipeline.evaluation.significance import lift_over_popular
from pipeline.evaluation.storage import StoredEvaluation

__all__ = ["ARTIFACTS", "Candidate", "decide"]

ARTIFACTS = "artifacts verified"
EVALUATED = "evaluated"
FITTED = "fitted to its end"
PERSONAL = "a list of their own for every user"
NOT_ROLLED_BACK = "not rolled back"
BETTER_THAN_POPULAR = "better than popular"

_NOT_EVALUATED = "trained before runs were evaluated (or with --holdout 0)"


@dataclass(frozen=True, eq=False)
class Candidate:
    """Attributes
    ----------
    evaluation : the evaluation of its run, if any
    fault : the fault of its artifacts, "" if they load and their checksums match
    rolled_back : when and why it was rolled back as champion, "" if it never was
    interrupted : its fits that Ctrl-C ended, "" for none
    impersonal : the model's name if it gives everybody the same list, else ""
    """

    evaluation: StoredEvaluation | None
    fault: str = ""
    rolled_back: str = ""
    interrupted: str = ""
    impersonal: str = ""


def decide(
    candidate: Candidate,
    champion: StoredEvaluation | None,
    gate: Gate,
    *,
    reigning: str = "",
    lost: str = "",
    options: ChampionOptions = UNKNOWN,
) -> Decision:
    """Whether the candidate may take the champion's place.

    Parameters
    ----------
    champion : the evaluation of the champion, if any
    reigning : the champion's name, "" if there is none; then the candidate only has to beat most popular
    lost : why the champion's evaluation is not there, "" where it never had one
    options : what is known of the champion's options on the candidate's data
    """
    checks = [_whole(candidate.fault), _fitted(candidate.interrupted)]
    if candidate.impersonal:
        sentence = (
            f"{candidate.impersonal} gives everybody the same list: it becomes champion by --force --reason … alone"
        )
        checks.append(GateCheck(PERSONAL, False, sentence))
    if candidate.rolled_back:
        checks.append(GateCheck(NOT_ROLLED_BACK, False, candidate.rolled_back))
    evaluation = candidate.evaluation
    if evaluation is None:
        return Decision((*checks, GateCheck(EVALUATED, False, f"not evaluated: {_NOT_EVALUATED}; train again")))
    checks.append(_better_than_popular(evaluation, gate))
    if champion is not None or (reigning and options.on_its_holdout):
        checks += beside_champion(evaluation, champion, gate, options)
    elif reigning:
        why = (
            f"{lost}; --force --reason … takes its place" if lost else f"{reigning}, the champion, was {_NOT_EVALUATED}"
        )
        sentence = f"nothing to compare with: {why}"
        checks.append(GateCheck(NOT_WORSE, False, sentence))
    return Decision(tuple(checks))


def _whole(fault: str) -> GateCheck:
    sentence = f"damaged artifacts: {fault}" if fault else "all files load, and their checksums match"
    return GateCheck(ARTIFACTS, not fault, sentence)


def _fitted(interrupted: str) -> GateCheck:
    """A fit that Ctrl-C ended is a trial, however it ranks: it is not what the options ask for."""
    if not interrupted:
        return GateCheck(FITTED, True, "Ctrl-C cut no fit of its training short")
    return GateCheck(
        FITTED,
        False,
        f"cut short: Ctrl-C ended the {interrupted.replace(', ', ' and the ')} (--on-interrupt keep); "
        "train again, or --force --reason … to take it as it is",
    )


def _better_than_popular(evaluation: StoredEvaluation, gate: Gate) -> GateCheck:
    """The lift, computed again from each user's values, since anybody can edit a tag."""
    if evaluation.split_name == "items":
        why = "its lists were of held-out items alone, which most popular can't rank: train with another --split"
        return GateCheck(BETTER_THAN_POPULAR, False, f"not measured: {why}")
    try:
        lift_over = lift_over_popular(evaluation.metric(gate.metric), evaluation.popular(gate.metric))
    except InputError as error:
        return GateCheck(BETTER_THAN_POPULAR, False, f"nothing to compare by: {error}")
    c = lift_over.comparison
    lift = f", lift {shares(*lift_over.lift)}" if lift_over.lift is not None else ""
    word = {"yes": "", "no": "not better than popular: ", "unclear": "unclear whether better than popular: "}[
        lift_over.better_than_popular
    ]
    sentence = f"{word}{gate.metric} {c.mean_b:.4f} beside {c.mean_a:.4f} of most popular on {c.n_users:,} users{lift}"
    return GateCheck(BETTER_THAN_POPULAR, lift_over.better_than_popular == "yes", sentence)
