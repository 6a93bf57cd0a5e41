"""Meta-trains BERT, or adapters on it; see --help."""
from adapter_bert.cli.scripts import run_meta_training

if __name__ == "__main__":
    run_meta_training()
