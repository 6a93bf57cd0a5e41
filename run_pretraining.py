"""Trains BERT further, or from nothing, on masked words and next sentences.

    python run_pretraining.py --input_file='records/*.tfrecord' --output_dir=out/domain \\
        --bert_dir=uncased_L-12_H-768_A-12 --do_train --do_eval --learning_rate=1e-4 \\
        --num_train_steps=10000 --num_warmup_steps=1000
"""
from adapter_bert import run_command
from adapter_bert.training.pretraining import Settings, run

if __name__ == "__main__":
    run_command.start(Settings, run)
