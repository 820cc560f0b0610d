"""`python -m coordinator`: the same as `wgpy coordinator`."""

from coordinator.cli import coordinator

coordinator(prog_name="python -m coordinator")
