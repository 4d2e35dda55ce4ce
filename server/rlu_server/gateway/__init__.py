"""The gateway process: `python -m rlu_server.gateway --config FILE`."""
