"""Nothing but digests, pseudonyms, codes and counts can reach the attestor, and nothing it did not compose gets signed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.attestor_room import running_room
from rlu_attestation import cose, jose
from rlu_attestation.encoding import unb64u
from rlu_server.attestor import messages

REQUESTS = get_args(messages.Request)
MAX_REQUEST = 24 * 1024
MAX_HELLO = 64 * 1024
FREE_TEXT = {"model": 256, "policies": 256, "gateway_version": 64}
"""Fields whose characters are not restricted; short, and the gateway fills them from its own configuration."""


def largest(kind: msgspec.inspect.Type, field: str) -> int:
    """Most bytes a value of a type can take; fails for a type without a bound."""
    match kind:
        case msgspec.inspect.IntType():
            return 9
        case msgspec.inspect.BoolType() | msgspec.inspect.NoneType():
            return 1
        case msgspec.inspect.LiteralType(values=values):
            return max(len(str(value)) for value in values)
        case msgspec.inspect.StrType(max_length=length, pattern=pattern):
            assert length is not None, field
            assert pattern is not None or length <= FREE_TEXT[field], field
            return 4 * length
        case msgspec.inspect.BytesType(max_length=length):
            assert length is not None, field
            assert length <= 64, field
            return length
        case msgspec.inspect.ListType(item_type=item, max_length=length):
            assert length is not None, field
            return length * largest(item, field)
        case msgspec.inspect.DictType(key_type=key, value_type=value, max_length=length):
            assert length is not None, field
            return length * (largest(key, field) + largest(value, field))
        case msgspec.inspect.UnionType(types=types):
            return max(largest(t, field) for t in types)
        case msgspec.inspect.StructType(fields=fields, forbid_unknown_fields=strict):
            assert strict, field
            return sum(len(f.encode_name) + 5 + largest(f.type, f.encode_name) for f in fields)
    raise AssertionError(f"{field}: {kind} has no bound")


@pytest.mark.parametrize("request_type", REQUESTS, ids=lambda t: t.__name__)
def test_every_field_is_bounded(request_type: type) -> None:
    limit = MAX_HELLO if request_type is messages.Hello else MAX_REQUEST
    assert largest(msgspec.inspect.type_info(request_type), request_type.__name__) <= limit


def values(kind: msgspec.inspect.Type, draw: Any, field: str) -> Any:
    """A valid value of a type, with long and odd ones among them."""
    match kind:
        case msgspec.inspect.IntType(ge=low, lt=high, le=top):
            upper = top if top is not None else (high or 2**32) - 1
            return draw(st.integers(low or 0, upper))
        case msgspec.inspect.BoolType():
            return draw(st.booleans())
        case msgspec.inspect.NoneType():
            return None
        case msgspec.inspect.LiteralType(values=options):
            return draw(st.sampled_from(options))
        case msgspec.inspect.StrType(max_length=length, min_length=least, pattern=pattern):
            if pattern is not None:
                return draw(
                    st.from_regex(pattern, fullmatch=True).filter(lambda t: (least or 0) <= len(t) <= length)
                )
            return draw(st.text(st.characters(codec="utf-8"), min_size=least or 0, max_size=min(length, 40)))
        case msgspec.inspect.BytesType(max_length=length, min_length=least):
            return draw(st.binary(min_size=least or 0, max_size=length))
        case msgspec.inspect.ListType(item_type=item, max_length=length):
            return [values(item, draw, field) for _ in range(draw(st.integers(0, min(length, 3))))]
        case msgspec.inspect.DictType(key_type=key, value_type=value):
            return {
                values(key, draw, field): values(value, draw, field) for _ in range(draw(st.integers(0, 3)))
            }
        case msgspec.inspect.UnionType(types=types):
            return values(draw(st.sampled_from(types)), draw, field)
        case msgspec.inspect.StructType(cls=cls, fields=fields):
            return cls(**{f.name: values(f.type, draw, f.name) for f in fields})
    raise AssertionError(kind)


@st.composite
def requests(draw: st.DrawFn) -> messages.Request:
    kind = draw(st.sampled_from([r for r in REQUESTS if r is not messages.Hello]))
    value: messages.Request = values(msgspec.inspect.type_info(kind), draw, "")
    return value


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_no_request_makes_it_sign_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Every digest the key signed is that of a head in the log, or of an instance statement that was answered."""
    async with running_room(tmp_path_factory.mktemp("room")) as room:
        gateway = await room.greeted()
        session = (await gateway.open()).session
        await gateway.begin(session)
        # Each id once, so that answers can be told apart.
        wanted = [
            msgspec.structs.replace(data.draw(requests()), id=10_000 + i)
            for i in range(data.draw(st.integers(5, 25)))
        ]
        wanted = [msgspec.structs.replace(w, session=session) if hasattr(w, "session") else w for w in wanted]
        answers = [await gateway.answer(i) for i in [gateway.send(request) for request in wanted]]
        standing = await gateway.ask(messages.Attest(id=1, nonce=None), messages.Attestation)
        statements = [
            standing.statement,
            *(a.statement for a in answers if isinstance(a, messages.Attestation)),
        ]
        explained = {hashlib.sha256(jose.jws_parse(s).signing_input).digest() for s in statements}
        for line in room.lines("head"):
            head = cose.parse_head(unb64u(str(line["head"])))
            explained.add(hashlib.sha256(cose.signature_input(head.protected, head.root)).digest())
        assert set(room.platform.signed) <= explained


async def test_nothing_that_was_said_is_on_the_disk_or_in_the_events(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.connect()
        await gateway.hello()
        marker = "m4rker"
        opening = msgspec.structs.replace(gateway.opening(), tenant=f"t-{marker}", principal=f"p-{marker}")
        opened = await gateway.ask(opening, messages.SessionOpened)
        seq = await gateway.begin(opened.session)
        receipt = msgspec.structs.replace(
            gateway.receipt(opened.session, seq),
            model=f"model-{marker}",
            route=f"/v1/{marker}",
            reason=f"{marker}",
            rewritten=[marker],
            request=messages.Commitment(77_777, marker.encode() * 5 + b"xx"),
        )
        await gateway.ask(receipt, messages.ReceiptRecorded)
        close = messages.CloseSession(id=9, session=opened.session, reason=f"{marker}", scratch="wiped")
        await gateway.ask(close, messages.SessionClosed)
        log = room.deployment.log.read_text()
        for kept in (log, room.stream.getvalue()):
            assert marker not in kept
            assert "77777" not in kept
        allowed = {
            "exp",
            "head",
            "iat",
            "index",
            "iss",
            "jwk",
            "kind",
            "leaf",
            "profile",
            "segment",
            "seq",
            "session",
            "size",
            "status",
            "usage",
            "version",
        }
        assert {key for line in log.splitlines() for key in json.loads(line)} == allowed
