"""`rlu demo`: everything a newcomer needs to see a locked, attested deployment answer and be verified, kept below one directory."""
