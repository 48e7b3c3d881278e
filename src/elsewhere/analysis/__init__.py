"""What goes beyond a benchmark: how stable representations are, what the parts of a method are worth.

What needs torch is imported when it is first asked for: the command line, and the report, need not wait for it.
"""
