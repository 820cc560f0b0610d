"""Names of the mesh on this host: a small responder, and telling the host's resolver of it.

`message` is the wire, `zone` what is answered, `resolv_conf` the file's text: pure. `responder` and
`upstream` are the sockets, `resolvers` what the host has, `names` brings them together.
"""
