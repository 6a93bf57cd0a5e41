"""Trains, evaluates and predicts a text task with adapters on BERT; see --help."""
from adapter_bert.cli.scripts import run_classifier

if __name__ == "__main__":
    run_classifier()
