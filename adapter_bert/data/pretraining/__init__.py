"""Text files to instances for pre-training BERT, as TFRecord files."""
