"""A data set of domains out of a folder of TSV and CSV files, one a domain."""
import dataclasses
import os

from adapter_bert import files
from adapter_bert.errors import InputError
from adapter_bert.kinds import generic_task, read_examples
from adapter_bert.research.meta import domains

ENDINGS = (".tsv", ".csv")


def convert(folder, output, text_column, label_column, header=True):
    """Writes the examples of a folder's files as one JSON file in Meta-BERT's form.

    Each .tsv or .csv file is a domain of the file's name. Texts that are there twice are left out.

    Args:
      folder: path.
      output: path of the file, written whole or not at all.
      text_column, label_column, header: as for tasks.generic_task.

    Returns:
      domains.Dataset of what was written.

    Raises:
      InputError: no such file is there, two are of one name, or a row is wrong.
    """
    task = generic_task(text_column, None, label_column, header)
    rows = []
    for domain, name in _files(folder).items():
        examples = read_examples(_of_file(task, name), folder, "train", bad_rows=None)
        rows += domains.checked(os.path.join(folder, name), _rows(domain, examples))
    dataset = domains.make_dataset(folder, rows)
    files.write_json(output, [row for domain, examples in dataset.domains.items()
                              for row in _rows(domain, examples)])
    return dataset


def _rows(domain, examples):
    return [{"text": example.text_a, "label": example.label, "domain": domain}
            for example in examples]


def _of_file(task, name):
    return dataclasses.replace(task, name="a domain", files={"train": name})


def _files(folder):
    """{domain: name of its file} of a folder, sorted."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f"{folder}: not a folder that can be read ({error.strerror})") from error
    found = {}
    for name in names:
        domain, ending = os.path.splitext(name)
        if ending in ENDINGS and not name.startswith("."):   # ._x.tsv is no data
            if domain in found:
                raise InputError(f"{folder}: holds {found[domain]} and {name}; a domain is one "
                                 "file, leave only one of them there")
            found[domain] = name
    if not found:
        raise InputError(f"{folder}: holds no file that ends in {' or '.join(ENDINGS)}; each is "
                         "one domain")
    return found
