"""TokenReview (authentication.k8s.io/v1): the question for the cluster, and its answer.

A signature says that a token was made; the API server alone knows that its account or pod was deleted since.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

import msgspec
from msgspec import Meta

from rlu_server.core.errors import GatewayError

PATH = "/v1/tokenreview"
"""Where the relay takes the question."""
MAX_ANSWER = 256 * 1024
_API = "authentication.k8s.io/v1"


class _User(msgspec.Struct, frozen=True):
    username: str = ""


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()
    audiences: list[str] = []
    error: str = ""


class _Answer(msgspec.Struct, frozen=True):
    api_version: str = msgspec.field(name="apiVersion")
    kind: str
    status: _Status = _Status()


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: Annotated[str, Meta(min_length=1, max_length=16 * 1024)]
    audiences: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=512)]], Meta(min_length=1, max_length=16)
    ]


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    spec: Spec
    apiVersion: Annotated[str, Meta(pattern="^authentication.k8s.io/v1$")] = _API
    kind: Annotated[str, Meta(pattern="^TokenReview$")] = "TokenReview"


def question(token: str, audiences: Collection[str]) -> bytes:
    return msgspec.json.encode(Question(Spec(token, sorted(audiences))))


def check_question(data: bytes) -> None:
    """Raises `ValueError` unless the bytes are a question and nothing else."""
    try:
        msgspec.json.decode(data, type=Question)
    except msgspec.MsgspecError as error:
        raise ValueError("not a TokenReview with a token and audiences") from error


def username(answer: bytes, audiences: Collection[str]) -> str:
    """Whom the cluster says the token belongs to.

    An API server that does not know of audiences answers without any; a token for another audience would then pass, so that refuses.

    Raises:
        GatewayError: `token_refused`; `token_unverifiable`, when the answer is not a TokenReview.
    """
    try:
        read = msgspec.json.decode(answer, type=_Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise GatewayError("token_unverifiable") from error
    if read.kind != "TokenReview" or read.api_version != _API:
        raise GatewayError("token_unverifiable")
    status = read.status
    if not status.authenticated or not status.user.username or not set(status.audiences) & set(audiences):
        raise GatewayError("token_refused")
    return status.user.username
