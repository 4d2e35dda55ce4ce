"""Collectors of evidence, one for each device interface (DESIGN, "Collecting evidence")."""
