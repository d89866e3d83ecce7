"""The command `tickcell`, above the client, the server and the model; the extra `cli`.

Nothing here is for a program to import: that is `tickcell.client` and `tickcell.model`.
"""
