"""A sealed model in a pod: the attestor's container opens it, the engine's loads it. Each writes where the other only reads.

    engine-facts/weights<n>.json   the engine's: which sealed model it is to load, and for which turn; gone when it has loaded
    weights/weights<n>.json        the attestor's: what became of that turn
    weights/weights<n>-<header>/   the attestor's: the opened files, readable for the pod's group

The attestor's container has the TEE's device, which the broker's question needs, and the state, where its crossings are noted. It opens the
model that its own settings name, and nothing that is asked for by path. A turn is a random word for one loading, so that no answer to a
container that was killed is taken for another's. When the engine's word is gone, the weights are wiped.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_server.broker.errors import SealBroken
from rlu_server.broker.sealed_files import read_header
from rlu_server.settings import Settings
from rlu_server.supervisor import facts
from rlu_server.supervisor.errors import ServeError, StartFailed, Unavailable, of_exit_code
from rlu_server.supervisor.holding import Holding
from rlu_server.supervisor.runtime import Runtime
from rlu_server.supervisor.streams import Event
from rlu_server.supervisor.weights import SHARED, Weights, name_of, refused

ENGINE_FACTS = "engine-facts"
"""The directory in which the engine's container says things."""
LOOK_S = 0.2
TAKEN_S = 300.0
"""For the attestor's container to be there and to begin; opening then takes as long as it takes."""
MAX_FILE = 16 << 10


Form = TypeVar("Form", bound=msgspec.Struct)


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an engine's container is to load."""

    header: str
    turn: str


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of a turn."""

    turn: str
    state: Literal["opening", "open", "refused"]
    message: str = ""
    exit_code: int = 0


def read(path: Path, kind: type[Form]) -> Form | None:
    """A file of one of these forms; None while there is none."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        return msgspec.json.decode(data, type=kind) if len(data) <= MAX_FILE else None
    except (OSError, msgspec.MsgspecError):
        return None


class AskedWeights(Holding):
    """The engine's side: has the attestor's container open a model.

    Raises at construction:
        ServeError: it is no sealed model that can be read.
    """

    def __init__(self, settings: Settings, runtime: Runtime, sealed: Path, number: int) -> None:
        try:
            header = read_header(sealed)
        except RluError as error:
            raise refused(sealed, error) from error
        except OSError as error:
            raise Unavailable(f"{sealed}: {error.strerror}") from error
        shared = runtime.path / SHARED
        super().__init__(
            shared / name_of(header, number),
            header.manifest,
            keep=settings.weights.after_loading == "keep",
        )
        self._header = b64u(header.digest)
        self._wish = runtime.path / ENGINE_FACTS / f"weights{number}.json"
        self._answer = shared / f"weights{number}.json"
        self._turn = ""

    def close(self) -> None:
        self._wipe()

    def _is_open(self) -> bool:
        found = self._answered()
        return found is not None and found.state == "open"

    def _open(self) -> None:
        self._turn = secrets.token_hex(16)
        facts.write_json(self._wish, {"header": self._header, "turn": self._turn})
        try:
            self._wait()
        except BaseException:
            self._wipe()
            raise

    def _wait(self) -> None:
        begin_by = time.monotonic() + TAKEN_S
        while True:
            if self._abandoned:
                raise StartFailed("the weights were not opened: the server is stopping")
            found = self._answered()
            if found is None:
                if time.monotonic() > begin_by:
                    raise Unavailable(
                        f"the attestor's container has not begun to open the weights after {TAKEN_S:.0f} s; see its log"
                    )
            elif found.state == "open":
                return
            elif found.state == "refused":
                raise of_exit_code(found.exit_code)(found.message)
            else:
                begin_by = time.monotonic() + TAKEN_S
            time.sleep(LOOK_S)

    def _wipe(self) -> None:
        """The attestor's container does it when it sees that our word is gone."""
        self._turn = ""
        self._wish.unlink(missing_ok=True)

    def _answered(self) -> Answer | None:
        found = read(self._answer, Answer)
        return found if found is not None and found.turn == self._turn else None


class Handover:
    """The attestor's side: runs in its supervisor beside the attestor, which knows nothing of it.

    Args:
        models: the models' directories, as the settings name them: links are followed at each opening.
    """

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        models: Sequence[str],
        on_event: Event,
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._models = [Path(one) for one in models]
        self._engine_facts = runtime.path / ENGINE_FACTS
        self._on_event = on_event
        self._opened: dict[int, Weights] = {}

    async def run(self) -> None:
        """Until cancelled; an opening that is under way then ends.

        Raises:
            OSError: weights could not be wiped.
        """
        self._loop = asyncio.get_running_loop()
        keeping = [
            asyncio.ensure_future(self._keep(number, model)) for number, model in enumerate(self._models, 1)
        ]
        try:
            await asyncio.gather(*keeping)
        finally:
            for one in keeping:
                one.cancel()
            for weights in self._opened.values():
                weights.abandon()
            await asyncio.gather(*keeping, return_exceptions=True)

    async def _keep(self, number: int, model: Path) -> None:
        """Follow what the engine's container wants of one model."""
        served: Wish | None = None
        holding = False
        while True:
            await asyncio.sleep(LOOK_S)
            wish = read(self._engine_facts / f"weights{number}.json", Wish)
            if wish == served:
                continue
            before, served = self._opened.get(number) if holding else None, wish
            holding = wish is not None and await self._serve(number, model, wish)
            if before is not None:
                await asyncio.to_thread(before.let_go)

    async def _serve(self, number: int, model: Path, wish: Wish) -> bool:
        """Whether it is open, and held for this turn."""
        await self._say(number, Answer(wish.turn, "opening"))
        try:
            weights = await asyncio.to_thread(self._weights, number, model, wish)
            await asyncio.to_thread(weights.hold)
        except ServeError as error:
            await self._say(number, Answer(wish.turn, "refused", str(error), error.exit_code))
            return False
        except OSError as error:
            text = f"{model} could not be opened: {error.filename or SHARED}: {error.strerror}"
            await self._say(number, Answer(wish.turn, "refused", text, Unavailable.exit_code))
            return False
        except Exception as error:
            # A defect. Whoever waits hears of it; its text could hold anything, so only its kind is told.
            reason = type(error).__name__
            self._on_event("weights.failed", {"reason": reason})
            text = f"{model} could not be opened: {reason}; that is a defect: report it"
            await self._say(number, Answer(wish.turn, "refused", text, StartFailed.exit_code))
            return False
        await self._say(number, Answer(wish.turn, "open"))
        return True

    def _weights(self, number: int, model: Path, wish: Wish) -> Weights:
        """Those of before, if they are of the same model. Raises ServeError."""
        try:
            sealed = model.resolve(strict=True)
            header = read_header(sealed)  # once: a moment later it may be gone
        except RluError as error:
            raise refused(model, error) from error
        except OSError as error:
            raise Unavailable(f"{model}: {error.strerror}; mount the model there") from error
        if b64u(header.digest) != wish.header:
            raise refused(
                model, SealBroken("weights.changed", "the engine's container sees another model; restart it")
            )
        known = self._opened.get(number)
        if known is not None and known.place.name == name_of(header, number):
            return known
        if known is not None:
            known.close()
        made = Weights(self._settings, self._runtime, sealed, number, None, shared=True)
        made.on_event = self._tell
        self._opened[number] = made
        return made

    def _tell(self, name: str, values: dict[str, str | int]) -> None:
        """From the thread that opens or wipes."""
        self._loop.call_soon_threadsafe(self._on_event, name, values)

    async def _say(self, number: int, answer: Answer) -> None:
        """Until there is room for it: whoever asked waits."""
        place = self._runtime.path / SHARED / f"weights{number}.json"
        while True:
            try:
                facts.write_json(place, msgspec.to_builtins(answer))
                return
            except OSError:
                await asyncio.sleep(LOOK_S)
