"""What training takes of the simulated car: its data sets, and the mark to be reached.

Like `tickcell.model.keras`, it needs the extra `train`.
"""
