"""Posts random and malicious requests to every named endpoint, every function of the page and every route of its own.

`python -m tests.hostile.fuzz --requests 1000` sends that many to each, and prints what was answered and every finding:
a status of 500 or more, a trace or a path or a secret in an answer, a failure without a sentence, a file outside the
data folder that was opened or changed, a connection to anywhere, a server that died.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from app.closer.matters_route import MATTERS_URL
from app.closer.registry import READERS
from app.closer.route import CLOSER_URL
from app.layout import RUN_URL
from app.library.page import EXPORT_URL
from app.words import BROKEN
from tests.hostile.server import CANARY, ROOT, SECRET, Server, outside_state, watched_server
from tests.hostile.values import Values

JSON = {"content-type": "application/json"}
SECONDS = 120  # for one answer, on a busy machine
# The server closes a connection that was idle for five seconds; one must not just be sending on it then.
KEPT = httpx.Limits(keepalive_expiry=2.0)
# Arguments that are right, so that a single wrong one gets past the others. No run may start.
GOOD: dict[str, list[Any]] = {
    "understand": ["tiny-janus", {}, "is there a star?", 0, 0.0, 1],
    "generate": ["no such model", "a red circle", 0, 1.0, 1.0, ""],
    "start_run": [{"model": "no such model", "steps": 1, "learning_rate": 1e-4, "targets": "auto"}, "name", False],
    "fit_targets": ["", "", 4, "training", "tiny-janus", "auto", ""],
    "library": ["", "", "made", True, 0],
    "compare": ["capture:" + "0" * 24, "figure"],
}
FORM = ["understand", "tiny-janus", {"sample": "sample-1.png"}, "is it?", "", 0, 0.0, 1, 1.0, 1.0, "", "", 1.0, ""]


class Findings:
    """What was answered, and what must not have been."""

    def __init__(self, server: Server):
        self._private = [
            str(ROOT),
            str(server.data),
            CANARY,
            SECRET,
            "Traceback (most recent",
            'File "/',
            '.py", line',
        ]
        self.statuses: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.wrong: dict[str, str] = {}

    def note(self, where: str, status: int, text: str, sent: Any, sentence: bool = True) -> None:
        """One answer. `sentence`: whether what went wrong had one."""
        self.statuses[where][str(status)] += 1
        private = next((word for word in self._private if word in text), None)
        if status >= 500:
            self._add(where, f"status {status}", text, sent)
        if private:
            self._add(where, f"“{private}” in an answer", text, sent)
        if BROKEN in text or not sentence:
            self._add(where, "a failure inside", text, sent)

    def _add(self, where: str, what: str, text: str, sent: Any) -> None:
        self.wrong.setdefault(f"{where}: {what}", f"sent {str(sent)[:600]!r}, answered {text[-300:]!r}")


class Fuzz:
    """All kinds of requests to one server; each kind has its own seed."""

    def __init__(self, server: Server):
        self.server, self.findings = server, Findings(server)
        self.client = httpx.Client(base_url=server.url, timeout=SECONDS, limits=KEPT)
        self.config = self.client.get("/config").json()
        self.paths = tuple(str(path) for path in sorted(server.outside.iterdir()))
        self.named = [d["api_name"] for d in self.config["dependencies"] if d["api_visibility"] == "public"]
        self.inner = [d for d in self.config["dependencies"] if d["backend_fn"] and d["api_visibility"] == "private"]
        self.kinds = self._kinds()

    def _kinds(self) -> dict[str, Callable[[Values], None]]:
        kinds: dict[str, Callable[[Values], None]] = {}
        for name in self.named:
            kinds[f"/{name}"] = lambda values, name=name: self.call(name, values)
        for one in self.inner:
            kinds[f"function {one['id']} {one['api_name']}"] = lambda values, one=one: self.inner_call(one, values)
        kinds |= {
            RUN_URL: lambda values: self.post(RUN_URL, values.mutate(FORM)),
            MATTERS_URL: lambda values: self.post(MATTERS_URL, values.mutate({"capture": "0" * 24, "view": "x"})),
            EXPORT_URL: lambda values: self.get(EXPORT_URL, {"ids": values.text()}),
            CLOSER_URL: self.closer,
            "upload": self.upload,
            "component_server": self.component,
            "bodies": self.body,
            "cut bodies": self.cut,
            "addresses": self.address,
        }
        return kinds

    def run(self, requests: int, threads: int = 4) -> None:
        """That many requests of each kind."""

        def send(job: tuple[str, int]) -> None:
            kind, number = job
            try:
                self.kinds[kind](Values(hash_of(kind) + number, self.paths))
            except httpx.HTTPError as error:
                self.findings.wrong.setdefault(f"{kind}: no answer", repr(error))

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(send, ((kind, number) for number in range(requests) for kind in self.kinds)))

    # --- kinds ---

    def call(self, name: str, values: Values) -> None:
        """A named endpoint, as curl calls it: post, then read the event."""
        info = next(d for d in self.config["dependencies"] if d["api_name"] == name)
        good = GOOD.get(name) or ["0" * 24] * len(info["inputs"])
        data = values.mutate(good) if values.random.random() < 0.9 else good
        if name == "start_run" and isinstance(data, list) and data and isinstance(data[0], dict):
            data[0] = {**data[0], "model": values.text() + "?"}
        answer = self.send("POST", f"/gradio_api/call/{name}", content=json.dumps({"data": data}), headers=JSON)
        self.findings.note(f"/{name}", answer.status_code, answer.text, data)
        if answer.status_code == 200:
            with self.client.stream("GET", f"/gradio_api/call/{name}/{answer.json()['event_id']}") as events:
                text = "".join(events.iter_text())
            told = "event: error\ndata: null" not in text
            self.findings.note(f"/{name}", events.status_code, text, data, told)

    def inner_call(self, one: dict[str, Any], values: Values) -> None:
        """A function of the page's own controls, past the queue: what the page starts with, or anything, in them."""
        data = values.mutate(self._as_the_page_starts(one))
        if values.random.random() < 0.3 or one["api_name"].startswith("on_start"):  # none may start
            data = [values.value() for _ in one["inputs"]]
        payload = {"data": data, "fn_index": one["id"], "session_hash": "fuzz", "event_data": values.value()}
        self.post("/gradio_api/run/predict", payload, f"function {one['id']} {one['api_name']}")

    def _as_the_page_starts(self, one: dict[str, Any]) -> list[Any]:
        start = {component["id"]: component["props"].get("value") for component in self.config["components"]}
        return [start.get(control) for control in one["inputs"]]

    def closer(self, values: Values) -> None:
        view = values.random.choice((*READERS, "partners", quote(values.text().encode("utf-8", "replace"), safe="")))
        names = ("capture", "with", "definition", "layer", "head", "token", "word", values.text())
        self.get(f"{CLOSER_URL}/{view}", {name: str(values.value())[:2000] for name in names}, CLOSER_URL)

    def upload(self, values: Values) -> None:
        name = values.text().encode("utf-8", "replace").replace(b"\r", b"").replace(b"\n", b"").replace(b'"', b"%22")
        field = values.random.choice((b"files", b"files", b"", b"x"))
        head = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n' % (field, name)
        end = values.random.choice((b"\r\n--b--\r\n", b"", b"\r\n--b", b"\r\n--c--\r\n"))
        kind = values.random.choice(("multipart/form-data; boundary=b",) * 3 + ("text/plain", "multipart/form-data"))
        answer = self.send("POST", "/gradio_api/upload", content=head + b"x" * 10 + end, headers={"content-type": kind})
        told = answer.text if answer.status_code != 200 else ""  # the answer is the path of what was sent
        self.findings.note("upload", answer.status_code, told, name)

    def component(self, values: Values) -> None:
        some = values.random.choice(self.config["components"])["id"]
        payload = {"component_id": some, "fn_name": values.text(), "session_hash": "fuzz", "data": values.value()}
        if values.random.random() < 0.5:
            payload |= {"fn_name": "fetch_cells"}
        self.post("/gradio_api/component_server", values.mutate(payload), "component_server")

    def body(self, values: Values) -> None:
        """Something that is no JSON object, where one is expected."""
        bodies = (b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"data": [NaN]}', b'{"data":["\\ud800"]}')
        content = values.random.choice((*bodies, b"[" * 50_000, b'{"data":' + b"9" * 6000 + b"}", bytes(2**20)))
        path = values.random.choice((RUN_URL, MATTERS_URL, *self._posted()))
        kinds = (
            "application/json",
            "text/plain",
            "multipart/form-data; boundary=b",
            "application/x-www-form-urlencoded",
        )
        headers = {"content-type": values.random.choice(kinds)}
        answer = self.send("POST", path.replace("//", "/"), content=content, headers=headers)
        self.findings.note("bodies", answer.status_code, answer.text, (path, content[:60]))

    def cut(self, values: Values) -> None:
        """A request whose body never ends: the connection closes in the middle."""
        path = values.random.choice(("/gradio_api/upload", f"/{RUN_URL}", *self._posted()))
        kind = "multipart/form-data; boundary=b" if path.endswith("upload") else "application/json"
        body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="cut.png"\r\n\r\nxxxx'
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 9999\r\n\r\n"
        address = urlsplit(self.server.url)
        with socket.create_connection((address.hostname, address.port), SECONDS) as connection:
            connection.sendall(head.encode() + body[: values.random.randrange(len(body))])
        self.findings.statuses["cut bodies"]["cut"] += 1

    def address(self, values: Values) -> None:
        """Any method at any address: files of the server's, other servers, Gradio's other routes."""
        paths = ("/gradio_api/file=", "/gradio_api/proxy=", "/assets/", "/static/", "/svelte/", "/", "/gradio_api/")
        tail = quote(values.text().encode("utf-8", "replace"), safe="/:.")
        path = values.random.choice(paths) + values.random.choice((tail, *self.paths))
        method = values.random.choice(("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "X"))
        answer = self.send(method, path, follow_redirects=False)
        self.findings.note("addresses", answer.status_code, answer.text, f"{method} {path}")

    def _posted(self) -> Iterator[str]:
        yield from (
            f"/gradio_api/{name}" for name in ("queue/join", "cancel", "reset", "component_server", "run/predict")
        )
        yield from ("/login", f"/gradio_api/call/{self.named[0]}")

    # --- sending ---

    def send(self, method: str, path: str, **others: Any) -> httpx.Response:
        return self.client.request(method, path, **others)

    def post(self, path: str, payload: Any, where: str = "") -> None:
        answer = self.send("POST", path, content=json.dumps(payload), headers=JSON)
        self.findings.note(where or path, answer.status_code, answer.text, payload)

    def get(self, path: str, query: dict[str, str], where: str = "") -> None:
        query = {k.encode("utf-8", "replace"): v.encode("utf-8", "replace") for k, v in query.items()}
        answer = self.send("GET", path, params=query)
        self.findings.note(where or path, answer.status_code, answer.text, query)


def hash_of(text: str) -> int:
    """The same number in every process."""
    return int.from_bytes(text.encode()[:24], "big") % 2**31


def attack(server: Server, requests: int) -> tuple[Fuzz, list[str]]:
    """Fuzz a server; everything that must not have happened."""
    fuzz, before = Fuzz(server), outside_state(server.outside)
    server.arm()
    fuzz.run(requests)
    wrong = [f"{what}: {how}" for what, how in fuzz.findings.wrong.items()]
    wrong += [f"the server touched {note}" for note in server.notes()]
    wrong += ["a file outside the data folder was changed"] if outside_state(server.outside) != before else []
    wrong += [f"the secret is in {path}" for path in server.secrets_kept()]
    wrong += [] if server.is_alive() else ["the server died"]
    return fuzz, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000, help="of each kind (1000)")
    asked, start = parser.parse_args(), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="aia-lens-fuzz-") as folder,
        watched_server(Path(folder) / "server", AIA_LENS_UPLOADS_PER_HOUR="1000000") as server,
    ):
        fuzz, wrong = attack(server, asked.requests)
        memory, log = server.memory_mib(), server.log()
    for where, counted in sorted(fuzz.findings.statuses.items()):
        print(f"{where:45} {dict(counted.most_common())}")
    total = sum(sum(counted.values()) for counted in fuzz.findings.statuses.values())
    if wrong:
        print(log, file=sys.stderr)
    print(f"{total:,} answers in {time.monotonic() - start:.0f} s, {len(fuzz.kinds)} kinds; server at {memory:.0f} MiB")
    print(*(wrong or ["nothing wrong"]), sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
