"""`rlu serve`: scratch, start order, facts, restarts and drain of attestor, engine and gateway; and `rlu demo` on top of it."""
