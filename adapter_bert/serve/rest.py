"""TensorFlow Serving's REST forms: what a request asks, and what it is answered.

    {"instances": [...]} or {"inputs": {...}} --parse--> [Question] --bank--> rows and answers
    --predictions, results--> {"predictions": ...}, {"outputs": ...} or {"results": ...}
"""
import base64
from collections.abc import Callable
from typing import NamedTuple

from adapter_bert.kinds import Example
from adapter_bert.serve.refusal import Refusal

VERBS = ("predict", "classify", "regress")
FIELDS = ("text_a", "text_b", "task")


class Question(NamedTuple):
    """A row of a request: the name of its task, or None where it has none, and its texts."""

    task: str | None
    example: Example


class Limits(NamedTuple):
    """The most rows of a request, characters of a text, and characters of all texts of a request.

    Without the last one a short body could ask for many long texts, since all rows of a
    classification may share one.
    """

    rows: int
    characters: int
    all_characters: int


def parse(verb, values, limits):
    """What a request asks.

    Args:
      verb: one of VERBS.
      values: the value of the request's JSON.
      limits: Limits.

    Returns:
      (list of Question, whether the answer is to be in columns).

    Raises:
      Refusal: it is of no form that TensorFlow Serving's REST API has.
    """
    if not isinstance(values, dict):
        raise Refusal(f"the body is {_kind(values)}, not an object with {_FORMS[verb]}")
    _check_signature(verb, values.get("signature_name"))
    if verb != "predict":
        rows, in_columns = _examples(values, limits.rows), False
    elif "instances" in values and "inputs" in values:
        raise Refusal("the body has both \"instances\" and \"inputs\"; send one of them")
    elif "inputs" in values:
        rows, in_columns = _columns(_only(values, "inputs"), limits.rows), True
    else:
        rows, in_columns = _instances(_only(values, "instances"), limits.rows), False
    questions = [_question(place, row, limits) for place, row in enumerate(rows)]
    count = sum(len(text or "") for question in questions for text in question.example[:2])
    if count > limits.all_characters:
        raise Refusal(f"the texts of the request have {count} characters; send at most "
                      f"{limits.all_characters}")
    return questions, in_columns


class Kind(NamedTuple):
    """How a kind of head answers.

    outputs: function (count of labels as text) -> {name: tensor of the metadata}.
    prediction: function (an answer, see packs.answers) -> {name of an output: value}.
    verb: what it can be asked for beside "predict"; None for nothing.
    pair: whether it is asked about pairs; None where its packs say that.
    has_windows: whether a text makes as many rows as its length wants.
    """

    outputs: Callable
    prediction: Callable
    verb: str | None = None
    pair: bool | None = None
    has_windows: bool = False


def check_pair(task, manifest, place, example):
    """Refusal where a task of pairs gets one text, or the other way round."""
    pair = _pair(manifest)
    if pair and example.text_b is None:
        what = "a question and its context" if manifest.head == "spans" else "pairs of texts"
        raise Refusal(f"row {place}: {task} takes {what}; give text_a and text_b")
    if pair is False and example.text_b is not None:
        raise Refusal(f"row {place}: {task} takes single texts; leave text_b out")


def check_head(verb, task, head):
    """Refusal where a classification is asked for a number, or the other way round."""
    verbs = [one for one in ("predict", KINDS[head].verb) if one]
    if verb not in verbs:
        raise Refusal(f"{task} is a task of {head}: ask it to "
                      f"{' or to '.join(f':{one}' for one in verbs)}")


def predictions(heads, answers, in_columns, names=None):
    """The answer to :predict.

    Args:
      heads: the kind of head of each text's task.
      answers: what it says, see packs.answers.
      in_columns: whether the answer is one of columns.
      names: the name of each text's task where several tasks were asked, or None.

    Returns:
      {"predictions": iterator}, or {"outputs": ...} in columns. A single output goes without its
      name, as TensorFlow Serving has it, but for entities.
    """
    rows = (KINDS[head].prediction(answer) for head, answer in zip(heads, answers, strict=True))
    if names:
        rows = ({"task": name, **row} for name, row in zip(names, rows, strict=True))
    if in_columns:
        rows = list(rows)
        keys = dict.fromkeys(key for row in rows for key in row)
        columns = {key: [row.get(key) for row in rows] for key in keys}
        return {"outputs": columns["score"] if keys.keys() == {"score"} else columns}
    return {"predictions": (row["score"] if row.keys() == {"score"} else row for row in rows)}


def results(verb, answers):
    """The answer to :classify or :regress: [[label, probability], ...] or a number for each row."""
    if verb == "regress":
        return {"results": answers}
    return {"results": [list(map(list, one.probabilities.items())) for one in answers]}


def status(version, available=True):
    """The answer to GET /v1/models/<task>, TensorFlow Serving's ModelVersionStatus."""
    return {"model_version_status": [{
        "version": str(version), "state": "AVAILABLE" if available else "END",
        "status": {"error_code": "OK", "error_message": ""}}]}


def metadata(name, version, manifest=None):
    """The answer to GET /v1/models/<task>/metadata: TensorFlow Serving's, and what the pack says.

    Args:
      name: of the task, or of all together.
      version: a number.
      manifest: manifest.Manifest; None for all together.
    """
    inputs = {"text_a": _tensor("DT_STRING")}
    if not manifest or _pair(manifest) is not False:
        inputs["text_b"] = _tensor("DT_STRING")
    if not manifest:
        inputs["task"] = _tensor("DT_STRING")
    labels = str(len(manifest.labels)) if manifest else "-1"
    outputs = {output: tensor for kind in ([KINDS[manifest.head]] if manifest else KINDS.values())
               for output, tensor in kind.outputs(labels).items()}
    signature = {"inputs": inputs, "outputs": outputs, "method_name": "tensorflow/serving/predict"}
    answer = {"model_spec": {"name": name, "signature_name": "", "version": str(version)},
              "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}}}
    if manifest:
        answer["metadata"]["pack"] = {
            key: getattr(manifest, key) for key in ("task", "head", "labels", "pair",
                                                    "max_seq_length", "metrics", "description")}
    return answer


def _tensor(dtype, *sizes):
    dims = [{"size": size, "name": ""} for size in ("-1", *sizes)]
    return {"dtype": dtype, "name": "", "tensor_shape": {"dim": dims, "unknown_rank": False}}


def _labelled(answer):
    return {"label": answer.label, "probabilities": list(answer.probabilities.values())}


def _scored(answer):
    return {"score": answer}


def _tagged(answer):
    return {"entities": [one._asdict() for one in answer]}


def _answered(answer):
    return {"answer": answer.text, "start": answer.start, "end": answer.end,
            "probability": answer.probability}


def _of_labels(labels):
    return {"label": _tensor("DT_STRING"), "probabilities": _tensor("DT_FLOAT", labels)}


def _of_scores(labels):
    return {"score": _tensor("DT_FLOAT")}


def _of_entities(labels):
    return {"entities": _tensor("DT_VARIANT", "-1")}   # objects, for which TensorFlow has no type


def _of_answers(labels):
    return {"answer": _tensor("DT_STRING"), "start": _tensor("DT_INT64"),
            "end": _tensor("DT_INT64"), "probability": _tensor("DT_FLOAT")}


KINDS = {
    "classification": Kind(_of_labels, _labelled, "classify"),
    "regression": Kind(_of_scores, _scored, "regress"),
    "spans": Kind(_of_answers, _answered, pair=True, has_windows=True),
    "tokens": Kind(_of_entities, _tagged, pair=False),
}


def _pair(manifest):
    """Whether a task is asked about pairs; None for about both."""
    pair = KINDS[manifest.head].pair
    return manifest.pair if pair is None else pair


def _check_signature(verb, name):
    if name not in (None, "", "serving_default", verb):
        raise Refusal(f"signature_name is {_shown(name)}; leave it out, or give serving_default")


def _only(values, key):
    """values[key], where beside it there is at most a signature_name."""
    others = values.keys() - {key, "signature_name"}
    if key not in values or others:
        raise Refusal(f"the body has {_listed(values)}, not {_FORMS['predict']}")
    return values[key]


def _check_count(count, most):
    """Refusal of too many rows, or none, before anything is made of them."""
    if not 0 < count <= most:
        raise Refusal(f"the request has {count} rows; send 1 to {most}")


def _check_fields(where, names):
    if unknown := names - set(FIELDS):
        raise Refusal(f"{where} has {_listed(unknown)}; its fields are {', '.join(FIELDS)}")


def _instances(rows, most):
    """The fields of each row of {"instances": rows}."""
    if not isinstance(rows, list):
        raise Refusal(f"\"instances\" is {_kind(rows)}, not a list")
    _check_count(len(rows), most)
    return [row if isinstance(row, dict) and "b64" not in row else {"text_a": row} for row in rows]


def _columns(columns, most):
    """The fields of each row of {"inputs": columns}."""
    if isinstance(columns, list):
        columns = {"text_a": columns}
    if not isinstance(columns, dict):
        raise Refusal(f"\"inputs\" is {_kind(columns)}, not an object of lists, or a list of texts")
    for name, column in columns.items():
        if not isinstance(column, list):
            raise Refusal(f"{_shown(name)} in \"inputs\" is {_kind(column)}, not a list")
    _check_fields("\"inputs\"", columns.keys())
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        raise Refusal(f"the lists in \"inputs\" have {' and '.join(map(str, sorted(lengths)))} "
                      "entries; give each as many")
    _check_count(max(lengths, default=0), most)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _examples(values, most):
    """The fields of each row of {"examples": [...], "context": {...}}."""
    rows, context = values.get("examples"), values.get("context", {})
    others = values.keys() - {"examples", "context", "signature_name"}
    if not isinstance(rows, list) or others:
        raise Refusal(f"the body has {_listed(values)}, not {_FORMS['classify']}")
    if not isinstance(context, dict):
        raise Refusal(f"\"context\" is {_kind(context)}, not an object")
    _check_count(len(rows), most)
    _check_fields("\"context\"", context.keys())
    return [_example(place, row, context) for place, row in enumerate(rows)]


def _example(place, row, context):
    if not isinstance(row, dict):
        raise Refusal(f"example {place} is {_kind(row)}, not an object")
    if both := row.keys() & context.keys():
        raise Refusal(f"example {place}: {_listed(both)} is in \"context\" as well")
    return {name: value[0] if isinstance(value, list) and len(value) == 1 else value
            for name, value in {**context, **row}.items()}


def _question(place, fields, limits):
    _check_fields(f"row {place}", fields.keys())
    if fields.get("text_a") is None:
        raise Refusal(f"row {place} has no text_a")
    texts = {name: None if value is None else _text(place, name, value, limits.characters)
             for name, value in fields.items()}
    return Question(texts.get("task"), Example(texts["text_a"], texts.get("text_b"), None))


def _text(place, name, value, most):
    """The text of a field: a string, or {"b64": base64 of its UTF-8}."""
    if isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        try:
            value = base64.b64decode(value["b64"], validate=True).decode("utf-8")
        except ValueError as error:
            raise Refusal(f"row {place}: the b64 of {name} is not base64 of UTF-8") from error
    if not isinstance(value, str):
        raise Refusal(f"row {place}: {name} is {_kind(value)}, not a text or {{\"b64\": text}}")
    if len(value) > most:
        raise Refusal(f"row {place}: {name} has {len(value)} characters; send at most {most}")
    return value


def _kind(value):
    """What a value of JSON is, for a message."""
    return _KINDS[type(value)]


def _shown(value):
    return repr(value)[:60]


def _listed(names):
    return ", ".join(_shown(name) for name in sorted(names)[:5]) or "nothing"


_KINDS = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number",
          bool: "true or false", type(None): "null"}
_FORMS = {"predict": "\"instances\" or \"inputs\"", "classify": "a list of \"examples\"",
          "regress": "a list of \"examples\""}
