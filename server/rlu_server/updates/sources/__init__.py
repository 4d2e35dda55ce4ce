"""Where a model comes from: a directory, a web server, S3, an OCI registry, a hub's mirror. Each gives files by their paths."""
