"""The commands: arguments in, one call out. Nothing imports this package."""
