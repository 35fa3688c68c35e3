"""The report as one page for people: opens from a disk, loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from reconciler.drill.curve import curve
from reconciler.drill.evidence import Evidence, Fault
from reconciler.drill.verdict import Finding, doubled, lost, overlapping, sound

_STYLE: Final = """
:root { color-scheme: light; --ink: #1c2733; --soft: #5b6b7b; --line: #dde3ea; --good: #137a4b; --bad: #b3261e; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1020px; padding: 32px 24px 64px; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 36px 0 10px; }
p { margin: 6px 0; } .soft { color: var(--soft); }
.facts { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0; }
.fact { border: 1px solid var(--line); border-radius: 8px; padding: 12px 18px; min-width: 130px; }
.fact b { display: block; font-size: 28px; line-height: 1.2; }
.fact.good b { color: var(--good); } .fact.bad b { color: var(--bad); }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: 6px 10px; vertical-align: top; }
th { color: var(--soft); font-weight: 600; border-bottom: 2px solid var(--line); } td { border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; white-space: nowrap; } .good { color: var(--good); } .bad { color: var(--bad); }
svg { width: 100%; height: auto; display: block; } svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
svg .number { text-anchor: end; } svg .time { text-anchor: middle; } svg .name, svg .key { font-weight: 600; }
svg .grid { stroke: var(--line); } svg polyline { fill: none; stroke-width: 1.6; }
svg .pending { stroke: #b45309; } svg .queued { stroke: #2563eb; } svg line.pending, svg line.queued { stroke-width: 2.4; }
svg .done { fill: #bfe3cf; stroke: #137a4b; stroke-width: 1.2; }
svg .band { fill: #b3261e; fill-opacity: .07; } svg .band.open { fill-opacity: .25; }
svg .mark line { stroke: #b3261e; stroke-dasharray: 3 3; } svg .mark circle { fill: #b3261e; }
svg .mark text { fill: #fff; text-anchor: middle; font-weight: 600; }
@media print { body { padding: 0; } .fact { break-inside: avoid; } }
"""

_READ: Final = (
    "Each number is a fault; the red field behind it lasts until every row that it hit had a job again, "
    "ran again, or was done."
)


def page(evidence: Evidence, findings: Sequence[Finding]) -> str:
    """Return the report as HTML."""
    parts = [
        _head(evidence, findings),
        "<h2>The curve</h2>",
        curve(evidence.samples, evidence.faults, evidence.seconds),
        f'<p class="soft">{_READ}</p>',
        "<h2>The faults</h2>",
        _faults(evidence.faults),
        "<h2>The verdict, line by line</h2>",
        _findings(findings),
        "<h2>How it was done</h2>",
        _settings(evidence),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>"
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(headline(evidence, findings))}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def headline(evidence: Evidence, findings: Sequence[Finding]) -> str:
    """Return the drill in one line."""
    off = sum(not finding.good for finding in findings)
    said = "nothing is off" if sound(findings) else f"{off} of {len(findings)} findings are off"
    twice = f"{doubled(evidence)} doubled, " if evidence.effects else ""
    return f"{lost(evidence)} lost, {twice}{_overlaps(evidence)} overlaps; {said}"


def _overlaps(evidence: Evidence) -> int:
    return len(overlapping(evidence.runs, evidence.cuts))


def _head(evidence: Evidence, findings: Sequence[Finding]) -> str:
    good = sound(findings)
    struck = [fault for fault in evidence.faults if not fault.missed]
    longest = max((fault.took for fault in struck if fault.took is not None), default=None)
    said = (
        "Every row was worked off, whatever was done to Redis and to the workers."
        if good
        else "Something is off: see the verdict below."
    )
    facts = [
        _fact("lost", lost(evidence), good=lost(evidence) == 0),
        _fact("doubled", doubled(evidence), good=doubled(evidence) == 0)
        if evidence.effects
        else "",
        _fact("overlaps", _overlaps(evidence), good=_overlaps(evidence) == 0),
        _fact("longest to heal", "-" if longest is None else f"{longest:.1f} s", good=None),
        _fact("rows", f"{evidence.rows:,}", good=None),
        _fact("faults", len(struck), good=None),
    ]
    return (
        f"<h1>Drill: {escape(headline(evidence, findings))}</h1>"
        f'<p class="soft">{escape(evidence.settings.get("began", ""))} · {evidence.seconds:.0f} seconds under load</p>'
        f'<p class="{_colour(good=good)}">{said}</p><div class="facts">{"".join(facts)}</div>'
    )


def _fact(name: str, value: object, *, good: bool | None) -> str:
    colour = "" if good is None else f" {_colour(good=good)}"
    return f'<div class="fact{colour}"><b>{escape(str(value))}</b>{escape(name)}</div>'


def _faults(faults: Sequence[Fault]) -> str:
    heads = (
        '<th class="n">#</th><th>what was done</th><th class="n">at</th><th class="n">rows hit</th>'
        '<th class="n">running</th><th class="n">first again after</th><th class="n">whole after</th>'
    )
    rows = "".join(_row(number, fault) for number, fault in enumerate(faults, 1))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _row(number: int, fault: Fault) -> str:
    title = escape(fault.title)
    if fault.missed:
        why = escape(fault.missed)
        return f'<tr><td class="n">{number}</td><td>{title}</td><td colspan="5">not done: {why}</td></tr>'
    note = f'<br/><span class="soft">{escape(fault.remark)}</span>' if fault.remark else ""
    first = None if fault.first is None else max(0.0, fault.first - fault.over)
    colour = _colour(good=fault.took is not None)
    return (
        f'<tr><td class="n">{number}</td><td>{title}{note}</td><td class="n">{fault.at:.1f} s</td>'
        f'<td class="n">{fault.hit:,}</td><td class="n">{fault.running}</td><td class="n">{_seconds(first)}</td>'
        f'<td class="n {colour}">{_seconds(fault.took)}</td></tr>'
    )


def _findings(findings: Sequence[Finding]) -> str:
    rows = "".join(
        f'<tr><td class="{_colour(good=each.good)}">{"ok" if each.good else "OFF"}</td><td>{escape(each.what)}</td>'
        f"<td>{escape(each.value)}{_detail(each.detail)}</td></tr>"
        for each in findings
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _detail(text: str) -> str:
    return f'<br/><span class="soft">{escape(text)}</span>' if text else ""


def _settings(evidence: Evidence) -> str:
    edges = evidence.edges
    shown = {
        **evidence.settings,
        "pushes of the load": f"{edges.told:,} told, {edges.refused:,} refused, {edges.unknown:,} without an answer",
    }
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in shown.items()
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"


def _colour(*, good: bool) -> str:
    return "good" if good else "bad"
