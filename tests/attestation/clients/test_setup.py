"""What a server may be called, and what may be written into files."""

from __future__ import annotations

import pytest
import tomllib

from rlu_attestation.clients import Server
from rlu_attestation.clients.errors import Unusable
from rlu_attestation.clients.setup import check_variable, quoted, root_of

GOOD = "https://rlu.example:8443"


@pytest.mark.parametrize(
    "url",
    [
        GOOD,
        "https://rlu.example/behind/a/path",
        "http://127.0.0.1:4321",
        "http://localhost:4321",
        "http://[::1]:4321",
    ],
)
def test_roots_of_servers(url: str) -> None:
    assert Server(url, "K", "m", "m").openai_url == f"{url}/v1"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "rlu.example",
        "ftp://rlu.example",
        "http://rlu.example",  # the key would go in clear
        "http://localhost.example",
        "http://127.0.0.1.example",
        "https://user@rlu.example",
        "https://rlu.example?key=1",
        "https://rlu.example#x",
        "https://rlu.example:99999",
        "https://[rlu",
        'https://rlu.example/"; import os',
        "https://rlu.example/\nx = 1",
        "https://rlu.example/a b",
    ],
)
def test_what_is_no_root(url: str) -> None:
    with pytest.raises(Unusable) as refused:
        Server(url, "K", "m", "m")
    assert refused.value.code == "clients.url"


@pytest.mark.parametrize("pasted", [GOOD, f"{GOOD}/", f"{GOOD}/v1", f"{GOOD}/v1/"])
def test_what_people_paste(pasted: str) -> None:
    assert root_of(pasted) == GOOD


@pytest.mark.parametrize(
    "name",
    ["", "1A", "A B", "A-B", "$A", 'A"', "É", "A" * 129, f"rlu_{'0' * 16}_{'x' * 43}", "rlu_local_secret"],
)
def test_a_key_is_not_taken_for_a_variable(name: str) -> None:
    with pytest.raises(Unusable) as refused:
        check_variable(name)
    assert refused.value.code == "clients.variable"
    assert name not in refused.value.message or not name


@pytest.mark.parametrize("name", ["", "a\nb", "a\x7f", "m" * 257])
def test_what_is_no_model(name: str) -> None:
    for model, small in ((name, "m"), ("m", name)):
        with pytest.raises(Unusable) as refused:
            Server(GOOD, "K", model, small)
        assert refused.value.code == "clients.model"


@pytest.mark.parametrize("text", ['a"b\\c', "é🦀", "tab\there", "\x7f\x1f"])
def test_quoted_text_is_toml(text: str) -> None:
    assert tomllib.loads(f"x = {quoted(text)}") == {"x": text}
