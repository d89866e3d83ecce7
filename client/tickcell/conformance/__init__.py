"""The compliance suite: what every server of tickcell.v1 must do, whoever wrote it.

`tickcell conform` runs it at an address. It speaks raw messages over gRPC, to any model with any
sensors, and steps and deletes only sessions that it created.
"""
