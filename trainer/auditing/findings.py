"""What an audit of photo datasets knows: facts of photos, facts of sources, findings.

Nothing here looks at a photo. `trainer.audit` fills these in, `trainer.auditing.files` shows them.
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    """A photo as it is: one row of images_metadata.csv, whose columns are these fields in order.

    Attributes:
        source, path: which photo; `path` is relative to the source.
        label: its class, as the source calls it; empty where it has none.
        group: photos with the same group are the same photo; empty where that is not known.
        width, height, mode, format, bytes: as in the file, 0 and empty where it does not say.
        sha256, dhash: of the file's bytes and of its pixels, in hexadecimal digits.
        car: the share, 0 to 1, that an ImageNet network gives its car classes; nan when it has
            not been asked.
        seen: that network's first answer, such as "seat belt".
        flags: the kinds of the findings it is in, with a space between them.
        note: why it is unreadable; empty when it is not.
    """

    source: str
    path: str
    label: str
    group: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    bytes: int = 0
    sha256: str = ""
    dhash: str = ""
    car: float = math.nan
    seen: str = ""
    flags: str = ""
    note: str = ""

    @property
    def readable(self) -> bool:
        """Whether training can open it."""
        return not self.note


@dataclass(frozen=True, slots=True)
class Case:
    """Photos that belong together in a finding.

    Attributes:
        photos: their numbers in `Audit.photos`, one or more.
        note: what is particular to this case, such as "labeled clio, looks like symbol (0.93)".
    """

    photos: tuple[int, ...]
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """One kind of finding.

    Attributes:
        kind: its name in files: lower-case letters and underscores, such as "exact_copies".
        title: its name for people, such as "The same file more than once".
        meaning: what it is, why it matters, and what training does with it.
        cases: the most serious first.
    """

    kind: str
    title: str
    meaning: str
    cases: tuple[Case, ...] = ()

    @property
    def photos(self) -> int:
        """How many different photos are in it."""
        return len({photo for case in self.cases for photo in case.photos})


@dataclass(frozen=True)
class Spread:
    """The least, the middle and the greatest of some numbers; all 0 when there are none."""

    least: int = 0
    median: float = 0
    most: int = 0

    @classmethod
    def of(cls, numbers: Sequence[int]) -> "Spread":
        """The spread of these numbers."""
        if not numbers:
            return cls()
        return cls(min(numbers), statistics.median(numbers), max(numbers))


@dataclass(frozen=True)
class SourceFacts:
    """A source, counted. Sizes, formats and classes are those of its readable photos.

    Attributes:
        name, location: what it is called in this audit, and where it comes from.
        photos: all of them, the unreadable among them.
        unreadable: how many cannot be opened.
        groups: how many photos are left when each is counted once however often it stands there.
        repeated: how many photos share their group with another.
        leak: see `expected_leak`, for a random split that trains on four fifths.
        formats, modes: how many photos of each.
        width, height, bytes: over its photos.
        per_class: photos of each class, the largest class first.
        imbalance: photos of the largest class by those of the smallest; None when there is no
            class, or a class whose photos are all unreadable.
        evenness: the entropy of the classes as a share of what it could be: 1 when all classes are
            of one size, near 0 when one class is nearly all; None when there is no class.
    """

    name: str
    location: str = ""
    photos: int = 0
    unreadable: int = 0
    groups: int = 0
    repeated: int = 0
    leak: float = 0.0
    formats: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    width: Spread = Spread()
    height: Spread = Spread()
    bytes: Spread = Spread()
    per_class: dict[str, int] = field(default_factory=dict)
    imbalance: float | None = None
    evenness: float | None = None

    @property
    def classes(self) -> int:
        """How many classes its labels name."""
        return len(self.per_class)

    def smallest(self, count: int = 5) -> list[tuple[str, int]]:
        """The smallest classes and their photos, the smallest first."""
        return sorted(self.per_class.items(), key=lambda item: (item[1], item[0]))[:count]


@dataclass(frozen=True)
class Audit:
    """All that an audit found.

    Attributes:
        sources: see `summarize`.
        photos: of all sources.
        findings: in the order in which a person should read them. A kind without cases says that
            it was looked for.
        settings: thresholds, seed, versions, the command: whatever is needed to do it again, as
            JSON can hold it.
    """

    sources: tuple[SourceFacts, ...]
    photos: tuple[PhotoFacts, ...]
    findings: tuple[Finding, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


TRAIN_SHARE = 0.8  # of the random split whose leak an audit tells of


def expected_leak(groups: Iterable[str], train_share: float = TRAIN_SHARE) -> float:
    """How much of its test a split that knows nothing of copies would give away.

    `round(n * train_share)` of n photos are drawn at random to train on. A photo outside them has
    g - 1 mates among the other n - 1 photos, of which every choice of training photos is equally
    likely. So all its mates are outside as well with the chance

        C(n - g, t) / C(n - 1, t) = product over k = 0 .. g - 2 of (n - 1 - t - k) / (n - 1 - k)

    and the share asked for is, on average, 1 minus that, averaged over all photos. It is exact,
    and does not depend on how the photos outside training are shared between validation and test.

    Args:
        groups: the group of each photo; a photo whose group is empty stands alone.
        train_share: the share of photos trained on, between 0 and 1.

    Returns:
        The expected share, 0 to 1, of test photos that have a mate of their group in training.

    Raises:
        ValueError: the share is not between 0 and 1.
    """
    if not 0 < train_share < 1:
        raise ValueError(f"train_share is {train_share}; it must lie between 0 and 1")
    count = Counter(groups)
    photos = count.total()
    count.pop("", None)
    outside = photos - round(photos * train_share)
    leaked = 0.0
    for size, times in Counter(count.values()).items():
        alone = 1.0
        for mate in range(size - 1):
            # Once more mates are asked for than there are places outside, the factor is 0.
            alone *= max(0, outside - 1 - mate) / (photos - 1 - mate)
        leaked += size * times * (1 - alone)
    return leaked / photos if photos else 0.0


def summarize(
    photos: Iterable[PhotoFacts], locations: Mapping[str, str]
) -> tuple[SourceFacts, ...]:
    """Counts each source.

    Args:
        photos: of all sources, in any order.
        locations: where each source comes from, by its name; a source without photos is counted
            too.

    Raises:
        KeyError: a photo is of a source that has no location.
    """
    by_source: dict[str, list[PhotoFacts]] = {name: [] for name in locations}
    for photo in photos:
        by_source[photo.source].append(photo)
    return tuple(
        count_photos(name, locations[name], members) for name, members in by_source.items()
    )


def count_photos(name: str, location: str, photos: Sequence[PhotoFacts]) -> SourceFacts:
    """Counts these photos as one source, whatever source they are of."""
    readable = [photo for photo in photos if photo.readable]
    groups = [photo.group for photo in readable]
    sizes = Counter(group for group in groups if group)
    alone = groups.count("")
    # A class whose photos are all unreadable is a class still, of no photos.
    per_class = Counter({photo.label: 0 for photo in photos if photo.label})
    per_class.update(photo.label for photo in readable if photo.label)
    numbers = sorted(per_class.values())
    return SourceFacts(
        name=name,
        location=location,
        photos=len(photos),
        unreadable=len(photos) - len(readable),
        groups=len(sizes) + alone,
        repeated=sum(size for size in sizes.values() if size > 1),
        leak=expected_leak(groups),
        formats=_counted(photo.format or "unknown" for photo in readable),
        modes=_counted(photo.mode or "unknown" for photo in readable),
        width=Spread.of([photo.width for photo in readable]),
        height=Spread.of([photo.height for photo in readable]),
        bytes=Spread.of([photo.bytes for photo in readable]),
        per_class=_counted(per_class.elements()) | {k: 0 for k, n in per_class.items() if not n},
        imbalance=numbers[-1] / numbers[0] if numbers and numbers[0] else None,
        evenness=_evenness(numbers),
    )


def flagged(photos: Iterable[PhotoFacts], findings: Iterable[Finding]) -> tuple[PhotoFacts, ...]:
    """The photos with their `flags` set to the kinds of the findings that they are in."""
    kinds: dict[int, dict[str, None]] = {}
    for finding in findings:
        for case in finding.cases:
            for photo in case.photos:
                kinds.setdefault(photo, {})[finding.kind] = None
    return tuple(
        replace(photo, flags=" ".join(kinds.get(number, ()))) for number, photo in enumerate(photos)
    )


def _counted(names: Iterable[str]) -> dict[str, int]:
    """How often each name stands there, the most frequent first and equals by name."""
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _evenness(numbers: Sequence[int]) -> float | None:
    total = sum(numbers)
    if not total:
        return None
    if len(numbers) == 1:
        return 1.0
    shares = [number / total for number in numbers if number]
    return -sum(share * math.log(share) for share in shares) / math.log(len(numbers))
