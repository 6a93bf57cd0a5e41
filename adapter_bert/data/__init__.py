"""From the files that people have to batches: tables, labels, splits, records, padding."""
