"""`rlu size`: whether a model fits on so many GPUs, how to spread it, and what to expect.

Reads the model's `config.json` and the sizes of its files; needs no GPU, no vLLM and no network.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation.cli.output import fail, print_json
from rlu_attestation.errors import RluError
from rlu_attestation.printing import printable
from rlu_server import sizing
from rlu_server.models import checkpoint
from rlu_server.sizing.quantization import ASKED

app = typer.Typer(add_completion=False)

DOES_NOT_FIT = 41
DEFAULT_CONTEXT = 8192
"""Where neither the command nor the model says."""


class Unusable(RluError):
    """The command line, or a file it names, cannot be followed."""

    exit_code = 2


@app.command("size")
def command(
    model: Annotated[Path, typer.Option(help="Directory of the model, or its config.json.")],
    gpu: Annotated[str, typer.Option(help=f"One of {', '.join(sizing.GPUS)}.")],
    count: Annotated[int, typer.Option(min=1, max=1024, help="GPUs.")] = 1,
    context: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of a sequence, prompt and answer; default: the model's most."),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Sequences of that length at once; default: as many as fit.")
    ] = None,
    quantization: Annotated[
        str | None, typer.Option(help=f"As if the weights were stored so: {', '.join(ASKED)}.")
    ] = None,
    kv_cache_dtype: Annotated[str, typer.Option(help="auto (16 bits) or fp8.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Find room for a model: memory, parallelism, concurrency, ceilings of throughput, vLLM arguments and Helm values.

    Exit codes: 0 it fits, 41 it does not (and what would make it fit), 2 usage, 20 unsupported model, 30 malformed file.
    """
    try:
        found = _sized(model, gpu.lower(), count, context, concurrency, quantization, kv_cache_dtype)
    except RluError as error:
        fail(error, as_json=as_json)
        raise typer.Exit(error.exit_code) from error
    if as_json:
        print_json(sizing.to_json(found))
    else:
        print("\n".join(printable(line) for line in sizing.lines(found)))
    if not found.serves:
        raise typer.Exit(DOES_NOT_FIT)


def _sized(
    place: Path,
    gpu: str,
    count: int,
    context: int | None,
    concurrency: int | None,
    quantization: str | None,
    kv_cache_dtype: str,
) -> sizing.Sizing:
    if gpu not in sizing.GPUS:
        raise Unusable("size.gpu", f"--gpu: {gpu!r} is not known; known are {', '.join(sizing.GPUS)}")
    if kv_cache_dtype not in ("auto", "fp8"):
        raise Unusable("size.kv_cache_dtype", "--kv-cache-dtype takes auto or fp8")
    if quantization is not None and quantization not in ASKED:
        raise Unusable("size.quantization", f"--quantization takes one of {', '.join(ASKED)}")
    try:
        data, held = checkpoint.read(place)
    except OSError as error:
        raise Unusable(
            "size.model.file",
            f"--model: {place}: {error.strerror}; give the model's directory or its config.json",
        ) from error
    model = sizing.read_model(data, held)
    try:
        model = sizing.quantized(model, quantization)
    except ValueError as error:
        raise Unusable("size.quantization", f"--quantization: {error}") from error
    if quantization not in (None, "fp8") and model.quantization is not None and not model.quantization.stored:
        note = f"vLLM cannot make {quantization} of this checkpoint: take one that is stored so"
        model = replace(model, notes=(*model.notes, note))
    if context is not None and model.max_context and context > model.max_context:
        raise Unusable(
            "size.context", f"--context: the model takes at most {model.max_context} tokens, not {context}"
        )
    wish = sizing.Wish(
        gpu=sizing.GPUS[gpu],
        count=count,
        context=context or model.max_context or DEFAULT_CONTEXT,
        concurrency=concurrency,
        cache_bytes=1 if kv_cache_dtype == "fp8" else 2,
    )
    return sizing.size(model, wish, gpu)
