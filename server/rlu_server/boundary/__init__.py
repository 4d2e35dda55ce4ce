"""Makes boundary reports (FORMATS section 18) from a state directory: `rlu boundary report`.

    kept.py      the logs of all instances below it, and the tallies in them
    making.py    which of them a period needs, proofs, figures, and a look at the whole with the verifier's own eyes
    egress.py    the journal of what left

It reads files and needs neither a running server nor its keys; the attestor takes no part in it. So no report can make it sign anything:
what is behind the figures was signed when it happened.
"""
