"""adapter-bert pack: what its subcommands take, and which function does each.

Nothing here imports TensorFlow before a subcommand needs it.
"""
import argparse
import dataclasses
import functools
import os
import shlex

from adapter_bert.errors import InputError
from adapter_bert.plain_text import plain, plain_json

PACK: dict = {"metavar": "PACK", "help": "a pack: its folder or .zip"}
HUB = {"metavar": "HUB", "help": "a folder, its http(s):// address, or hf://owner/repo"}


def pack_in(path: str) -> str:
    """The path of a pack: `path`, or the pack that a run left in the folder `path`."""
    inside = os.path.join(path, "pack")
    if os.path.isfile(os.path.join(path, "pack.json")) or not os.path.exists(inside):
        return path
    return inside


def add(commands: argparse._SubParsersAction) -> None:
    """Adds `pack` and its jobs to argparse's subparsers."""
    jobs = "\n".join(f"  {name:<10} {text}" for name, (_, text, _) in _JOBS.items())
    parser = commands.add_parser(
        "pack", help="tasks as small files: show, convert, share", usage="%(prog)s JOB ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"Tasks as small files. The jobs, each with a --help of its own:\n\n{jobs}")
    parser.add_argument("job", choices=_JOBS, metavar="JOB", help="what to do")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="what the job takes")
    parser.set_defaults(run=functools.partial(_run, type(parser)))


def _run(parser_class, job, words):
    """Does a job; its options may stand between the other words, which subparsers do not allow."""
    function, text, arguments = _JOBS[job]
    parser = parser_class(prog=f"adapter-bert pack {job}",
                          description=text[0].upper() + text[1:] + ".")
    for argument, options in arguments.items():
        parser.add_argument(argument, **options)
    function(**vars(parser.parse_intermixed_args(words)))


def _show(pack, as_json):
    from adapter_bert.packs import store
    found = store.read(pack_in(pack))
    text = (plain_json(found.manifest.to_bytes().decode()) if as_json
            else "\n".join(lines(found)) + "\n")
    print(text, end="")


def lines(pack):
    """What a person wants to know of a store.Pack, line by line."""
    manifest, weights = pack.manifest, pack.manifest.weights
    count = sum(value.size for value in pack.weights.values())
    adapter = manifest.adapter and ", ".join(
        f"{name} {value}" for name, value in manifest.adapter.to_dict().items())
    rounded = ", measured before rounding" if weights.dtype == "bfloat16" else ""
    return [f"{name:<12} {plain(value, 10_000)}" for name, value in {
        **({"warning": manifest.warning} if manifest.warning else {}),
        "task": f"{manifest.task}, {manifest.head}" + {
            True: " of pairs", False: " of single texts", None: ""}[manifest.pair],
        "labels": ", ".join(manifest.labels) or {
            "regression": "a number", "spans": "parts of the second text"}.get(
                manifest.head, "none"),
        "base": f"{manifest.base.name}, fingerprint {manifest.base.fingerprint}",
        "trained": f"{manifest.tuning}: {count:,} parameters",
        "adapter": adapter or "none",
        "weights": f"{weights.bytes / 1e6:.1f} MB of {weights.dtype}",
        "texts": f"{'lower' if manifest.do_lower_case else 'as written'} case, at most "
                 f"{manifest.max_seq_length} word pieces" + windows(manifest.spans),
        "scores": ", ".join(f"{name} {value:.4g}" for name, value in manifest.metrics.items())
                  + rounded if manifest.metrics else "not measured",
        "data": ", ".join(f"{row['examples']:,} {name}" for name, row in manifest.data.items())
                or "not recorded",
        **({"meta": learned(manifest.meta)} if manifest.meta else {}),
        "made with": ", ".join(map(" ".join, manifest.versions.items())) or "not recorded",
        "license": manifest.license or "not stated",
        "description": manifest.description or "none"}.items()]


def learned(meta):
    """How a pack was meta-trained, in words."""
    return (f"{meta.algorithm} on {', '.join(meta.domains)}; a task takes "
            f"{meta.inner_update_step} passes by {meta.inner_optimizer} at "
            f"{meta.inner_update_lr:g}")


def windows(spans):
    """What goes on after the length of texts where they are windows, as a manifest.Spans says."""
    if not spans:
        return ""
    null = "always an answer" if spans.null_threshold is None else (
        f"no answer above null odds of {spans.null_threshold:g}")
    return (f" a window, {spans.max_query_length} of the question, the next one {spans.doc_stride} "
            f"later; answers of at most {spans.max_answer_length}; {null}")


def _verify(packs, bert_dir):
    from adapter_bert.packs import store
    from adapter_bert.packs.bases import base_of, check_base
    wanted, bad = bert_dir and base_of(bert_dir), []
    for path in packs:
        try:
            found = store.read(pack_in(path))
            if wanted:
                check_base(wanted, found.manifest)
            print(f"OK: {plain(path)}")
        except InputError as error:
            bad.append(path)
            print(f"FAILED: {plain(error)}")
    if bad:
        raise InputError(f"{len(bad)} of {len(packs)} packs cannot be used: {', '.join(bad)}")


def _load(pack, folder):
    from adapter_bert.packs import store
    from adapter_bert.train.run_packs import unpack
    made = unpack(store.read(pack_in(pack)), folder)
    print(f"{made}: a checkpoint for --init_checkpoint, with --bert_dir")


def _describe(pack, **texts):
    from adapter_bert.packs import store
    found = store.read(pack_in(pack))
    told = {name: value for name, value in texts.items() if value is not None}
    changed = found._replace(manifest=dataclasses.replace(found.manifest, **told))
    store.write(pack, changed, found.manifest.weights.dtype)
    print(f"{pack}: {', '.join(told) or 'nothing'} changed")


def _convert(source, destination, from_form, to_form, **options):
    from adapter_bert.packs import pack_conversion
    print(pack_conversion.convert(source, destination, from_form, to_form, options))


def _average(packs, output, weights, head_from):
    from adapter_bert.packs import store
    from adapter_bert.packs.average import average
    places = list(map(os.path.realpath, packs))
    if len(set(places)) != len(places):
        raise InputError("a pack is named twice; give it more weight with --weights")
    if head_from and os.path.realpath(head_from) not in places:
        raise InputError(f"--head_from={head_from}: not one of the packs {', '.join(packs)}")
    try:
        shares = weights and [float(weight) for weight in weights.split(",")]
    except ValueError as error:
        raise InputError(f"--weights={weights}: give numbers as in 0.7,0.3") from error
    store.check_place(output)
    store.write(output, average({path: store.read(pack_in(path)) for path in places}, shares,
                                head_from and os.path.realpath(head_from)))
    print(f"{output}: the average of {len(packs)} packs")


def _list(hub, words=(), base=None, task=None):
    from adapter_bert.packs import hub as hubs
    from adapter_bert.packs import index
    found = index.search(hubs.entries(hub), words, base, task)
    print("\n".join(index.table(found)) if found else "no pack is like that")


def _push(pack, hub, name, overwrite):
    from adapter_bert.packs import hub as hubs
    name = name or os.path.basename(os.path.abspath(pack)).removesuffix(".zip")
    if name == "pack":   # as every run calls its own
        raise InputError(f"{pack}: give it a name in the hub with --name")
    written = hubs.push(pack, hub, name, overwrite)
    print(f"{name}: pushed to {hub}" if written else f"{name}: already there, unchanged")


def _pull(hub, name, destination):
    from adapter_bert.packs import hub as hubs
    destination = destination or f"{name}.zip"
    written = hubs.pull(hub, name, destination)
    print(f"{destination}: pulled and verified; look at it with adapter-bert pack show "
          f"{shlex.quote(destination)}" if written else f"{destination}: already there, unchanged")


def _index(folder):
    from adapter_bert.packs import hub as hubs
    print(f"{folder}: {len(hubs.make_index(folder)):,} packs in its index")


_FORMS = ("pack", "adapterhub", "checkpoint")
_FLAG = {"action": "store_true"}
_JOBS = {
    "show": (_show, "what a pack says of itself, after it was verified", {
        "pack": PACK, "--json": {**_FLAG, "dest": "as_json", "help": "pack.json as it is"}}),
    "verify": (_verify, "whether packs are as they were written", {
        "packs": {**PACK, "nargs": "+"},
        "--bert_dir": {"metavar": "DIR", "help": "also whether they were made on this base"}}),
    "load": (_load, "a checkpoint out of a pack (run_classifier.py --pack does it by itself)", {
        "pack": PACK, "folder": {"metavar": "DIR", "help": "folder to make"}}),
    "describe": (_describe, "other words in a pack", {
        "pack": PACK, "--description": {"help": "a sentence on it"},
        "--license": {"help": "as SPDX writes it"}, "--task": {"help": "name of the task"}}),
    "convert": (_convert, "a pack from and to other forms", {
        "source": {"metavar": "SRC", "help": "a pack, an AdapterHub folder, or the prefix of a "
                                             "checkpoint of the reference adapter-bert"},
        "destination": {"metavar": "DST", "help": "where it goes"},
        "--from": {"dest": "from_form", "choices": _FORMS, "required": True},
        "--to": {"dest": "to_form", "choices": _FORMS[:2], "required": True},
        "--bert_dir": {"metavar": "DIR", "help": "folder of the base (not for --from=pack)"},
        "--task": {"help": "name of the task"},
        "--labels": {"help": "names of the classes as in no,yes; empty for a score "
                             "(--from=checkpoint)"},
        "--max_seq_length": {"type": int, "help": "the most word pieces; 128"},
        "--cased": {**_FLAG, "help": "texts keep their case (for cased bases)"},
        "--dtype": {"choices": ("float32", "bfloat16"), "help": "of a pack's weights"},
        "--name": {"help": "name of the adapter (--to=adapterhub); the task's unless given"},
        "--layer_norms_beside": {**_FLAG, "help": "trained LayerNorms, which AdapterHub's form "
                                                  "cannot carry, in a file beside"}}),
    "average": (_average, "the average of packs that are alike", {
        "packs": {**PACK, "nargs": "+"}, "--output": {"required": True, "metavar": "DST"},
        "--weights": {"help": "how much each counts, as in 0.7,0.3"},
        "--head_from": {"metavar": "PACK", "help": "the pack whose head is taken; heads of other "
                                                   "tasks are not averaged"}}),
    "list": (_list, "the packs of a hub", {"hub": HUB}),
    "search": (_list, "the packs of a hub that have all these words", {
        "hub": HUB, "words": {"nargs": "*"}, "--base": {"help": "name or fingerprint of the base"},
        "--task": {"help": "name of the task"}}),
    "push": (_push, "a pack into a hub", {
        "pack": PACK, "hub": {**HUB, "help": "a folder"},
        "--name": {"help": "its name there; that of the file unless given"},
        "--overwrite": {**_FLAG, "help": "in the place of another of that name"}}),
    "pull": (_pull, "a pack out of a hub, verified before it is in place", {
        "hub": HUB, "name": {"help": "its name there"},
        "destination": {"nargs": "?", "metavar": "DST", "help": "file or folder; NAME.zip"}}),
    "index": (_index, "writes the index of a folder of packs", {
        "folder": {"metavar": "DIR"}}),
}
