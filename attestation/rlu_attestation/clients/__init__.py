"""What a developer's agents and SDKs need to be told to use a server of RLU's: files, variables and a command line, one module per client.

Rules: a file of ours lies beside the client's own configuration and never in its place, so that a client is given back by leaving one
option away; no key is ever in a file, only the name of the variable that holds it; whatever a client would send elsewhere by itself
(traces, telemetry, questions for updates) is switched off. Everything here is a pure function of `Server`; only `served` asks and only
`writing` writes.
"""

from rlu_attestation.clients.setup import Client, File, Server, Setup
from rlu_attestation.clients.table import CLIENTS, Kind

__all__ = ["CLIENTS", "Client", "File", "Kind", "Server", "Setup"]
