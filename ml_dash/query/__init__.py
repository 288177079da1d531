"""Read one run: its streams as lists, columns and tables. Only missing columnar copies are written."""
