"""A Hugging Face Hub on loopback: just the addresses that loading a repository takes."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def repository_and_rest(root, path):
    """Split "a/b/resolve/main/f" into the folder of the repository and what follows."""
    words = path.strip("/").split("/")
    for n in (2, 1):
        folder = Path(root, *words[:n])
        if folder.is_dir() and any(entry.is_file() for entry in folder.iterdir()):
            return folder, words[n:]
    return None, words


class Handler(BaseHTTPRequestHandler):
    root = None  # holds models/ID/… and datasets/ID/…

    def log_message(self, *args):
        pass

    def reply(self, status, body=b"", headers=None):
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT} | (
            headers or {}
        )
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def reply_json(self, value):
        self.reply(
            200, json.dumps(value).encode(), {"Content-Type": "application/json"}
        )

    def entry(self, folder, file):
        name = file.relative_to(folder).as_posix()
        oid = hashlib.sha1(name.encode()).hexdigest()
        return {"type": "file", "path": name, "size": file.stat().st_size, "oid": oid}

    def do_api(self, path, body):
        kind, _, rest = path.partition("/")
        folder, words = repository_and_rest(Path(self.root, kind), rest)
        if folder is None:
            return self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        if words[:1] == ["tree"]:
            below = Path(folder, *words[2:])
            files = [file for file in files if file.is_relative_to(below)]
            listed = [self.entry(folder, file) for file in files]
            if "recursive=true" not in urlsplit(self.path).query.lower():
                listed = [e for e, f in zip(listed, files) if f.parent == below]
                for subfolder in sorted(p for p in below.glob("*") if p.is_dir()):
                    name = subfolder.relative_to(folder).as_posix()
                    listed.append({"type": "directory", "path": name, "oid": "0"})
            return self.reply_json(listed)
        if words[:1] == ["paths-info"]:
            wanted = json.loads(body or b"{}").get("paths", [])
            found = [self.entry(folder, file) for file in files]
            return self.reply_json([e for e in found if e["path"] in wanted])
        name = folder.relative_to(Path(self.root, kind)).as_posix()
        siblings = [{"rfilename": f.relative_to(folder).as_posix()} for f in files]
        self.reply_json(
            {"id": name, "sha": COMMIT, "private": False, "gated": False, "tags": []}
            | {"siblings": siblings, "downloads": 0}
        )

    def do_GET(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        path = unquote(urlsplit(self.path).path).strip("/")
        if path.startswith("api/"):
            return self.do_api(path.removeprefix("api/"), body)
        kind = "datasets" if path.startswith("datasets/") else "models"
        folder, words = repository_and_rest(
            Path(self.root, kind), path.removeprefix("datasets/")
        )
        if folder is None or words[:1] != ["resolve"]:
            return self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})
        file = Path(folder, *words[2:])
        if not file.is_file():
            return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        content = file.read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        self.reply(200, content, {"ETag": f'"{etag}"'})

    do_HEAD = do_POST = do_GET


@contextmanager
def serve(root):
    """Serve `root` (models/ID/…, datasets/ID/…) and yield what HF_ENDPOINT must be."""
    handler = type("RootedHandler", (Handler,), {"root": str(root)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
