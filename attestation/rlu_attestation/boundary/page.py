"""A verified report as one HTML page that prints well and needs nothing from anywhere: no script, no font, no picture.

Everything that came from a file is escaped, and a policy in the page itself forbids whatever might get past that. The page is for reading;
what proves something is the report, whose digest is on it.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

from rlu_attestation.boundary.check import CODES, Examined, Point
from rlu_attestation.boundary.figures import TITLES, Log
from rlu_attestation.boundary.report import Figure
from rlu_attestation.encoding import b64u

_SECTIONS = (
    ("Sessions", ("sessions", "closes", "sessions.refused")),
    ("Responses", ("receipts",)),
    ("Keys", ("key.sessions", "rotations", "starts")),
    ("Re-attestation", ("statements.renewed", "statements.asked", "drift", "policy", "policy.changes")),
    ("What crossed the boundary", tuple(name for name in TITLES if name.startswith("egress."))),
    ("Canary tests and licence", ("canary", "licence")),
    ("The log", ("entries", "entries.uncounted", "gaps")),
)
_SOURCES = {
    "proven": "follows from the places of entries under heads that the instance key signed",
    "logged": "counted by the attestor, which logged the count at the time: signed, and not to be changed later",
    "asserted": "said by whoever signed this report; nothing else shows it",
}
_RESULTS = {
    "verified": "Verified: every figure that is not asserted follows from the log.",
    "verified_except_open": "Verified, except for what is listed as open.",
    "rejected": "REJECTED: do not use this report.",
}
_STYLE = """
@page { size: A4; margin: 16mm 14mm }
* { box-sizing: border-box }
body { font: 10pt/1.45 "Liberation Sans", Arial, Helvetica, sans-serif; color: #1a1a1a }
body { max-width: 180mm; margin: 10mm auto; padding: 0 4mm }
h1 { font-size: 18pt; margin: 0 0 1mm } h2 { font-size: 12pt; margin: 7mm 0 2mm; border-bottom: 1px solid #999; break-after: avoid }
p { margin: 0 0 2mm } .result { padding: 2mm 3mm; border: 1.5px solid #444; margin: 4mm 0; font-weight: bold }
.rejected { border-color: #a00; color: #a00 } .note { color: #444; font-size: 9pt }
table { width: 100%; border-collapse: collapse; margin: 0 0 3mm } th { text-align: left; font-weight: 600; border-bottom: 1px solid #999 }
th, td { padding: 1mm 2mm 1mm 0; vertical-align: top } tr { break-inside: avoid } tbody tr + tr td { border-top: 1px solid #e2e2e2 }
.figures { table-layout: fixed } .figures th:nth-child(2) { width: 26mm } .figures th:nth-child(3) { width: 20mm }
.figures th:nth-child(4) { width: 34mm } .figures td.n { padding-right: 5mm } .figures th.n { padding-right: 5mm }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap } th.n { text-align: right }
td.s { white-space: nowrap } td.e { font-size: 8pt; color: #444; overflow-wrap: anywhere }
.of { color: #444; font-size: 9pt; overflow-wrap: anywhere } .asserted { font-weight: bold }
code { font: 8pt "Liberation Mono", monospace; overflow-wrap: anywhere } dt { font-weight: 600 } dd { margin: 0 0 1.5mm 6mm }
@media print { body { margin: 0; max-width: none; padding: 0 } }
"""


def page(examined: Examined, digest: bytes, key: bytes, at: int) -> str:
    """The page, in ASCII but for what the report holds.

    Args:
        digest: SHA-256 of the report file without its line's end.
        key: thumbprint of the key that signed it.
        at: when it was verified.
    """
    report = examined.report
    since, until = examined.covered
    covered = (
        "No tally of the log was made in this period."
        if until is None
        else f"Its tallies count from {'the beginning of the log' if since is None else _time(since)} to {_time(until)}."
    )
    body = [
        "<h1>Boundary report</h1>",
        f"<p>{_time(report.begin)} to {_time(report.end)}. {covered}</p>",
        f'<p class="result {_text(examined.result)}">{_RESULTS[examined.result]}</p>',
        *_points("Found false", examined.false),
        *_points("Left open", examined.open),
    ]
    for title, names in _SECTIONS:
        body += _section(title, [figure for figure in report.figures if figure.name in names], names)
    body += _logs(examined.logs)
    body += [
        "<h2>How to read this</h2>",
        "<dl>",
        *(f"<dt>{name}</dt><dd>{text}.</dd>" for name, text in _SOURCES.items()),
        "</dl>",
        '<p class="note">&ldquo;Tallies A:1&ndash;24&rdquo; are entries of log A, numbered by the attestor; the report holds each of '
        "them with its proof. Refusals at the gateway&rsquo;s own edge (keys, limits, malformed requests) never reach the attestor and are "
        "not counted here.</p>",
        f'<p class="note">Made {_time(report.issued_at)}, verified {_time(at)}. Report file, SHA-256: <code>{digest.hex()}</code>. '
        f"Signed by <code>{b64u(key)}</code>. Verify it: <code>rlu verify REPORT --report-key KEY</code>.</p>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Boundary report</title>\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<style>{_STYLE}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _section(title: str, figures: Sequence[Figure], names: Sequence[str]) -> list[str]:
    lines = [f"<h2>{title}</h2>"]
    missing = [name for name in names if not any(figure.name == name for figure in figures)]
    if figures:
        lines.append(
            '<table class="figures"><thead><tr><th>Figure</th><th class="n">Value</th><th>Source</th><th>Tallies</th></tr></thead>'
            "<tbody>"
        )
        lines += [_row(figure) for figure in figures]
        lines.append("</tbody></table>")
    if missing:
        lines.append(
            f'<p class="note">None noted: {"; ".join(TITLES[name][0].lower() + TITLES[name][1:] for name in missing)}.</p>'
        )
    return lines


def _row(figure: Figure) -> str:
    of = "<br>".join(f"{_text(name)}: {_text(_value(name, value))}" for name, value in figure.of)
    where = ", ".join(
        f"{_letter(i)}:{a}" if a == b else f"{_letter(i)}:{a}\u2013{b}" for i, a, b in figure.tallies
    )
    return (
        f'<tr><td>{_text(TITLES[figure.name])}{f"<div class=of>{of}</div>" if of else ""}</td><td class="n">{figure.value:,}</td>'
        f'<td class="s {_text(figure.source)}">{_text(figure.source)}</td><td class="e">{where}</td></tr>'
    )


def _logs(logs: Iterable[Log]) -> list[str]:
    lines = [
        "<h2>Logs</h2>",
        '<table><thead><tr><th>Log</th><th>Instance, root of its head</th><th class="n">Entries</th><th>Head signed</th>'
        "<th>Tallies</th></tr></thead><tbody>",
    ]
    for place, log in enumerate(logs):
        numbers = f"{log.tallies[0].number}\u2013{log.tallies[-1].number}" if log.tallies else "none"
        lines.append(
            f"<tr><td>{_letter(place)}</td><td><code>{_text(log.issuer)}</code><br><code>{log.head.root.hex()}</code></td>"
            f'<td class="n">{log.head.tree_size:,}</td><td class="s">{_time(log.head.iat)}</td><td>{numbers}</td></tr>'
        )
    return [*lines, "</tbody></table>"]


def _points(title: str, points: Sequence[Point]) -> list[str]:
    if not points:
        return []
    items = "".join(
        f"<li>{_text(CODES[p.code])}: {_text(p.detail)} <code>{_text(p.code)}</code></li>" for p in points
    )
    return [f"<h2>{title}</h2><ul>{items}</ul>"]


def _value(name: str, value: str) -> str:
    return (
        _time(int(value))
        if name in ("created", "reported", "ends") and value.isascii() and value.isdigit()
        else value
    )


def _letter(place: int) -> str:
    return chr(ord("A") + place) if 0 <= place < 26 else str(place + 1)


def _time(at: int) -> str:
    try:
        return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return str(at)


def _text(value: str) -> str:
    return html.escape("".join(c if c.isprintable() else "\ufffd" for c in value))
