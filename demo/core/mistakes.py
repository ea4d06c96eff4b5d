"""Answers of an evaluation that are not right, and in what way."""

from collections.abc import Mapping, Sequence

from demo.core.evaluating import Outcome, Run

NOT_FOUND = "No passage with the answer"
WITHHELD = "Not answered"
INVENTED = "Answered, though there is no answer"
PARTLY = "Partly right"
OTHER_WORDS = "Wrong words"
#: Ways of not being right, in the order in which they are looked for.
KINDS = (NOT_FOUND, WITHHELD, INVENTED, OTHER_WORDS, PARTLY)


def mistakes(run: Run) -> Mapping[str, Sequence[Outcome]]:
    """Sort what is no exact match by how it went wrong.

    Args:
        run: An evaluation.

    Returns:
        By kind, the outcomes, worst first, and of equals the surest first. Kinds that don't occur are left out.
    """
    wrong = [outcome for outcome in run.outcomes if not outcome.final_exact_match]
    wrong.sort(key=lambda outcome: (outcome.final_f1, -outcome.score))
    kinds = {outcome: _kind(outcome, run) for outcome in wrong}
    sorted_by_kind = {kind: [outcome for outcome in wrong if kinds[outcome] == kind] for kind in KINDS}
    return {kind: found for kind, found in sorted_by_kind.items() if found}


def _kind(outcome: Outcome, run: Run) -> str:
    if not outcome.answerable:
        return INVENTED
    if outcome.final_f1 > 0:
        return PARTLY
    if run.place == "documents" and outcome.rank is None:
        return NOT_FOUND
    return OTHER_WORDS if outcome.answered else WITHHELD
