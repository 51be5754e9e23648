"""Builds one plugin for `weir plugin build`: finds its roles and compiles it to a component.

The argument is a JSON object with `tools`, `folder`, `packages`, `wit`, `work`, `out`, `salt` and `known`. The script
prints one line of JSON to standard output: `{"digest"}` if it wrote a new component to `out`, `{"digest", "known": true}`
if nothing changed since `known` was built, and otherwise `{"wrong"}` with a message. The compiler's output goes to
standard error.
"""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import traceback

ROLES = ["event_filter", "mapper", "entity_filter", "renderer"]
#: The world that has exactly these roles.
WORLDS = {
    ("event_filter",): "event-filter-plugin",
    ("mapper",): "mapper-plugin",
    ("event_filter", "mapper"): "source-plugin",
    ("entity_filter",): "entity-filter-plugin",
    ("renderer",): "renderer-plugin",
    ("entity_filter", "renderer"): "channel-plugin",
}
#: The module that componentize-py compiles. It imports the plugin first, so that the plugin's errors are reported as its own.
APP = """
import weir.sandbox
import plugin
from weir.guest import EntityFilter, EventFilter, Mapper, Renderer, Settings
"""
#: What a plugin lacks, and the modules that are of no use without it.
LACKING = {
    "network": "aiohttp asyncio ftplib http.client http.server httpx imaplib poplib requests smtplib socket socketserver ssl urllib.request urllib3 xmlrpc".split(),
    "processes": "multiprocessing subprocess".split(),
}
#: Folders without source code.
NOT_SOURCE = {"dist", "cases", "wit", "tests", "__pycache__", "node_modules", "target", "venv"}


def main(given):
    folder = given["folder"]
    world, wrong = world_of(os.path.join(folder, "plugin.py"))
    if world is None:
        return {"wrong": wrong}
    digest = digest_of([(folder, is_source), (given["packages"], is_code)], given["salt"], world)
    if digest == given["known"]:
        return {"digest": digest, "known": True}
    # The compiler's sandbox does not follow links out of a folder, so it gets a copy.
    source = os.path.join(given["work"], "source")
    shutil.copytree(folder, source, ignore=lambda _, names: [name for name in names if not is_source(name)])
    with open(os.path.join(given["work"], "weir_app.py"), "w", encoding="utf-8") as file:
        file.write(APP)
    paths = [part for path in (source, given["work"], given["packages"]) if path for part in ("-p", path)]
    # componentize-py runs with the tools' packages and no virtual environment, so that this machine's Python packages do not
    # get into the component.
    run = "import sys; from componentize_py import script; sys.exit(script())"
    command = [sys.executable, "-c", run, "-q", "-d", given["wit"], "-w", world]
    command += ["componentize", "-s", *paths, "weir_app", "-o", given["out"]]
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONHOME", "RUST_BACKTRACE")}
    built = subprocess.run(command, cwd=given["work"], env={**kept, "PYTHONPATH": given["tools"]}, capture_output=True, text=True)
    if built.returncode == 0:
        return {"digest": digest}
    sys.stderr.write(shortened(built.stdout + built.stderr, folder))
    return {"wrong": None}


def world_of(path):
    """Returns the world of the roles that plugin.py marks, or None and a message. The source is parsed, not run.

    The message is None as well if the error is already on standard error.
    """
    with open(path, "rb") as file:
        source = file.read()
    try:
        tree = ast.parse(source, path)
    except SyntaxError as error:
        sys.stderr.write("".join(traceback.format_exception_only(error)))
        return None, None
    marked = [(mark(decorator), node) for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) for decorator in node.decorator_list]
    for wrong in filter(None, [*map(unusable, ast.walk(tree)), *(uncallable(role, node) for role, node in marked if role in ROLES)]):
        return None, wrong
    marks = [role for role, _ in marked]
    roles = tuple(role for role in ROLES if role in marks)
    if roles in WORLDS:
        return WORLDS[roles], None
    found = f"both {' and '.join(roles)}: a plugin belongs to a source or to a channel" if roles else "none of them"
    return None, f"plugin.py should have a function marked @{', @'.join(ROLES[:3])} or @{ROLES[3]}, but has {found}"


def uncallable(role, node):
    """Returns why a function cannot be called as its role is, or None."""
    given = node.args
    positional = len(given.posonlyargs) + len(given.args)
    required = positional - len(given.defaults)
    named = [argument.arg for argument, default in zip(given.kwonlyargs, given.kw_defaults) if default is None]
    if isinstance(node, ast.AsyncFunctionDef):
        why = "is async, but Weir calls it and takes what it returns"
    elif required > 2 or positional < 2 and not given.vararg or named:
        takes = f"needs {', '.join(named)} by name" if named else f"takes {required if required > 2 else positional} argument{'s' * (positional != 1)}"
        what = "entity" if role in ("entity_filter", "renderer") else "event"
        why = f"{takes}, but is called with two: def {node.name}({what}, settings)"
    else:
        return None
    return f"plugin.py:{node.lineno}: {node.name}, marked @{role}, {why}"


def unusable(node):
    """Returns why a module that plugin.py imports is of no use in a plugin, or None."""
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    if isinstance(node, ast.ImportFrom) and not node.level:
        names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    for name in names:
        for lacking, modules in LACKING.items():
            if any(name == module or name.startswith(f"{module}.") for module in modules):
                return f"plugin.py:{node.lineno}: import {name}: a plugin has no {lacking}; what it needs comes with the event, the entity or the settings"
    return None


def mark(decorator):
    """Returns the last part of a decorator's name: `mapper` for `@mapper` and for `@weir.mapper`."""
    return decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", None)


def digest_of(folders, salt, world):
    """Returns the digest of everything that goes into the component. The same digest means the same behaviour."""
    digest = hashlib.sha256(json.dumps([salt, world]).encode())
    for root, belongs in folders:
        for place, names, files in os.walk(root or "", followlinks=True):
            names[:] = sorted(filter(belongs, names))
            for name in sorted(filter(belongs, files)):
                path = os.path.join(place, name)
                with open(path, "rb") as file:
                    digest.update(json.dumps(os.path.relpath(path, root)).encode() + hashlib.sha256(file.read()).digest())
    return digest.hexdigest()


def is_code(name):
    """Decides whether a file or folder of a package can be part of the component."""
    return name != "__pycache__" and not name.startswith(".") and not name.endswith(".dist-info")


def is_source(name):
    """Decides whether a file or folder can be part of the component."""
    return name not in NOT_SOURCE and not name.startswith(".") and not name.endswith((".pyc", ".md"))


def shortened(output, folder):
    """Returns the output of componentize-py without its own frames, with the plugin's files under the author's names."""
    start = output.rfind("Traceback (most recent call last)")
    output = output[start:] if start >= 0 else output
    return output.split("\n\nCaused by:")[0].replace('"/0/', f'"{folder}/').rstrip() + "\n"


print(json.dumps(main(json.loads(sys.argv[1]))))
