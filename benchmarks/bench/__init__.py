"""`make bench`: the gateway beside its peers, all in one run, on the same two cores, against the same scripted engine."""
