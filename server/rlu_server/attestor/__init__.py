"""The attestor process: the only holder of the instance key. It never sees content."""
