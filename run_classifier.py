"""Trains, evaluates and predicts a text task with adapters on BERT.

    python run_classifier.py --task_name=MRPC --data_dir=glue/MRPC --output_dir=out/mrpc \\
        --bert_dir=uncased_L-12_H-768_A-12 --do_train --do_eval --learning_rate=3e-4 \\
        --num_train_epochs=5
"""
from adapter_bert import run_command
from adapter_bert.training.named_task import text_task as task_of
from adapter_bert.training.settings import Settings

if __name__ == "__main__":
    run_command.start(Settings, run_command.of_task(task_of))
