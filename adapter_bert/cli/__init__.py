"""The command line of `adapter-bert`: one module per command."""
