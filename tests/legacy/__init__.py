"""Folders of runs as the published client writes them, made by hand, and the part of them that its upload reads."""
