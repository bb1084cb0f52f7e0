"""The verdict on a surrogate: what it is good for, what not, why, and what to do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from .criteria import CRITERIA, FAIR, GOOD, POOR, UNMEASURED, WORSE, Criterion
from .figures import CheckFigures, Figures, VerdictFigures

FIT, LIMITED, UNFIT, UNKNOWN = "fit", "limited", "unfit", "unknown"
"""The verdict in a word."""
_HEADLINES = {
    FIT: "fit for use",
    LIMITED: "fit for some uses, not for all",
    UNFIT: "UNFIT, do not train with it",
    UNKNOWN: "none, since nothing was measured that tells",
}
_FLAT = "gradient steps do nothing: its gradient is 0"
_CORE = ("values", "descent", "descent from noise")
"""Criteria in which it has to be good to be fit."""
_FEW = 30
"""Fields below which an R2 is mostly chance."""
_NAMED = 4
"""Most outputs or data sets that a phrase names."""


def verdict(
    figures: Figures,
    *,
    trained: bool | None = None,
    relaxable: bool | None = None,
    tempered: bool | None = None,
) -> VerdictFigures:
    """Judge a surrogate by its figures.

    Args:
        figures: of an evaluation; what was not measured may be missing.
        trained: whether the surrogate has weights; None if not known. Advice depends on it.
        relaxable: whether its metric has a relaxation, which needs no training; None if not known.
        tempered: whether it has a temperature that can be set; None if not known.

    Returns:
        JSON-able, see `VerdictFigures`.
    """
    checks: list[CheckFigures] = [
        {"criterion": criterion.name, "of": of, "value": value, "grade": criterion.grade(value)}
        for criterion in CRITERIA
        for of, value in criterion.read(figures).items()
    ]
    good, fair, poor, bad, unmeasured = (
        list(_phrases(checks, grades)) for grades in ((GOOD,), (FAIR,), (POOR,), (POOR, WORSE), (UNMEASURED,))
    )
    flat = _flat(figures)
    fit = _fit(checks, flat)
    harms = [*([_FLAT] if flat else []), *_phrases(checks, (WORSE,), harm=True)]
    return {
        "fit": fit,
        "why": [*harms, *poor] if fit == UNFIT else harms or poor or fair,
        "good_for": good,
        "fair_for": fair,
        "not_for": bad,
        "not_measured": unmeasured,
        "advice": list(_advice(checks, figures, trained, relaxable, tempered)),
        "checks": checks,
    }


def headline(found: VerdictFigures) -> str:
    """A verdict in one line."""
    why = "; ".join(found["why"]) if found["fit"] in (LIMITED, UNFIT) else ""
    return f"{_HEADLINES[found['fit']]}{': ' if why else ''}{why}"


def paragraphs(found: VerdictFigures) -> Iterator[tuple[str, str]]:
    """A verdict at length: what stands before each paragraph, and its text."""
    yield "Verdict", headline(found)
    for label, phrases in (
        ("good for", found["good_for"]),
        ("fair for", found["fair_for"]),
        ("not for", found["not_for"]),
        ("unmeasured", found["not_measured"]),
        ("what to do", found["advice"]),
    ):
        if phrases:
            yield label, "; ".join(phrases)


def _fit(checks: Sequence[CheckFigures], flat: bool) -> str:
    """The verdict in a word; flat: see `_flat`."""
    grades = {name: [c["grade"] for c in checks if c["criterion"] == name] for name in _CORE}
    values = {*grades["values"]} - {UNMEASURED}
    # The first grade of a descent is that of all outputs together.
    descent, noisy = (grades[name][0] for name in _CORE[1:])
    nothing_learnt = WORSE in values and not values & {GOOD, FAIR}
    if (flat and values) or descent == WORSE or values == {WORSE}:
        return UNFIT
    if nothing_learnt and descent not in (GOOD, FAIR):
        return UNFIT
    core = {*values, descent, noisy} - {UNMEASURED}
    if not core:
        return UNKNOWN
    if descent != UNMEASURED and not core & {GOOD, FAIR}:
        return UNFIT
    harmful = any(check["grade"] in (POOR, WORSE) for check in checks)
    return FIT if core == {GOOD} and not harmful else LIMITED


def _flat(figures: Figures) -> bool:
    """Whether gradients were looked at, and are 0 everywhere."""
    return "gradients" in figures and figures["gradients"]["sizes"]["norm"]["max"] == 0


def _phrases(checks: Sequence[CheckFigures], grades: Collection[str], *, harm: bool = False) -> Iterator[str]:
    """What a surrogate is of such grades in, a phrase for each criterion."""
    for criterion in CRITERIA:
        found = [check for check in checks if check["criterion"] == criterion.name]
        members = [check for check in _told(found) if check["grade"] in grades]
        if members:
            purpose = criterion.harm if harm else criterion.purpose
            yield purpose + _within(criterion, members, len(found))


def _told(found: list[CheckFigures]) -> list[CheckFigures]:
    """Of a criterion with a value for the whole, that one, and what does worse than nothing beside it."""
    whole = found[0]
    if whole["of"]:
        return found
    return [whole, *(check for check in found[1:] if check["grade"] == WORSE != whole["grade"])]


def _within(criterion: Criterion, members: Sequence[CheckFigures], count: int) -> str:
    """Which outputs or data sets are meant, and the value that is furthest down among them, in brackets."""
    names = [check["of"] for check in members if check["of"]]
    if len(names) == count and count > _NAMED:
        names = ["all"]
    named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    parts = [check for check in members if check["of"]] or members
    values = [check["value"] for check in parts if check["value"] is not None]
    if not values or members[0]["grade"] == UNMEASURED:
        return f" ({named})" if named else ""
    whole = members[0]["value"] if len(parts) < len(members) else None
    of_whole = "" if whole is None else f"{criterion.text(whole)}; "
    least = min(values) if criterion.rising else max(values)
    at_worst = "at worst " if len(values) > 1 else ""
    return f" ({of_whole}{named}{': ' if named else ''}{at_worst}{criterion.text(least)})"


def _advice(
    checks: Sequence[CheckFigures],
    figures: Figures,
    trained: bool | None,
    relaxable: bool | None,
    tempered: bool | None,
) -> Iterator[str]:
    """What to do about it, the most useful first."""
    bad = {check["criterion"] for check in checks if check["grade"] in (POOR, WORSE)}
    unmeasured = {check["criterion"] for check in checks if check["grade"] == UNMEASURED and not check["of"]}
    low = [c["of"] for c in checks if c["criterion"] == "values" and c["grade"] in (POOR, WORSE)]
    outputs = [c["of"] for c in checks if c["criterion"] == "values"]
    fields = figures["fidelity"]["fields"]
    if _flat(figures) and {c["grade"] for c in checks if c["criterion"] == "values"} == {UNMEASURED}:
        yield "give fields in which the metric varies: in these it hardly does"
    if trained and relaxable and bad & {"values", "descent", "gradient"}:
        yield "take a relaxation of its metric (excursion, or relaxed), which needs no training"
    if trained and bad & {"descent", "descent from noise"}:
        yield (
            "let the exact metric tell where it leads: as_loss(live=True), which goes on learning beside the "
            'model, or as_loss(forward="exact", slopes="checked")'
        )
    if bad & {"values", "descent", "gradient"}:
        if trained is not False:
            yield "train for longer, or on more fields"
        if trained is not True and tempered is not False:
            yield (
                "set another temperature (of excursion that of the gradient alone; its values are exact): a "
                "lower one follows values more closely, a higher one gives more pixels a gradient"
            )
    if low and len(low) < len(outputs):
        yield f"leave out {', '.join(low[:_NAMED])}"
    if "worst threshold" in bad:
        yield "give more fields that reach the worst thresholds, or leave these out"
    if "descent from noise" in bad:
        hot = "" if tempered is False else ", or with it at a high temperature,"
        yield f"begin a training without it{hot} until predictions are smooth"
    if "constraints" in bad:
        yield "take the architecture constrained, whose outputs obey them"
    if "shift" in bad:
        yield "train on such data, too, before it is used on them"
    if fields < _FEW:
        yield f"evaluate on more than {fields} fields: of so few, an R2 is mostly chance"
    if "descent" in unmeasured and "descent" not in figures:
        yield "measure what gradient steps do, by emuloss evaluate without --quick"
