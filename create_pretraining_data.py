"""Makes TFRecord files for pre-training BERT from text files; see --help."""
from adapter_bert.cli.scripts import create_pretraining_data

if __name__ == "__main__":
    create_pretraining_data()
