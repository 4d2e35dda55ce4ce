"""TPM 2.0, as far as several kinds of evidence share it; it knows none of them.

constants algorithm   numbers under the specification's names, and reading them
public attest         structures from their marshalled bytes: public areas; what a TPM signs, and its signature
signatures            signatures by a key whose public area fixes the scheme
policy                digests over PCRs, and the policy of an instance key
eventlog              the firmware's event log and its replay
ima_log ima           the kernel's list of what it measured, and its replay into PCR 10
members               what every evidence item with a TPM holds
describe              all of it as rows for people
checks                the verification steps that do not depend on who vouches for the attestation key
"""
