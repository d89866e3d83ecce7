"""The commands of `tickcell`, one module each; those of the server are with it."""
