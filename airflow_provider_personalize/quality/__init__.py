"""Whether loaded output is good enough to use: its figures, what is expected of them, and a page for people."""
