"""The log as an auditor, a witness and an exporter see it: pure, like all verification; `cli/log.py` does the asking."""
