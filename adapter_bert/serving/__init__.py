"""Tasks as SavedModels: text in, predictions out, for TensorFlow Serving."""
