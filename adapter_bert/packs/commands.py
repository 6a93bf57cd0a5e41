"""`adapter-bert pack list`, `push`, `pull` and `index`: sharing packs from the command line."""
import os

from adapter_bert.packs import hub, index

HUB_HELP = "folder, https:// address of one, or hf://OWNER/REPO[@REVISION]"


def add(commands):
    """Adds the subcommands to what argparse's add_subparsers returned."""
    _add_list(commands)
    _add_push(commands)
    _add_pull(commands)
    _add_index(commands)


def list_packs(**options):
    """Prints the packs of a hub, a line each."""
    _quiet()
    found = index.search(hub.entries(options["hub_name"]), options["words"], options["base"],
                         options["task"])
    print("\n".join(index.table(found)) if found else "no pack is like that")


def push(pack_path, hub_name, name, overwrite):
    """Puts a pack into a folder of packs."""
    _quiet()
    name = name or os.path.basename(os.path.abspath(pack_path)).removesuffix(".zip")
    written = hub.push(pack_path, hub_name, name, overwrite)
    print(f"{name}: pushed to {hub_name}" if written else f"{name}: already there, unchanged")


def pull(hub_name, name, destination):
    """Brings a pack from a hub to this machine."""
    _quiet()
    destination = destination or f"{name}.zip"
    written = hub.pull(hub_name, name, destination)
    print(f"{destination}: pulled" if written else f"{destination}: already there, unchanged")


def make_index(folder):
    """Writes the index of a folder of packs."""
    _quiet()
    print(f"{folder}: {len(hub.make_index(folder)):,} packs")


def _quiet():
    """No greetings of TensorFlow, no notes of huggingface_hub's tries; errors still raise."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")


def _add_list(commands):
    parser = commands.add_parser("list", help="what a hub holds, and what of it has these words",
                                 description="Lists the packs of a hub, a line each.")
    parser.add_argument("hub_name", metavar="HUB", help=HUB_HELP)
    parser.add_argument("words", metavar="WORD", nargs="*",
                        help="to be in the name, task, base, labels or description")
    parser.add_argument("--base", help="name or beginning of the fingerprint of the base")
    parser.add_argument("--task", help="name of the task")
    parser.set_defaults(run=list_packs)


def _add_push(commands):
    parser = commands.add_parser("push", help="a pack into a folder of packs",
                                 description="Puts a pack into a folder, and into its index.")
    parser.add_argument("pack_path", metavar="PACK", help="folder or .zip of the pack")
    parser.add_argument("hub_name", metavar="HUB", help="folder; made where it is missing")
    parser.add_argument("--name", help="what the hub shall call it; as PACK when left out")
    parser.add_argument("--overwrite", action="store_true",
                        help="replace another pack of that name")
    parser.set_defaults(run=push)


def _add_pull(commands):
    parser = commands.add_parser("pull", help="a pack of a hub to this machine",
                                 description="Downloads a pack, goes on where an earlier pull was "
                                             "cut off, and checks every byte.")
    parser.add_argument("hub_name", metavar="HUB", help=HUB_HELP)
    parser.add_argument("name", metavar="NAME", help="of the pack in the hub")
    parser.add_argument("destination", metavar="DST", nargs="?",
                        help="file that ends in .zip, or folder to make; NAME.zip when left out")
    parser.set_defaults(run=pull)


def _add_index(commands):
    parser = commands.add_parser("index", help="the index of a folder of packs, made anew",
                                 description="Reads and checks every .zip of a folder and writes "
                                             "its index.json.")
    parser.add_argument("folder", metavar="FOLDER", help="where the packs are")
    parser.set_defaults(run=make_index)
