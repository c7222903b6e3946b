"""What the report and the contact sheets of an audit say alike."""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.auditing.findings import (
    TRAIN_SHARE,
    Audit,
    Case,
    Finding,
    SourceFacts,
    Spread,
    count_photos,
)
from trainer.rendering import many, number, percent, plain

SHOWN_CASES = 60  # of a finding, in the report and on contact sheets
SHOWN_PHOTOS = 6  # of a case there

_UNEVEN = 10  # times as many photos from which a class is called much larger than another
_SMALL = 10  # photos below which a class is called small: one of them would be its whole test

# What would go wrong, by the kind of a finding: one photo, more photos, and what follows.
_CONSEQUENCES = {
    "conflicting_labels": (
        "photo stands",
        "photos stand",
        "under different labels: whichever label is learned, the other is marked wrong.",
    ),
    "wrong_labels": (
        "photo looks",
        "photos look",
        "like another class than the label says: where the label is wrong, so is the lesson.",
    ),
    "no_exterior": (
        "photo shows",
        "photos show",
        "no car from outside: seats, engines and dashboards would be learned as if they were cars.",
    ),
    "blacked_out": (
        "photo is",
        "photos are",
        "part of pairs, one the other with its background painted black: that adds no "
        "car, only a second chance to land on both sides of a split.",
    ),
}
# Copies are told of together, as a leak; the unreadable are counted whether listed or not.
_TOLD_OTHERWISE = {"exact_copies", "near_copies", "unreadable"}


@dataclass(frozen=True)
class Statement:
    """One thing that would go wrong: a figure and the sentence that goes on from it."""

    figure: str
    text: str


def setting(value: Any) -> str:
    """A setting as people write it: "pillow 12.3, torch 2.9" for a dictionary."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {setting(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(setting, value))
    return str(value)


def how_many_shown(finding: Finding) -> str:
    """How many of a finding's cases are shown, and where the others are."""
    if len(finding.cases) <= SHOWN_CASES:
        return f"{many(len(finding.cases), 'case')}, {many(finding.photos, 'photo')}"
    return (
        f"{SHOWN_CASES} of {len(finding.cases):,} cases shown; all are in "
        f"findings/{finding.kind}.csv"
    )


def how_many_left(case: Case) -> str:
    """How many of a case's photos are not shown; empty when all are."""
    left = len(case.photos) - SHOWN_PHOTOS
    return f"and {many(left, 'more photo')}" if left > 0 else ""


def all_together(audit: Audit) -> SourceFacts:
    """All sources counted as one: copies may lie in different sources."""
    return count_photos("all together", "", audit.photos)


def verdict(audit: Audit, together: SourceFacts) -> list[Statement]:
    """What would go wrong if one trained on the photos as they are, the worst first.

    Returns:
        Nothing when nothing would.
    """
    statements = []
    if together.repeated:
        statements.append(
            Statement(
                percent(together.leak),
                f"of the test photos of a random split ({TRAIN_SHARE:.0%} to train on) would "
                f"have a copy among the training photos: {together.repeated:,} of "
                f"{together.photos:,} photos stand "
                "more than once. Such a test measures memory.",
            )
        )
    order = [*_CONSEQUENCES, *(finding.kind for finding in audit.findings)]
    for finding in sorted(audit.findings, key=lambda finding: order.index(finding.kind)):
        if not finding.cases or finding.kind in _TOLD_OTHERWISE:
            continue
        one, more, consequence = _CONSEQUENCES.get(
            finding.kind, ("photo:", "photos:", f"{finding.title}.")
        )
        subject = one if finding.photos == 1 else more
        statements.append(Statement(f"{finding.photos:,}", f"{subject} {consequence}"))
    if together.unreadable:
        subject = "file" if together.unreadable == 1 else "files"
        statements.append(
            Statement(
                f"{together.unreadable:,}",
                f"{subject} cannot be opened: a run that does not check stops there.",
            )
        )
    return statements + _about_classes(audit.sources)


def _about_classes(sources: Sequence[SourceFacts]) -> list[Statement]:
    statements = []
    for source in sources:
        where = f" in {plain(source.name, 40)}" if len(sources) > 1 else ""
        if (source.imbalance or 0) >= _UNEVEN:
            (largest, most), (smallest, least) = (
                next(iter(source.per_class.items())),
                source.smallest(1)[0],
            )
            statements.append(
                Statement(
                    f"{number(round(source.imbalance or 0))}×",
                    f"as many photos{where} show {plain(largest, 40)} ({most:,}) as "
                    f"{plain(smallest, 40)} ({least:,}): accuracy over all photos would hide how "
                    "badly the rare classes do.",
                )
            )
        if small := sum(count < _SMALL for count in source.per_class.values()):
            subject = "class has" if small == 1 else "classes have"
            statements.append(
                Statement(
                    f"{small:,}",
                    f"{subject} fewer than {_SMALL} photos{where}: too few to test what was "
                    "learned.",
                )
            )
    return statements


def overview(sources: Sequence[SourceFacts]) -> list[tuple[str, list[str]]]:
    """The table of sources: for each fact its name and its value in every source."""

    def spread(values: Spread, written: Callable[[float], str]) -> str:
        return " – ".join(map(written, (values.least, values.median, values.most)))

    facts = {
        "Photos": [f"{source.photos:,}" for source in sources],
        "Unreadable": [f"{source.unreadable:,}" for source in sources],
        "Different photos": [f"{source.groups:,}" for source in sources],
        "Standing more than once": [f"{source.repeated:,}" for source in sources],
        "Leak of a random split": [percent(source.leak) for source in sources],
        "Classes": [f"{source.classes:,}" for source in sources],
        "Largest : smallest class": [
            "–" if source.imbalance is None else f"{source.imbalance:,.1f}" for source in sources
        ],
        "Evenness of classes": [
            "–" if source.evenness is None else f"{source.evenness:.2f}" for source in sources
        ],
        "Width, px": [spread(source.width, number) for source in sources],
        "Height, px": [spread(source.height, number) for source in sources],
        "File size": [spread(source.bytes, _size) for source in sources],
        "Formats": [_shares(source.formats) for source in sources],
        "Color modes": [_shares(source.modes) for source in sources],
    }
    return list(facts.items())


OVERVIEW_NOTE = (
    "Three numbers are the least, the median and the greatest. The leak is the share of test "
    f"photos, on average, with a copy among the training photos when {TRAIN_SHARE:.0%} of all "
    "photos are drawn at random to train on. Evenness is the entropy of the classes as a share of "
    "the most it could be: 1 when all classes are of one size."
)


def sample(audit: Audit, classes: int, photos: int) -> list[tuple[str, str, list[int]]]:
    """Draws readable photos of some classes, the same ones every time.

    Args:
        audit: its seed among the settings, 0 if it has none, decides.
        classes, photos: at most so many classes, and photos of each.

    Returns:
        Source, label and the numbers of the photos drawn, in the order of source and label.
    """
    by_class: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, photo in enumerate(audit.photos):
        if photo.readable and photo.label:
            by_class[photo.source, photo.label].append(index)
    seed = audit.settings.get("seed", 0)
    chosen = sorted(by_class)
    chosen = sorted(random.Random(f"{seed}").sample(chosen, min(classes, len(chosen))))
    drawn = []
    for source, label in chosen:
        members = by_class[source, label]
        rng = random.Random(ascii((seed, source, label)))  # a folder's name need not be text
        picks = rng.sample(members, min(photos, len(members)))
        drawn.append((source, label, sorted(picks)))
    return drawn


def _size(count: float) -> str:
    """A file's size in the unit that reads best, which no line end parts from its number."""
    if count < 1000:
        return f"{count:.0f}\u00a0B"
    return f"{count / 1000:,.0f}\u00a0kB" if count < 1e6 else f"{count / 1e6:,.1f}\u00a0MB"


def _shares(counts: dict[str, int]) -> str:
    """ "JPEG 1,200, PNG 3", the rarest left out where there are many."""
    named = [f"{plain(name, 20)} {count:,}" for name, count in counts.items()]
    return ", ".join(named[:5] + (["…"] if len(named) > 5 else [])) or "–"
