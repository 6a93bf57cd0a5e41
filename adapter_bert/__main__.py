"""`python -m adapter_bert`, the same as the command `adapter-bert`."""
from adapter_bert.cli.main import main

if __name__ == "__main__":
    main()
