"""No user's state lives in a module: what all requests share is a constant, or a cache of what a file says."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(p for room in ("aia", "backend", "app") for p in (ROOT / room).rglob("*.py"))
MUTATING = set("append add update setdefault pop popitem popleft clear extend insert remove discard appendleft".split())
# Caches of what a function makes of its arguments alone, or of a file that is named with the time it was changed.
CACHED = {
    "app/components/__init__.py": {"load_script"},
    "backend/background/run_folder.py": {"_is_result", "_look_through"},
    "backend/finetuning/memory.py": {"_read_config"},
}


def local_names(function):
    """Names that a function binds for itself."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    names = {argument.arg for argument in every if argument}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def changed_names(function):
    """Names whose value a function changes in place: `name[…] = …`, `del name[…]`, `name.append(…)` and the like."""
    for node in ast.walk(function):
        changed = None
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            changed = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATING:
            changed = node.func.value
        if isinstance(changed, ast.Name):
            yield changed.id


def faults(source):
    """What a module's functions do to its globals, and what its classes would share among their instances."""
    tree = ast.parse(source)
    module = {t.id for node in tree.body for t in ast.walk(node) if isinstance(t, ast.Name) and is_assigned(node, t)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            found.append(f"global {', '.join(node.names)}")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            shared = set(changed_names(node)) & module - local_names(node)
            found += [f"{node.name} changes {name}" for name in sorted(shared)]
        if isinstance(node, ast.ClassDef):
            found += [f"{node.name} shares {name}" for name in shared_attributes(node)]
    return found


def is_assigned(node, target):
    return isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(target.ctx, ast.Store)


def shared_attributes(node):
    """Empty lists, dicts and sets in a class body: they are there to be filled."""
    for statement in node.body:
        value = getattr(statement, "value", None)
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            empty = isinstance(value, ast.List | ast.Dict | ast.Set) and not (
                getattr(value, "elts", None) or getattr(value, "keys", None)
            )
            called = isinstance(value, ast.Call) and isinstance(value.func, ast.Name)
            if empty or (called and value.func.id in ("list", "dict", "set", "defaultdict", "deque", "OrderedDict")):
                yield ast.unparse(statement)[:40]


def cached_functions(source):
    """Functions under `lru_cache` or `cache` that take arguments."""
    for node in ast.walk(ast.parse(source)):
        decorators = [ast.unparse(d) for d in getattr(node, "decorator_list", ())]
        cached = any("cache" in d and "cached_property" not in d for d in decorators)
        if cached and isinstance(node, ast.FunctionDef) and node.args.args:
            yield node.name


def test_no_module_keeps_state():
    found = {str(path.relative_to(ROOT)): path.read_text() for path in FILES}
    assert {name: told for name, source in found.items() if (told := faults(source))} == {}
    cached = {name: set(cached_functions(source)) for name, source in found.items() if not name.startswith("aia/")}
    assert {name: names for name, names in cached.items() if names} == CACHED


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("seen = {}\ndef f(x):\n    seen[x] = 1", "f changes seen"),
        ("seen = []\ndef f(x):\n    seen.append(x)", "f changes seen"),
        ("last = None\ndef f(x):\n    global last\n    last = x", "global last"),
        ("class A:\n    seen: dict = {}", "A shares seen: dict = {}"),
        ("class A:\n    seen = set()", "A shares seen = set()"),
    ],
)
def test_the_scan_sees_state(source, fault):
    assert faults(source) == [fault]


def test_the_scan_lets_constants_and_locals_be():
    assert faults("NAMES = {'a': 1}\ndef f(seen):\n    found = []\n    found.append(NAMES)\n    return found") == []
