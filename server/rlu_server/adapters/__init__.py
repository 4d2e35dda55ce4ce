"""The gateway's I/O: HTTP on both sides, the attestor's socket, TLS, the bridge to the application of our own routes."""
