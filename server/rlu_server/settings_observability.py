"""The settings of `[metrics]` and `[tracing]`: what an operator sees of a running server. A part of `settings.py`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rlu_server.sections import Section

UNIX = "unix"
OFF = "off"


class Metrics(Section):
    """Prometheus metrics, on a listener of their own: their totals tell how busy everybody is."""

    listen: Annotated[
        str, Field(pattern=r"^(unix|off|[0-9.]{7,15}:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5})$")
    ] = UNIX
    """`unix`: the socket `gateway/metrics.sock` in the runtime directory. `address:port`: plain HTTP, for whoever can reach it. `off`."""
    tenants: Annotated[int, Field(ge=0, le=50)] = 20
    """So many tenants have series of their own, under their pseudonyms; all further ones are `other`."""

    @property
    def address(self) -> tuple[str, int] | None:
        """Where to listen, if it is a port."""
        if self.listen in (UNIX, OFF):
            return None
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that are listened on: one, or none."""
        return () if self.address is None else (self.address[1],)


class Tracing(Section):
    """OpenTelemetry traces without content, handed to the relay of `[auth]`, which passes them to its collector."""

    sample: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the requests that are traced; 0: none. Needs `auth.relay`."""
    continue_clients: bool = False
    """Whether the trace id of a client's `traceparent` is kept. Never forwarded to the engine; whether to trace stays our decision."""
