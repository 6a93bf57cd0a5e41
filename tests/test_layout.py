"""The model's files stand alone, so that a BERT user can copy them."""
import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.parametrize("module,allowed", [
    ("modeling", set()), ("tokenization", set()), ("optimization", set()),
    ("adapter_methods", {"modeling"}), ("adapter_layers", {"modeling", "adapter_methods"})])
def test_imports_of_the_models_files(module, allowed):
    ours = {path.stem for path in ROOT.glob("*.py")} | {"adapter_bert", "demo", "benchmarks"}
    tree = ast.parse((ROOT / f"{module}.py").read_text(encoding="utf-8"))
    imported = {name.name.split(".")[0] for node in ast.walk(tree)
                if isinstance(node, ast.Import) for name in node.names}
    imported |= {(node.module or "").split(".")[0] for node in ast.walk(tree)
                 if isinstance(node, ast.ImportFrom)}
    assert imported & ours <= allowed
