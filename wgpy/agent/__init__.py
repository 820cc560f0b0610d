"""A node of a mesh: joins, follows its map, configures a device."""
