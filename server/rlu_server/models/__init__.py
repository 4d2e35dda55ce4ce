"""Models on disk: their manifest (`measure`), and the demo model (`demo`)."""

from rlu_server.models.manifest import Manifest, ManifestError, measure

__all__ = ["Manifest", "ManifestError", "measure"]
