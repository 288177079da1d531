"""The command line ``ml-dash``: a module for each command, and the modules that they share."""
