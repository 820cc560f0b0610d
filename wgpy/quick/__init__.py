"""A tunnel by a file of wg-quick's format: what the file says, done to the host, and undone.

`tunnel` has the order of things, each other module one part of the host. The process is
`python -m wgpy.quick`.
"""
