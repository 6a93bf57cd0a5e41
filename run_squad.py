"""Trains question answering with adapters on BERT, and answers the questions of a file.

Files are in SQuAD's JSON form, 1.1 or 2.0; an answer is a part of the question's context.

    python run_squad.py --train_file=train-v1.1.json --predict_file=dev-v1.1.json \\
        --bert_dir=uncased_L-12_H-768_A-12 --do_train --do_predict --learning_rate=3e-4 \\
        --output_dir=out/squad
"""
from adapter_bert import run_command
from adapter_bert.training.named_task import squad_task as task_of
from adapter_bert.training.settings import SquadSettings

if __name__ == "__main__":
    run_command.start(SquadSettings, run_command.of_task(task_of))
