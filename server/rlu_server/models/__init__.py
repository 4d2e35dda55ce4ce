"""Models on disk: their manifest (`measure`), its signature (`signing`), and the demo model (`demo`)."""

from rlu_server.models.errors import ManifestError
from rlu_server.models.manifest import Manifest, measure

__all__ = ["Manifest", "ManifestError", "measure"]
