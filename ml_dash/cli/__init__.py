"""The command line ``ml-dash``: the only place that prints."""
