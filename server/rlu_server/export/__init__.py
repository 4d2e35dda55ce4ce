"""The log's export: what is sent (`records`), where to (`sinks`, `otlp`), how far it has come (`cursor`); and backups. Not in the lock."""
