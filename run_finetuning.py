"""Fine-tunes a plain base or a meta-trained start, and asks domains that it has never seen.

    python run_finetuning.py --data=dataset.json --test_domains=books,music --num_domain=1 \\
        --bert_dir=uncased_L-12_H-768_A-12 --output_dir=out/low_resource
    python run_finetuning.py --data=dataset.json --test_domains=books,music --shots=0,8,16,80 \\
        --bert_dir=uncased_L-12_H-768_A-12 --bert_model=out/meta/ckpt/meta.epoch-3.step-30 \\
        --output_dir=out/few_shots
"""
from adapter_bert import run_command
from adapter_bert.metalearning.finetuning import run
from adapter_bert.metalearning.finetuning_settings import FinetuningSettings

if __name__ == "__main__":
    run_command.start(FinetuningSettings, run)
