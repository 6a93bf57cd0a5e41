"""Many tasks on one BERT behind HTTP, and what other servers take."""
