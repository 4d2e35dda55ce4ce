"""Who goes first when the engine is busy. Pure; time is an argument.

- `window`: how many requests the engine can use at once, learnt from what it says about itself.
- `queue`: who of those that wait is next.
"""
