"""Trains BERT further, or from random weights, on masked words and next sentences; see --help."""
from adapter_bert.cli.scripts import run_pretraining

if __name__ == "__main__":
    run_pretraining()
