"""What a node and a coordinator say to each other. Pure: no I/O, no clock; shared by both sides."""
