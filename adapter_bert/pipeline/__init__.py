"""Text to batches: word-piece ids, TFRecord files, batches of similar length."""
