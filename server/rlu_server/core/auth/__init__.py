"""Who is asking, decided without I/O: tokens, client certificates, and how guessing is slowed down."""
