"""Trains question answering with adapters on BERT; see --help."""
from adapter_bert.cli.scripts import run_squad

if __name__ == "__main__":
    run_squad()
