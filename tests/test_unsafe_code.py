"""No file of the tree holds what could run code out of data, a string or a request: looked for in the syntax tree.

Tests may write pickles, to send them as a stranger would; nothing may read one.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(p for p in ROOT.rglob("*.py") if not {".venv", "node_modules"} & set(p.relative_to(ROOT).parts))

UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}
HARMLESS = {"UnpicklingError", "PicklingError", "PickleError", "dumps", "dump", "HIGHEST_PROTOCOL"}
RUNNERS = {"eval", "exec", "__import__", "compile", "os.system", "os.popen", "pty.spawn", "runpy.run_path"}
YAML = {"yaml.load", "yaml.unsafe_load", "yaml.full_load"}


def find_unsafe(source: str, may_write: bool = False) -> list[str]:
    """What in a file could run code that is not its own, by name; writing pickles counts unless it `may_write`."""
    tree, names, found = ast.parse(source), {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.asname or a.name: a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    harmless = HARMLESS if may_write else {name for name in HARMLESS if name.endswith("Error")}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Load):
            found += _unpickler(_full_name(node, names), harmless)
        if isinstance(node, ast.Call):
            found += _unsafe_call(node, _full_name(node.func, names), may_write)
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            found += [k.value for k, v in pairs if isinstance(k, ast.Constant) and _risky(k.value, v)]
    return found


def _full_name(node: ast.AST, names: dict[str, str]) -> str:
    """The dotted name of an expression, with the imports' own names; empty for anything else."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (base := _full_name(node.value, names)):
        return f"{base}.{node.attr}"
    return ""


def _unpickler(name: str, harmless: set[str]) -> list[str]:
    package, _, rest = name.partition(".")
    return [name] if package in UNPICKLERS and rest and rest not in harmless else []


def _risky(name: object, value: ast.expr) -> bool:
    """A keyword that must be False wherever it is said."""
    wanted = isinstance(value, ast.Constant) and value.value is False
    return name in ("allow_pickle", "trust_remote_code", "shell") and not wanted


def _unsafe_call(call: ast.Call, name: str, may_write: bool) -> list[str]:
    said = {k.arg: k.value for k in call.keywords}
    if may_write and name == "numpy.save":
        return []
    found = [arg for arg, value in said.items() if _risky(arg, value)]
    if name in RUNNERS | YAML:
        found.append(name)
    if name in ("torch.load", "torch.jit.load") and getattr(said.get("weights_only"), "value", None) is not True:
        found.append(name)
    class_name = name.split(".")[-2] if name.endswith(".from_pretrained") else ""
    if class_name.startswith("Auto") and "trust_remote_code" not in said and not may_write:
        found.append(f"{class_name}.from_pretrained without trust_remote_code=False")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_could_run_what_is_not_ours(path):
    assert find_unsafe(path.read_text(encoding="utf-8"), may_write="tests" in path.relative_to(ROOT).parts) == []


def test_the_whole_tree_is_looked_at():
    found = {str(path.relative_to(ROOT)) for path in FILES}
    assert {"app.py", "app/layout.py", "backend/kept/store.py", "aia/training.py", "tests/conftest.py"} <= found
    assert any(path.startswith("assets/") for path in found)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle\npickle.loads(x)", ["pickle.loads"]),
        ("import pickle as p\np.load(f)", ["pickle.load"]),
        ("def f():\n    from dill import loads\n    loads(x)", ["dill.loads"]),
        ("import pickle\nread = pickle.Unpickler", ["pickle.Unpickler"]),
        ("from pickle import dumps\ndumps(x)", ["pickle.dumps"]),
        ("import marshal\nmarshal.loads(x)", ["marshal.loads"]),
        ("import torch\ntorch.load(f)", ["torch.load"]),
        ("import torch as t\nt.load(f, weights_only=False)", ["torch.load"]),
        ("from torch import load\nload(f, weights_only=flag)", ["torch.load"]),
        ("np.load(f, allow_pickle=True)", ["allow_pickle"]),
        ("np.load(f, allow_pickle=flag)", ["allow_pickle"]),
        ("f(**{'trust_remote_code': True})", ["trust_remote_code"]),
        ("M.from_pretrained(x, trust_remote_code=True)", ["trust_remote_code"]),
        ("import transformers\ntransformers.AutoConfig.from_pretrained(x)", ["AutoConfig.from_pretrained without"]),
        ("subprocess.run(x, shell=True)", ["shell"]),
        ("from subprocess import run\nrun(x, shell=1)", ["shell"]),
        ("import os\nos.system(x)", ["os.system"]),
        ("eval(x)", ["eval"]),
        ("lambda: exec(x)", ["exec"]),
        ("import yaml\nyaml.load(x)", ["yaml.load"]),
    ],
)
def test_the_search_finds_it(source, found):
    assert [one[: len(wanted)] for one, wanted in zip(find_unsafe(source), found, strict=True)] == found


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(f, weights_only=True)",
        "np.load(f, allow_pickle=False)",
        "try: ...\nexcept pickle.UnpicklingError: ...\nimport pickle",
        "model.eval()",
        "import re\nre.compile(x)",
        "# pickle.loads(x)\n'eval(x)'",
        "subprocess.run(x, shell=False)",
        "AutoConfig.from_pretrained(x, trust_remote_code=False)",
    ],
)
def test_the_search_lets_be_what_is_safe(source):
    assert find_unsafe(source) == []


def test_only_tests_may_write_pickles():
    assert find_unsafe("import pickle\npickle.dumps(x)") == ["pickle.dumps"]
    assert find_unsafe("import pickle\npickle.dumps(x)", may_write=True) == []
    assert find_unsafe("import pickle\npickle.loads(x)", may_write=True) == ["pickle.loads"]
