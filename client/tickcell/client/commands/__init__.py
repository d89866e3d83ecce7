"""The commands of `tickcell` that belong to the client, one module each."""
