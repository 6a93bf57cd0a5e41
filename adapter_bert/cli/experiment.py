"""adapter-bert experiment: a sweep of runs, with its tables and figures."""
import logging

from adapter_bert.errors import InputError


def add(commands):
    """Adds `experiment` to argparse's subparsers."""
    parser = commands.add_parser(
        "experiment", help="a sweep of runs, and its tables and figures",
        description="Does every run of an experiment that has no result yet, then writes tables "
                    "and figures of all there are.")
    parser.add_argument("config", metavar="CONFIG.json", help="the experiment's file")
    parser.add_argument("--results", dest="folder", required=True, metavar="FOLDER",
                        help="a file a run; may be shared by several machines")
    parser.add_argument("--report", metavar="FOLDER",
                        help="folder of tables and figures; the results folder unless given")
    parser.add_argument("--workers", type=int, default=1, metavar="N",
                        help="runs at the same time, which share this machine's cores (1)")
    parser.add_argument("--retry_failed", action="store_true",
                        help="try runs again that went wrong")
    parser.add_argument("--report_only", action="store_true",
                        help="no runs, only tables and figures of what is there")
    parser.set_defaults(run=_experiment)


def _experiment(config, folder, report, workers, retry_failed, report_only):
    if workers < 1:
        raise InputError(f"--workers={workers}: give 1 or more")
    if not folder:
        raise InputError("--results= names no folder")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from adapter_bert.research.report import paper_report as reports
    from adapter_bert.research.sweep import experiment_config as configs
    from adapter_bert.research.sweep import result_files
    from adapter_bert.research.sweep.run_sweep import sweep
    experiment = configs.read(config)
    failed = {} if report_only else sweep(experiment, folder, workers, retry_failed)
    written = reports.write(experiment, folder, report or folder)
    print(f"{written.done} of {written.planned} runs; {written.path}")
    if failed:
        raise InputError(result_files.in_words(folder, failed))
