"""Trees as the published client writes them, made by hand, and what its upload takes from a tree."""
