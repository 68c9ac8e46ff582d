"""Values as a stranger may send them: of every type, hostile text, numbers beyond reason, nests, forged files."""

from __future__ import annotations

import random
from typing import Any

TEXTS = (
    "",
    " ",
    "\0",
    "a\0b",
    "\n\r\t",
    "x" * 5000,
    "é" * 300,
    "\u202egnp.exe",
    "😀" * 50,
    "\ud800",
    "\ufeffid",
    "‮",
    "../../../../etc/passwd",
    "..\\..\\windows",
    "/etc/passwd",
    "file:///etc/passwd",
    "http://127.0.0.1:9/x",
    "data:text/html,<script>alert(1)</script>",
    "<script>alert(1)</script>",
    "'; DROP TABLE Cache; --",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "%s%s%n",
    "%00",
    "null",
    "None",
    "true",
    "NaN",
    "-1",
    "1e999",
    "0x10",
    "__proto__",
    "__class__",
    "constructor",
    "capture:" + "0" * 24,
    "run:" + "0" * 16,
    "measurement:x",
    "dataset:../../x",
    "saved:../x",
    "0" * 24,
    "f" * 24,
    "0" * 16,
    "con",
    "nul",
    "tiny-janus/../x",
    "*",
    "%",
    "_",
    "[",
    "(",
    "\\",
)
NUMBERS = (0, -1, 1, 2, 7, 64, 2**31, 2**53 + 1, 2**63, -(2**63), 2**64, 10**30, 0.5, -0.0, 1e308, -1e308, 5e-324)
KNOWN = ("tiny-janus", "world", "a red circle", "is there a star?", "generation", "figure", "strict", "auto", "capture")


class Values:
    """A source of values, the same for the same seed. `paths` are files that exist and must not be opened."""

    def __init__(self, seed: int, paths: tuple[str, ...] = ()):
        self.random, self.paths = random.Random(seed), paths

    def value(self, depth: int = 0) -> Any:
        pick = self.random.random()
        if pick < 0.30 or depth > 3:
            return self.text()
        if pick < 0.50:
            return self.random.choice(NUMBERS)
        if pick < 0.62:
            return self.random.choice((None, True, False, [], {}))
        if pick < 0.75:
            return self.forged_file()
        if pick < 0.80:
            return self.nest(self.random.choice((5, 30, 63, 70, 400)))
        if pick < 0.90:
            return [self.value(depth + 1) for _ in range(self.random.randint(1, 6))]
        return {self.text(): self.value(depth + 1) for _ in range(self.random.randint(1, 5))}

    def text(self) -> str:
        pick = self.random.random()
        if pick < 0.15:
            return self.random.choice(KNOWN)
        if pick < 0.25:
            return "".join(chr(self.random.choice((*range(1, 256), 0x202E, 0x1F600, 0xFFFF))) for _ in range(20))
        return self.random.choice(TEXTS + self.paths)

    def forged_file(self) -> dict[str, Any]:
        """What Gradio takes for an uploaded file, and is none."""
        path = self.random.choice((*self.paths, "/etc/passwd", "app.py", "http://127.0.0.1:9/x.png", "", "\0", ".."))
        file = {"path": path, "orig_name": self.text(), "meta": {"_type": "gradio.FileData"}, "url": path}
        for name in self.random.sample(("orig_name", "url", "meta"), self.random.randint(0, 2)):
            file[name] = self.value(3)
        return file

    def nest(self, levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = [value] if self.random.random() < 0.5 else {"a": value}
        return value

    def mutate(self, good: Any) -> Any:
        """A good value with something wrong in it, or another altogether."""
        if isinstance(good, dict) and good and self.random.random() < 0.7:
            return {**good, self.random.choice((*good, self.text())): self.value(1)}
        if isinstance(good, list) and good and self.random.random() < 0.7:
            changed = list(good)
            changed[self.random.randrange(len(changed))] = self.value(1)
            return changed
        return self.value()
