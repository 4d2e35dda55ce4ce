"""Model updates: fetched by a job of its own (`sources`, `fetching`), kept and switched in a `store`, decided without I/O (`deciding`)."""
