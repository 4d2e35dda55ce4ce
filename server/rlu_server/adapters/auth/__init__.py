"""Authentication's effects: files that are watched, TLS that asks for certificates, questions to the cluster."""
