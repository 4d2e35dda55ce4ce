"""The one part that reaches out, in a process and pod of its own: key sets of issuers, TokenReviews, telemetry. It never sees a prompt."""
