"""The command `adapter-bert`: one module per subcommand, each with a function `add(commands)`."""
