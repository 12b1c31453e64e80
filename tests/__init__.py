"""A package with a file of its own, which installed packages that bring a ``tests`` along cannot stand before."""
