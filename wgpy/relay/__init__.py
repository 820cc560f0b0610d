"""A relay: carries packets for nodes that cannot reach each other (docs/relay.md)."""
