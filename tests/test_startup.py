"""What a command loads before it does anything."""
import subprocess
import sys


def test_a_training_command_does_not_load_what_only_scores_need():
    code = ("import sys, gc\nimport adapter_bert.cli.run_command\n"
            "assert gc.get_threshold()[0] > 10_000\n"
            "print([name for name in ('sklearn', 'seqeval', 'matplotlib', 'huggingface_hub')"
            " if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
