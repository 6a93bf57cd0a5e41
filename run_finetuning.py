"""Fine-tunes a plain base or a meta-trained start on domains; see --help."""
from adapter_bert.cli.scripts import run_finetuning

if __name__ == "__main__":
    run_finetuning()
