"""The canary test from start to end.

1  a disk image is made and mounted; a deployment starts, and everything it may write to a disk is on it
2  every kind of marked request is made; then again and again while one thing after the other is broken
3  while nothing is under way: the runtime directory, deleted files that are open, metrics, the exported log
4  the supervisor is killed, starts again, and is asked to stop under load
5  leaks are planted at every place; every place is searched, and the traces that arrived; the disk is unmounted and searched as raw bytes
6  what was found and nobody planted is a leak; what was planted and not found makes the place count as not searched
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlu_attestation.canary import EXCHANGES, FAULTS, PLACES, Findings, Place
from rlu_attestation.errors import RluError
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.models import Software
from rlu_server.selftest import exports, forms, places
from rlu_server.selftest.caller import Answer, Caller, Shot
from rlu_server.selftest.faults import Faults, wait_ready
from rlu_server.selftest.forms import Needle, Tokenizer
from rlu_server.selftest.image import MIB, Image, ImageError
from rlu_server.selftest.index import Index
from rlu_server.selftest.node import RLU, Node
from rlu_server.selftest.places import Search, Where
from rlu_server.selftest.plants import Plants
from rlu_server.selftest.scan import Scanner
from rlu_server.selftest.scenarios import Composer
from rlu_server.selftest.unpack import KINDS
from rlu_server.settings import Settings

IMAGE_BYTES = 512 * MIB
_RETURNED = re.compile(rb'"(?:content|text|arguments|partial_json|delta)":\s*("(?:[^"\\]|\\.)*")')
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a test is run.

    Attributes:
        seconds: faults go on for so long, at least once each.
        breaking: nothing is broken without it, and the report is incomplete.
        seed: of their schedule.
        base: where the disk image is made.
        file_systems: walk every writable file system.
        keep: leave the disk image there, for whoever wants to see where a finding lies.
        command: how `rlu` is started.
    """

    seconds: float = 0.0
    breaking: bool = True
    seed: int = 0
    base: Path = Path("/var/tmp")  # noqa: S108 - a directory of its own is made there
    file_systems: bool = True
    keep: bool = False
    command: Sequence[str] = RLU


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a test found, for people: leaks, and what was not done or not searched."""

    findings: Findings
    leaks: list[str]
    undone: list[str]


class CanaryTest:
    """One test."""

    def __init__(self, settings: Settings, options: Options, say: Say) -> None:
        self._settings = settings
        self._options = options
        self._say = say
        self._secret = os.urandom(32)
        self._digests: dict[bytes, list[Needle]] = {}
        self._exchanges: dict[str, int] = dict.fromkeys(EXCHANGES, 0)
        self._returned = 0
        self._runtimes: set[Path] = set()
        self._undone: list[str] = []
        self._tokens = False

    def run(self) -> Outcome:
        """Make it.

        Raises:
            NodeError, ServeError, RluError, SwtpmError: the deployment did not do what a test needs.
        """
        base = Path(tempfile.mkdtemp(prefix="rlu-canary-", dir=self._options.base))
        base.chmod(0o711)
        image = Image(base / "disk.img", base / "disk", IMAGE_BYTES)
        node: Node | None = None
        try:
            node = Node(image.mount, self._settings, self._options.command)
            self._mount(image)
            node.prepare()
            return asyncio.run(self._interruptible(base, image, node))
        finally:
            if node is not None:
                node.abandon()
            image.abandon()
            if self._options.keep:
                self._say(f"what the deployment wrote is kept in {base}")
            else:
                shutil.rmtree(base, ignore_errors=True)

    def _mount(self, image: Image) -> None:
        try:
            image.make()
            self._say(f"a disk of its own is mounted at {image.mount}")
        except ImageError as error:
            image.mount.mkdir(mode=0o711, exist_ok=True)
            self._undone.append(f"disk: raw blocks and deleted files are not searched: {error}")

    async def _interruptible(self, base: Path, image: Image, node: Node) -> Outcome:
        """SIGTERM ends it as Ctrl-C does: nothing keeps running, and nothing stays mounted."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            return await self._run(base, image, node)
        except BaseException:
            node.give_up()  # a thread may be waiting for it
            raise
        finally:
            loop.remove_signal_handler(signal.SIGTERM)

    async def _run(self, base: Path, image: Image, node: Node) -> Outcome:
        began = int(time.time())
        self._say("starting a deployment of the test's own")
        await asyncio.to_thread(node.start)
        await wait_ready(node, 120)
        model = _model_name(node)
        composer = Composer(self._secret, model, node.settings.gateway.max_body_bytes)
        faults = Faults(
            node, composer, lambda shot: self._make(node, shot), self._options.seed, image.mounted
        )
        self._runtimes.add(node.runtime)

        spans = await self._make_all(node, composer)
        if self._options.breaking:
            await self._break(node, faults)
        await wait_ready(node, 120)
        stated = exports.instance(f"https://127.0.0.1:{node.port}", node.keys.asking)
        handed_out = await self._handed_out(node)
        runtime, pids = node.runtime, node.processes()

        # What is looked for in the live deployment was sent before now; what is sent from here on is looked for afterwards.
        tokenizers = self._tokenizers(Path(node.settings.model.path))
        planted = Plants(os.urandom(32), PLACES, tokenizers)
        where = self._where(began, base, node)
        early = Scanner(self._index(composer, planted, tokenizers))
        live = Search(early, planted, where)
        self._say("searching the deployment while it is idle")
        live.live(runtime, pids)
        for place, (content, reason) in handed_out.items():
            live.answer(place, content, reason)

        if self._options.breaking:
            self._say("killing its supervisor and starting it again")
            await faults.kill_supervisor()
            self._runtimes.add(node.runtime)
        self._say("ending it under load")
        status = await faults.terminate()
        if status != 0:
            self._undone.append(f"terminate: it ended with status {status}")
        if node.tpm is not None:
            node.tpm.stop()

        scanner = Scanner(self._index(composer, planted, tokenizers))
        self._say(f"searching for {len(composer.markers)} markers")
        search = Search(scanner, planted, where)
        search.traces(node.traces, *spans)
        self._search(scanner, search, where, image)
        scanner.take(early)
        return self._outcome(began, composer, faults, scanner, planted, where, stated)

    def _where(self, began: int, base: Path, node: Node) -> Where:
        return Where(
            since=began - 2,  # a file's time may be of the tick before
            base=base,
            place=node.place,
            skip=(base, Path(node.settings.model.path)),
            home=Path.home(),
            file_systems=self._options.file_systems,
        )

    # --- what is sent ---

    async def _make_all(self, node: Node, composer: Composer) -> tuple[int, int]:
        """Every kind once. Gives how many spans of engines arrived, and how many at least were to."""
        self._say("sending marked requests of every kind")
        for shot in composer.all():
            await self._make(node, shot)
        wanted = max(1, self._returned)  # an answer that held a marker was an engine's
        return await asyncio.to_thread(node.traces.arrived, wanted), wanted

    async def _make(self, node: Node, shot: Shot) -> None:
        self._exchanges[shot.kind] += 1
        for content in {shot.body, *(text.encode() for text in shot.markers)}:
            self._look_for(content, shot.kind)
        answer = await Caller(node.port, node.certificate, node.keys.asking).send(shot)
        self._returned += _holds(answer, shot)
        if answer.status:
            self._look_for(answer.content, shot.kind)

    def _look_for(self, content: bytes, kind: str) -> None:
        """Remember the digests of a content, which itself may be large."""
        if len(content) >= forms.PIECE:
            needles = list(forms.of_digests(content, kind))
            self._digests.setdefault(needles[0].data, needles)

    async def _break(self, node: Node, faults: Faults) -> None:
        deadline = time.monotonic() + self._options.seconds
        while True:
            self._say(f"breaking what can be broken, under load (seed {self._options.seed})")
            await faults.round()
            if time.monotonic() >= deadline:
                return

    async def _handed_out(self, node: Node) -> dict[str, tuple[bytes | None, str]]:
        url = f"https://127.0.0.1:{node.port}"
        found: dict[str, tuple[bytes | None, str]] = {}
        for place, export in (("log_export", exports.as_file), ("otlp_export", exports.as_otlp)):
            try:
                found[place] = (await asyncio.to_thread(export, url, node.keys.exporting, node.place), "")
            except RluError as error:
                found[place] = (None, f"{error.code}")
        listener = node.runtime / "gateway" / "metrics.sock"
        try:
            found["metrics"] = (await asyncio.to_thread(exports.metrics, listener), "")
        except OSError as error:
            found["metrics"] = (None, type(error).__name__)
        return found

    # --- what is searched ---

    def _index(self, composer: Composer, planted: Plants, tokenizers: Sequence[Tokenizer]) -> Index:
        needles: list[Needle] = list(planted.needles)
        for text, kind in composer.markers.items():
            needles += forms.of_text(text, kind, tokenizers)
        needles += (needle for digests in self._digests.values() for needle in digests)
        return Index(needles)

    def _tokenizers(self, model: Path) -> list[Tokenizer]:
        file = model / "tokenizer.json"
        try:
            library = importlib.import_module("tokenizers")
            loaded = library.Tokenizer.from_file(str(file))
        except Exception as error:  # whatever the library raises, it means the same
            self._undone.append(
                f"tokens: the model's token ids are not searched for ({type(error).__name__})"
            )
            return []
        self._tokens = True
        return [lambda text: [int(i) for i in loaded.encode(text, add_special_tokens=False).ids]]

    def _search(self, scanner: Scanner, search: Search, where: Where, image: Image) -> None:
        if not search.runtime_gone(self._runtimes):
            where.cannot("runtime", "a runtime directory was left behind")
        began = time.monotonic()
        try:
            search.plant()
            if image.mounted:
                search.plant_on_disk()
            search.files()
        finally:
            search.clear()
        if image.mounted:
            try:
                image.unmount()
                search.disk(image.file)
            except ImageError as error:
                where.cannot("disk", str(error))
        else:
            where.cannot("disk", "there is none of the test's own")
            scanner.at("disk")
        size = sum(account.size for account in scanner.places.values())
        self._say(f"searched {size / MIB:.0f} MiB in {time.monotonic() - began:.1f} s")

    # --- what it adds up to ---

    def _outcome(
        self,
        began: int,
        composer: Composer,
        faults: Faults,
        scanner: Scanner,
        planted: Plants,
        where: Where,
        stated: InstanceClaims,
    ) -> Outcome:
        found = places.leaks(scanner)
        counted: dict[str, Place] = {}
        for place, account in places.accounts(scanner, where, planted).items():
            counted[place] = Place(
                searched=place not in where.unsearched,
                items=account.items,
                size=account.size,
                planted=planted.planted(place),
                found=planted.found(place, scanner),
                leaks=sum(leak.startswith(f"{place}: ") for leak in found),
            )
        undone = list(self._undone)
        undone += [f"{place}: {reason}" for place, reasons in where.unsearched.items() for reason in reasons]
        undone += [
            f"{fault}: {reason}" for fault, reason in faults.omitted.items() if fault not in faults.made
        ]
        undone += [
            f"{fault}: was not made"
            for fault in FAULTS
            if fault not in faults.made and fault not in faults.omitted
        ]
        if not self._returned:
            undone.append("returned: no answer held a marker; this model cannot be made to repeat one")
        findings = Findings(
            began=began,
            ended=int(time.time()),
            seed=self._options.seed,
            markers=len(composer.markers),
            returned=self._returned,
            forms=len(forms.FORMS) * (1 + len(KINDS)),
            tokens=self._tokens,
            exchanges={kind: count for kind, count in self._exchanges.items() if count},
            faults=dict(faults.made),
            places=counted,
            model_manifest=stated.model_manifest,
            engine=stated.engine,
            gateway=Software(stated.gateway.name, stated.gateway.version),
        )
        return Outcome(findings, found, undone)


def _model_name(node: Node) -> str:
    answer = json.loads((node.runtime / "facts" / "instance.json").read_text("utf-8"))
    return str(answer["model"]["name"])


def _holds(answer: Answer, shot: Shot) -> bool:
    """Whether an answer holds a marker of its request, in one piece or in the pieces of a stream. Errors may repeat what was wrong; they do
    not count."""
    if answer.status != 200 or not shot.markers:
        return False
    pieces = []
    for match in _RETURNED.finditer(answer.content):
        try:
            pieces.append(str(json.loads(match[1])))
        except ValueError:
            continue
    said = "".join(pieces).replace("\\", "")
    return any(marker in said for marker in shot.markers)
