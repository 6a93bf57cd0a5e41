"""Reading the files that people have: lines, tables, bad rows, labels, and the automatic split."""
