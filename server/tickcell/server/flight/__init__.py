"""The flight recorder: what a server applies, in files; and those files run again."""
