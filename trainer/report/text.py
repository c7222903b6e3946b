"""The audit as plain text: summary.txt, for terminals and for reviews of changes."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from trainer.report.findings import Audit, Finding, SourceFacts
from trainer.report.words import (
    OVERVIEW_NOTE,
    all_together,
    many,
    overview,
    percent,
    plain,
    setting,
    verdict,
)

_WIDTH = 92
_COLUMNS = 2  # sources beside each other in the table
_LARGEST, _SMALLEST = 10, 5  # classes that are drawn as bars
_CASES = 5  # of a finding


def summary_text(audit: Audit) -> str:
    """The report as text of at most 92 columns."""
    together = all_together(audit)
    return "\n".join(
        line.rstrip()
        for part in (
            _title("Audit of photo data sets", "="),
            _title("What would go wrong if you trained on this as it is"),
            _verdict(audit, together),
            _title("Sources"),
            _sources(audit.sources, together),
            _title("Classes"),
            *(_classes(source) for source in audit.sources),
            _title("Findings"),
            *(_finding(audit, finding) for finding in audit.findings if finding.cases),
            _not_found(audit.findings),
            _title("Settings"),
            _settings(audit),
        )
        for line in part
    ).lstrip("\n") + ("\n")


def _title(text: str, rule: str = "-") -> Iterator[str]:
    yield from ("", text, rule * len(text), "")


def _wrapped(text: str, first: str = "", later: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=first if later is None else later,
        break_on_hyphens=False,
    )


def _verdict(audit: Audit, together: SourceFacts) -> Iterator[str]:
    statements = verdict(audit, together)
    if not statements:
        yield "Nothing was found that would."
    width = max((len(statement.figure) for statement in statements), default=0)
    for statement in statements:
        yield from _wrapped(statement.text, f"  {statement.figure:>{width}}  ", " " * (width + 4))


def _sources(sources: Sequence[SourceFacts], together: SourceFacts) -> Iterator[str]:
    for source in sources:
        yield from _wrapped(
            f"{plain(source.name, 40)}: {plain(source.location) or 'no location given'}",
            "  ",
            "    ",
        )
    shown = [*sources, together] if len(sources) > 1 else sources
    room = (_WIDTH - 28) // min(_COLUMNS, max(len(shown), 1)) - 2
    for start in range(0, len(shown), _COLUMNS):
        columns = shown[start : start + _COLUMNS]
        yield ""
        yield from _row("", [plain(source.name, room) for source in columns], room)
        for fact, values in overview(columns):
            yield from _row(fact, values, room)
    yield ""
    yield from _wrapped(OVERVIEW_NOTE, "  ")


def _row(fact: str, values: Sequence[str], room: int) -> Iterator[str]:
    """One row of a table, of as many lines as its longest value needs."""
    cells = [textwrap.wrap(value, room) or [""] for value in values]
    for line in range(max(map(len, cells))):
        columns = [cell[line] if line < len(cell) else "" for cell in cells]
        name = fact if line == 0 else ""
        yield f"  {name:<26}" + "".join(f"{column:<{room + 2}}" for column in columns)


def _classes(source: SourceFacts) -> Iterator[str]:
    yield f"{plain(source.name, 60)}: {source.classes:,} classes"
    items = list(source.per_class.items())
    hidden = len(items) - _LARGEST - _SMALLEST
    if hidden > 0:
        items = [*items[:_LARGEST], ("", hidden), *items[-_SMALLEST:]]
    widest = max((len(plain(label, 40)) for label, _ in items), default=0)
    most = max(source.per_class.values(), default=0) or 1
    for label, count in items:
        if label:
            bar = "#" * round((_WIDTH - widest - 16) * count / most)
            yield f"  {plain(label, 40):<{widest}}  {count:>8,}  {bar}"
        else:
            yield f"  {'…':<{widest}}  and {hidden:,} more"
    yield ""


def _finding(audit: Audit, finding: Finding) -> Iterator[str]:
    cases = many(len(finding.cases), "case")
    share = percent(finding.photos / len(audit.photos))
    yield from _wrapped(f"{finding.title}: {cases}, {many(finding.photos, 'photo')} ({share})")
    yield from _wrapped(finding.meaning, "  ")
    for position, case in enumerate(finding.cases[:_CASES], 1):
        first = audit.photos[case.photos[0]]
        others = f" and {len(case.photos) - 1} more" if len(case.photos) > 1 else ""
        yield f"  {position:>3}  {plain(first.source, 16)}: {plain(first.path, 50)}{others}"
        if case.note:
            yield from _wrapped(plain(case.note, 240), "       ")
    if len(finding.cases) > _CASES:
        yield f"       … all {len(finding.cases):,} are in findings/{finding.kind}.csv"
    yield ""


def _not_found(findings: Iterable[Finding]) -> Iterator[str]:
    if missing := [finding.title for finding in findings if not finding.cases]:
        yield from _wrapped(f"Looked for and not found: {'; '.join(missing)}.")


def _settings(audit: Audit) -> Iterator[str]:
    for name, value in audit.settings.items():
        yield from _wrapped(plain(f"{name}: {setting(value)}", 2000), "  ", "    ")
