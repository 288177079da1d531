"""A run as files for other programs: CSV, Parquet, a zip archive."""
