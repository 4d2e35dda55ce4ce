"""Boundary reports (FORMATS section 18): what crossed a deployment's boundary in a period, with the log entries that show it.

    report.py    the document, signed by whoever makes it
    figures.py   from tallies to figures: the same for who makes a report and for who verifies it
    check.py     what a verifier looks at
    recount.py   the same once more from exported entries
    page.py      a verified report as a page to print

The signature says whose report it is, and is all there is behind figures that are *asserted*. The others do not rest on it: they follow
from entries of the log that are in the report, each under a head that the instance key signed.
"""
