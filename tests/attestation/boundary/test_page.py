"""The page: what is in the report is on it, and nothing in a report gets out of its place."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from fakes.boundary import AT, BEGIN, END, EUROPE, Instance, day, examined, report
from rlu_attestation.boundary.check import check
from rlu_attestation.boundary.figures import TITLES, asserted
from rlu_attestation.boundary.page import page

HOSTILE = "<script>alert(1)</script><img src=//evil.example/x onerror=alert(2)>\"'&\x1b[31m\u202e"
DIGEST, KID = b"d" * 32, b"k" * 32


class Seen(HTMLParser):
    """Tags, attributes and text as a browser takes them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words += data


def test_every_figure_is_on_it() -> None:
    made = report(day())
    seen = Seen(page(examined(made), DIGEST, KID, AT))
    for figure in made.figures:
        assert TITLES[figure.name] in seen.words
        assert f"{figure.value:,}" in seen.words
    assert "eu-central-1" in seen.words
    assert "asserted" in seen.words
    assert DIGEST.hex() in seen.words
    assert "2026-05-28 20:26:40 UTC to 2026-05-29 20:26:40 UTC" in seen.words
    assert "A:2, A:4, B:1\u20132" in seen.words
    assert "Verified: every figure" in seen.words


def test_it_needs_nothing_from_anywhere() -> None:
    text = page(examined(report(day())), DIGEST, KID, AT)
    seen = Seen(text)
    assert not seen.tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    assert not {name for name in seen.attributes if name.startswith("on")} | seen.attributes & {
        "src",
        "href",
        "style",
    }
    assert "default-src 'none'" in text
    assert "url(" not in text
    assert "@import" not in text


def test_names_of_an_attacker_stay_text() -> None:
    hostile = replace(EUROPE, region=HOSTILE, models=(HOSTILE,), boundary="</style></td></table>")
    one = Instance("hostile")
    one.tally(BEGIN - 1, {hostile: 1})
    one.tally(BEGIN, {hostile: 2})
    one.tally(END, {})
    made = report([one])
    made = replace(
        made, figures=(*made.figures, asserted("egress.sent", 1, job=HOSTILE, destination=HOSTILE))
    )
    plain = Seen(page(examined(report(day())), DIGEST, KID, AT))
    text = page(examined(made), DIGEST, KID, AT)
    seen = Seen(text)
    assert (seen.tags, seen.attributes) == (plain.tags, plain.attributes)
    assert "<script>alert(1)</script><img src=//evil.example/x onerror=alert(2)>\"'&" in seen.words
    assert not {"\x1b", "\u202e"} & set(text)


def test_what_is_open_and_what_is_false_is_said_first() -> None:
    made = report(day())
    seen = Seen(page(check(made, (), AT), DIGEST, KID, AT))
    assert "boundary.open.instance" in seen.words
    assert seen.words.index("Left open") < seen.words.index("Sessions opened")
    false = replace(made, figures=made.figures[1:])
    seen = Seen(page(examined(false), DIGEST, KID, AT))
    assert "REJECTED" in seen.words
    assert "boundary.figures" in seen.words
