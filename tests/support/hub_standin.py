"""A small Hub on 127.0.0.1 that speaks enough HTTP for the real huggingface_hub client, and fails on demand.

    with HubStandIn() as hub:
        commit = hub.add("org/repo", {"config.json": b"{}"})
        hub.fail("flip", "GET", "config.json", times=1)
        ...                                    # the client, its endpoint set to hub.url
        assert hub.requests[0].method == "HEAD"

Kinds of faults: "500" (the server fails), "drop" (the connection closes without an answer), "stall" (no
answer), "stall body" (half of it, then nothing), "truncate" (the body ends early, and a resumed one too),
"short" (the same, with a Content-Length that hides it), "flip" (one bit of the body differs), "portal"
(a page for people, as networks show that want a login); or a function, which is called with the handler and
answers itself, by `say` or otherwise.
"""

import base64
import hashlib
import json
import math
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_stand_in"
"""The one token that may write, and read what is gated."""


class Request(NamedTuple):
    method: str
    path: str
    headers: dict


@dataclass
class Fault:
    kind: str
    method: str
    ending: str
    times: float


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    branches: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)
    commits: dict = field(default_factory=dict)
    """Files of each commit: {commit: {name: content}}."""

    def commit(self, branch, files):
        """A new commit on a branch, with exactly these files."""
        parent = self.branches.get(branch, "")
        commit = hashlib.sha1(f"{parent}{len(self.commits)}".encode()).hexdigest()
        self.commits[commit] = files
        self.branches[branch] = commit
        return commit

    def resolve(self, revision):
        """Commit of a branch, a tag or a commit; None if there is none."""
        revision = revision.removeprefix("refs/heads/")
        return (
            self.branches.get(revision)
            or self.tags.get(revision)
            or (revision in self.commits and revision)
            or None
        )


class HubStandIn:
    """The server; a context manager."""

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.sent = 0
        """Bytes of the bodies that `say` got rid of."""
        self.before_commit = lambda: None
        """Called when a commit arrives, before it is looked at: the place for a rival."""
        self.ended = threading.Event()

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads, self._server.block_on_close = True, False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Stop answering; from now on the address refuses connections."""
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, name, files, branch="main"):
        """Commit files, a folder or {name: content}, on top of what is there; returns the commit."""
        repository = self.repositories.setdefault(name, Repository())
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir()}
        return repository.commit(branch, {**self.files(name, branch), **files})

    def files(self, name, revision="main"):
        """Files of a revision, {name: content}."""
        repository = self.repositories[name]
        return dict(repository.commits.get(repository.resolve(revision), {}))

    def fail(self, kind, method, ending, times=math.inf):
        """Let requests of a method whose path ends so fail, the first `times` of them."""
        self.faults.append(Fault(kind, method, ending, times))

    def mend(self):
        """No fault any more."""
        self.faults.clear()

    def asked(self, method, ending=""):
        """How many requests of a method had a path that ends so."""
        return sum(request.method == method and request.path.endswith(ending) for request in self.requests)


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Nothing on the screen."""

    def do_HEAD(self):
        self._answer()

    do_GET = do_POST = do_HEAD

    def _answer(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(
            Request(self.command, path, {name.lower(): value for name, value in self.headers.items()})
        )
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.fault = self._due(path)
        if callable(self.fault):
            self.fault(self)
        elif self.fault == "drop":
            self._hang_up()
        elif self.fault == "stall":
            self.hub.ended.wait(60)
            self._hang_up()
        elif self.fault == "portal":
            self._send(200, b"<html>Welcome</html>")
        elif self.fault == "500":
            self._send(500, b"{}")
        else:
            for (method, pattern), handle in _ROUTES.items():
                match = re.fullmatch(pattern, path)
                if match and self.command in method:
                    return handle(self, *match.groups())
            self._send(404, b"{}")

    def _due(self, path):
        """The kind of the fault that this request meets; "" if none."""
        for fault in self.hub.faults:
            if fault.method == self.command and path.endswith(fault.ending) and fault.times > 0:
                fault.times -= 1
                return fault.kind
        return ""

    def _hang_up(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status, body=b"", **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        half = len(body) // 2
        if self.fault == "flip":
            body = body[:half] + bytes([body[half] ^ 1]) + body[half + 1 :]
        declared = half if self.fault == "short" else len(body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(declared))
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if self.command == "HEAD":
            return
        if self.fault == "truncate" and "Range" in self.headers:
            body = b""
        self.wfile.write(body[:half] if self.fault in ("truncate", "short", "stall body") else body)
        if self.fault == "stall body":
            self.hub.ended.wait(60)

    def say(self, status, body=b"", reason=None, **headers):
        """An answer without a length, which ends with the connection; headers as they are."""
        self.close_connection = True
        self.send_response(status, reason)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        for piece in [body] if isinstance(body, bytes) else body:
            if self.hub.ended.is_set():
                return
            try:
                self.wfile.write(piece)
            except OSError:  # the client has hung up
                return
            self.hub.sent += len(piece)

    def _refuse(self, status, code, message=""):
        self._send(status, {"error": message or code}, X_Error_Code=code, X_Error_Message=message or code)

    def _authorized(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, name):
        """The repository of this name as far as the asker may know of it; otherwise None, and it is told."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._authorized()):
            return self._refuse(404 if self._authorized() else 401, "RepoNotFound", "Repository not found")
        return repository

    def _at(self, name, revision):
        """The repository and the commit; (None, None), and the asker is told, where there is none."""
        repository = self._repository(name)
        if repository is None:
            return None, None
        commit = repository.resolve(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None, None
        return repository, commit

    def _may_write(self):
        if not self._authorized():
            self._send(401 if "Authorization" not in self.headers else 403, {"error": "no right to write"})
        return self._authorized()

    # Reading

    def harnesses(self):
        self._send(200, {"standardEnvVars": [], "harnesses": {}})

    def info(self, name, revision):
        repository, commit = self._at(name, revision or "main")
        if repository:
            files = [
                {"rfilename": path, "size": len(content), "blobId": _oid(content)}
                for path, content in repository.commits[commit].items()
            ]
            facts = {
                "sha": commit,
                "siblings": files,
                "private": repository.private,
                "gated": repository.gated,
            }
            self._send(
                200, {"_id": "0" * 24, "id": name, "modelId": name, "tags": [], "downloads": 0, **facts}
            )

    def tree(self, name, revision):
        repository, commit = self._at(name, revision)
        if repository:
            files = repository.commits[commit].items()
            self._send(200, [{"type": "file", "path": p, "size": len(c), "oid": _oid(c)} for p, c in files])

    def refs(self, name):
        repository = self._repository(name)
        if repository:
            kinds = {"branches": ("heads", repository.branches), "tags": ("tags", repository.tags)}
            listed = {
                kind: [{"name": n, "ref": f"refs/{folder}/{n}", "targetCommit": c} for n, c in refs.items()]
                for kind, (folder, refs) in kinds.items()
            }
            self._send(200, {**listed, "converts": []})

    def file(self, name, revision, path):
        repository, commit = self._at(name, revision)
        if not repository:
            return
        if repository.gated and not self._authorized():
            return self._refuse(403, "GatedRepo", f"Access to model {name} is restricted")
        content = repository.commits[commit].get(path)
        if content is None:
            return self._send(
                404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit
            )
        facts = {"X_Repo_Commit": commit, "ETag": f'"{_oid(content)}"', "Accept_Ranges": "bytes"}
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if not start:
            return self._send(200, content, **facts)
        first = int(start.group(1))
        facts["Content_Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self._send(206, content[first:], **facts)

    # Writing

    def create(self):
        if not self._may_write():
            return
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        address = {"url": f"{self.hub.url}/{name}"}
        if name in self.hub.repositories:
            return self._send(409, {"error": "You already created this model repo", **address})
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.repositories[name] = Repository(private=bool(private))
        self.hub.add(name, {".gitattributes": b""})
        self._send(200, {"name": name, "id": name, **address})

    def validate(self):
        content = json.loads(self.body)["content"]
        problem = "" if content.startswith("---\n") else "no YAML header"
        errors = [{"message": problem}] if problem else []
        self._send(400 if errors else 200, {"errors": errors, "warnings": []})

    def branch(self, name, branch):
        if self._may_write() and (repository := self._repository(name)):
            if branch in repository.branches:
                return self._send(409, {"error": "Reference already exists"})
            repository.branches[branch] = repository.branches["main"]
            self._send(200, {})

    def tag(self, name, revision):
        if self._may_write():
            repository, commit = self._at(name, revision)
            tag = json.loads(self.body)["tag"]
            if repository and tag in repository.tags:
                self._send(409, {"error": "Tag reference exists already"})
            elif repository:
                repository.tags[tag] = commit
                self._send(200, {})

    def preupload(self, name, revision):
        if self._may_write():
            repository, commit = self._at(name, revision)
            if repository:
                there = repository.commits[commit]
                modes = [
                    {
                        "path": p,
                        "uploadMode": "regular",
                        "shouldIgnore": False,
                        "oid": (p in there and _oid(there[p])) or None,
                    }
                    for p in (file["path"] for file in json.loads(self.body)["files"])
                ]
                self._send(200, {"files": modes})

    def commit(self, name, branch):
        if not self._may_write():
            return
        self.hub.before_commit()
        repository, head = self._at(name, branch)
        if not repository:
            return
        lines = [json.loads(line) for line in self.body.splitlines()]
        if lines[0]["value"].get("parentCommit", head) != head:
            return self._send(412, {"error": "A commit has happened since. Please refresh and try again."})
        files = dict(repository.commits[head])
        for line in lines[1:]:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "deletedFile":
                del files[line["value"]["path"]]
        answer = {}
        if "create_pr=1" in self.path:
            branch = "refs/pr/1"
            repository.branches[branch] = head
            answer["pullRequestUrl"] = f"{self.hub.url}/{name}/discussions/1"
        commit = repository.commit(branch, files)
        address = f"{self.hub.url}/{name}/commit/{commit}"
        self._send(200, {"success": True, "commitOid": commit, "commitUrl": address, **answer})


def _oid(content):
    """The hash by which git, and so the Hub's ETag, knows a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


_REPO = "([^/]+/[^/]+)"
_ROUTES = {
    (("GET",), "/api/agent-harnesses"): _Handler.harnesses,
    (("GET",), f"/api/models/{_REPO}(?:/revision/(.+))?"): _Handler.info,
    (("GET",), f"/api/models/{_REPO}/tree/(.+)"): _Handler.tree,
    (("GET",), f"/api/models/{_REPO}/refs"): _Handler.refs,
    (("HEAD", "GET"), f"/{_REPO}/resolve/(.+)/([^/]+)"): _Handler.file,
    (("POST",), "/api/repos/create"): _Handler.create,
    (("POST",), "/api/validate-yaml"): _Handler.validate,
    (("POST",), f"/api/models/{_REPO}/branch/(.+)"): _Handler.branch,
    (("POST",), f"/api/models/{_REPO}/tag/(.+)"): _Handler.tag,
    (("POST",), f"/api/models/{_REPO}/preupload/(.+)"): _Handler.preupload,
    (("POST",), f"/api/models/{_REPO}/commit/(.+)"): _Handler.commit,
}
