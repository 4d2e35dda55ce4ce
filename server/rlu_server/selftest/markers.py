"""Markers: texts that occur nowhere else in the world, in three styles. Pure; the secret they are made from is an argument.

A marker must be found even if a part of it was cut off, escaped or tokenized, so there is one of letters and digits, one of short words
(which a tokenizer or a spelling check sees as words) and one with characters beyond ASCII.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Style = Literal["random", "words", "unicode"]
STYLES: tuple[Style, ...] = ("random", "words", "unicode")
WORDS = (
    "amber", "anchor", "apple", "arrow", "autumn", "badge", "bamboo", "barley", "basket", "beacon",
    "bishop", "blanket", "bottle", "bridge", "butter", "candle", "canyon", "carbon", "castle", "cedar",
    "cherry", "cobalt", "copper", "coral", "cotton", "cradle", "crystal", "dagger", "desert", "dolphin",
    "ember", "engine", "falcon", "feather", "forest", "garlic", "ginger", "glacier", "granite",
    "hammer", "harbor", "hazel", "helmet", "indigo", "island", "ivory", "jacket", "jungle", "kettle",
    "ladder", "lantern", "lemon", "linen", "magnet", "maple", "marble", "meadow", "mirror", "nectar",
    "nickel", "ocean", "orchid", "oyster",
)  # fmt: skip
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FOREIGN = "äßéñøžčůŁπЖשع秘密한🔒🗝"
RANDOM_SIZE = 48
WORD_COUNT = 6
UNICODE_COUNT = 10


@dataclass(frozen=True, slots=True)
class Marker:
    """One marker, and the scenario that it was sent in."""

    scenario: str
    style: Style
    text: str


def marker(secret: bytes, scenario: str, number: int, style: Style) -> Marker:
    """A marker of one scenario; the same arguments give the same one."""
    bits = _bits(secret, f"{scenario}/{number}/{style}")
    if style == "random":
        text = "".join(_take(bits, _DIGITS, RANDOM_SIZE))
    elif style == "words":
        # A number after every word: no piece of it is something that people write.
        pairs = zip(_take(bits, WORDS, WORD_COUNT), _take(bits, range(1000, 10_000), WORD_COUNT), strict=True)
        text = " ".join(f"{word} {digits}" for word, digits in pairs)
    else:
        groups = ("".join(_take(bits, _DIGITS[:36], 4)) for _ in range(UNICODE_COUNT))
        text = "".join(
            group + letter for group, letter in zip(groups, _take(bits, _FOREIGN, UNICODE_COUNT), strict=True)
        )
    return Marker(scenario, style, text)


def _bits(secret: bytes, name: str) -> list[int]:
    """A stream of 16-bit numbers."""
    stream = b"".join(hmac.digest(secret, f"{name}/{i}".encode(), hashlib.sha256) for i in range(8))
    return [int.from_bytes(stream[i : i + 2], "big") for i in range(0, len(stream), 2)]


def _take(bits: list[int], alphabet: Sequence[object], count: int) -> list[str]:
    return [str(alphabet[bits.pop() % len(alphabet)]) for _ in range(count)]
