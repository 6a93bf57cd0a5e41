"""Where the code is: the model's modules stand alone, the wheel contains the package only."""
import ast
import importlib
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPTS = ("run_classifier", "run_squad", "run_pretraining", "create_pretraining_data",
           "run_meta_training", "run_finetuning")


@pytest.mark.parametrize("module,allowed", [
    ("modeling", set()), ("tokenization", set()), ("optimization", set()), ("tuning_modes", set()),
    ("adapters", {"modeling"})])
def test_imports_of_the_models_files(module, allowed):
    """So few that a BERT user can copy them."""
    tree = ast.parse((ROOT / f"adapter_bert/bert/{module}.py").read_text(encoding="utf-8"))
    imported = {(node.module, name.name) for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) for name in node.names}
    imported |= {(name.name, "") for node in ast.walk(tree)
                 if isinstance(node, ast.Import) for name in node.names}
    ours = {pair for pair in imported if pair[0].split(".")[0] in ("adapter_bert", "modeling")}
    assert ours == {("adapter_bert.bert", name) for name in allowed}


@pytest.mark.parametrize("name,attribute", [
    ("modeling", "BertModel"), ("optimization", "AdamWeightDecayOptimizer"),
    ("tokenization", "FullTokenizer")])
def test_names_that_bert_users_import(name, attribute):
    found = getattr(importlib.import_module(name), attribute)
    assert found is getattr(importlib.import_module(f"adapter_bert.bert.{name}"), attribute)


@pytest.fixture(name="checkout_of_bert")
def fixture_checkout_of_bert(tmp_path):
    """A folder with modules of BERT's names that are somebody else's."""
    for name in ("modeling", "optimization", "tokenization", "run_classifier"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('this module is not ours')\n")
    return tmp_path


@pytest.mark.parametrize("command", [
    ["-c", "import adapter_bert.packs.predictor"], ["-m", "adapter_bert", "--help"],
    ["-m", "adapter_bert", "train", "--help"], ["-m", "adapter_bert", "pack", "list", "."]])
def test_foreign_modules_of_the_same_names(checkout_of_bert, command):
    """Python looks for modules in the current folder first."""
    done = subprocess.run([sys.executable, *command], cwd=checkout_of_bert, text=True,
                          capture_output=True, check=False,
                          env={**os.environ, "PYTHONPATH": f"{checkout_of_bert}:{ROOT}"})
    assert "not ours" not in done.stderr and "Traceback" not in done.stderr
    assert done.returncode in (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_among_foreign_modules(checkout_of_bert, script):
    for command in ([str(ROOT / f"{script}.py")],
                    ["-c", f"from adapter_bert.cli.scripts import {script}; {script}()"]):
        done = subprocess.run([sys.executable, *command, "--help"], cwd=checkout_of_bert, text=True,
                              capture_output=True, check=False,
                              env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert f"python {script}.py --" in done.stdout and "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_wheel_has_the_package_only(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "adapter_bert", source / "adapter_bert")
    for path in (*ROOT.glob("*.py"), *(ROOT / name for name in (
            "pyproject.toml", "README.md", "LICENSE"))):
        shutil.copy(path, source)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
                    "--no-build-isolation", f"--wheel-dir={tmp_path}", str(source)], check=True)
    wheel, = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        scripts = file.read(next(name for name in names if name.endswith("entry_points.txt")))
    folders = {name.split("/")[0] for name in names}
    assert {name for name in folders if not name.endswith(".dist-info")} == {"adapter_bert"}
    assert {"adapter_bert/kernels/kernels.c", "adapter_bert/serve/page/index.html"} <= {*names}
    assert all(f"{script} = adapter_bert.cli.scripts:{script}" in scripts.decode()
               for script in SCRIPTS)
