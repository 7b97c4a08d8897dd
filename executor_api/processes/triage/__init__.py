"""Finds what is wrong with a machine's processes, who made it and what to do. Opens no socket."""
