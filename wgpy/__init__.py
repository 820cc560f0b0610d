"""WireGuard in user space, and a mesh made of it."""

__version__ = "0.1.0"
