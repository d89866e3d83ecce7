"""Measures what a tick costs, beside what gRPC alone costs. Run it as `python -m bench`.

Times differ between machines, and on one from minute to minute; so a tick and an echo
alternate on one server, and what is to be compared is their ratio.
"""
