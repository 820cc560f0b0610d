"""WireGuard's protocol without I/O: bytes, instants and random numbers are handed in.

Reading order: constants, messages, noise, timers, peer, interface. `actions` is the seam to the engine.
"""
