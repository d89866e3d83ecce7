"""Measures what tickcell costs, beside what stands next to it. Run it as `python -m bench`.

Times differ between machines, and on one from minute to minute; so both sides of each
measure alternate in one run, and what is to be compared is their ratio.
"""
