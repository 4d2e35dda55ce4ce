"""One module for each group of vectors; `generate.py` writes what they make."""
