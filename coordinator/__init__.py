"""The coordinator: networks, nodes, tokens, and the map that each node gets.

Imports from wgpy only keys, addresses, errors and mesh.
"""
