"""The HTTP API. A handler parses, authorises, calls and answers."""
