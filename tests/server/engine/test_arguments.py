from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.engine import arguments
from rlu_server.engine.arguments import ArgumentRefused


@pytest.mark.parametrize("name", sorted(arguments.REFUSED))
@pytest.mark.parametrize("form", ["{}", "{}=x", "{}.inner"])
def test_refused_with_a_reason(name: str, form: str) -> None:
    with pytest.raises(ArgumentRefused) as caught:
        arguments.check([form.format(name), "value"])
    assert f"{name}: {arguments.REFUSED[name]}" in str(caught.value)


@pytest.mark.parametrize(
    "spelling",
    [
        "--trust_remote_code",
        "--trust-remote",
        "--TRUST-REMOTE-CODE",
        "--new-in-next-release",
        "-x",
        "--",
        "-tp",
    ],
)
def test_other_spellings_and_unknown_names_refuse(spelling: str) -> None:
    """vLLM takes underscores for dashes and completes prefixes; neither gets past the list."""
    with pytest.raises(ArgumentRefused):
        arguments.check([spelling])


def test_all_refusals_are_told_at_once() -> None:
    with pytest.raises(ArgumentRefused) as caught:
        arguments.check(["--enable-log-requests", "--max-num-seqs", "4", "--middleware=x.y"])
    assert "--enable-log-requests" in str(caught.value)
    assert "--middleware" in str(caught.value)
    assert "--max-num-seqs" not in str(caught.value)


def test_tuning_passes() -> None:
    given_ = [
        "--tensor-parallel-size",
        "8",
        "--gpu_memory_utilization=0.9",
        "--seed",
        "-1",
        "--no-enable-prefix-caching",
    ]
    assert arguments.check(given_) == given_


def test_nothing_is_both_tunable_and_refused() -> None:
    assert not arguments.TUNABLE & arguments.REFUSED.keys()


@given(st.lists(st.text(max_size=40)))
def test_what_passes_is_listed(tokens: list[str]) -> None:
    try:
        passed = arguments.check(tokens)
    except ArgumentRefused:
        return
    for token in passed:
        if token.startswith("-") and not token.lstrip("-").replace(".", "").isdecimal():
            assert token.split("=")[0].split(".")[0].replace("_", "-") in arguments.TUNABLE


def test_own_arguments() -> None:
    own = arguments.own_arguments(
        model="/m",
        name="n",
        socket="/r/engine/s",
        eager=True,
        max_model_len=5,
        tool_parser="hermes",
        reasoning_parser=None,
    )
    text = " ".join(own)
    assert "--uds /r/engine/s" in text
    assert "--disable-uvicorn-access-log" in own
    assert f"--allowed-media-domains {arguments.NO_DOMAIN}" in text
    assert "--load-format safetensors" in text
    assert "--fingerprint-mode none" in text
    assert "--tool-call-parser hermes" in text
    assert "--enforce-eager" in own
    assert "--reasoning-parser" not in own


def test_two_starts_state_the_same() -> None:
    """The runtime directory's name differs between starts; the statement's digest must not."""

    def stated(runtime: str) -> list[str]:
        own = ["--model", "/models/m", "--uds", f"{runtime}/engine/s", "--x", f"{runtime}x"]
        return arguments.stated(own, Path(runtime), Path("/models/m"))

    assert stated("/run/rlu-a")[:4] == ["--model", "{model}", "--uds", "{runtime}/engine/s"]
    assert stated("/run/rlu-a")[:5] == stated("/run/rlu-b")[:5]
    assert stated("/run/rlu-a")[5] == "/run/rlu-ax", "a path that only begins alike is another path"
    second = ["--uds", "/run/rlu-a/engine2/s", "/run/rlu-a/engine22/s"]
    shown = arguments.stated(second, Path("/run/rlu-a"), Path("/models/m"), "engine2")
    assert shown == ["--uds", "{runtime}/engine/s", "{runtime}/engine22/s"], "replicas state the same"
