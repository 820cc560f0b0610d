"""The configuration protocol of wg(8): `messages` is pure, `server` owns the socket."""
