"""A run's directory: names, layout, journals, documents, index, compaction and reading."""
