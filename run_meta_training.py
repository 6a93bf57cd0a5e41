"""Meta-trains BERT, or adapters on it, so that a few examples teach a new domain.

    python run_meta_training.py --data=dataset.json --validation_domains=dvd,video \\
        --test_domains=books,music --bert_dir=uncased_L-12_H-768_A-12 --output_dir=out/meta
"""
from adapter_bert import run_command
from adapter_bert.metalearning.meta_settings import MetaSettings
from adapter_bert.metalearning.training import run

if __name__ == "__main__":
    run_command.start(MetaSettings, run)
