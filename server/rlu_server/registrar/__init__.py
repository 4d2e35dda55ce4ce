"""The registrar: the one who checks that an attestation key is in a genuine TPM, and says where that machine stands.

It works on files and needs neither network nor TPM: a directory holds its key, its certificate, open challenges and a record of what it
issued. Whoever holds that directory can endorse any machine; keep it off the machines it endorses (the demo cannot, and says so).
"""
