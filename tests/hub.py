"""A Hugging Face Hub on loopback: just the addresses that loading a repository takes."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Handler(BaseHTTPRequestHandler):
    root = None  # holds models/ID/… and datasets/ID/…

    def log_message(self, *args):
        pass

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        headers |= {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def find(self, kind, path):
        """Split "a/b/resolve/main/f" into the folder of the repository and the rest."""
        words = path.strip("/").split("/")
        for n in (2, 1):
            folder = Path(self.root, kind, *words[:n])
            if folder.is_dir() and any(entry.is_file() for entry in folder.iterdir()):
                return folder, words[n:]
        return None, words

    def api(self, kind, path, body):
        folder, words = self.find(kind, path)
        if folder is None:
            return self.reply(404, b"{}", X_Error_Code="RepoNotFound")
        below = Path(folder, *words[2:]) if words[:1] == ["tree"] else folder
        listed = []
        for entry in sorted(below.rglob("*")):
            name = entry.relative_to(folder).as_posix()
            kinds = {"type": "file" if entry.is_file() else "directory", "path": name}
            oid = hashlib.sha1(name.encode()).hexdigest()
            listed.append(kinds | {"size": entry.stat().st_size, "oid": oid})
        if words[:1] == ["tree"] and "recursive=true" not in self.path.lower():
            listed = [e for e in listed if Path(folder, e["path"]).parent == below]
        elif words[:1] == ["paths-info"]:
            wanted = json.loads(body or b"{}").get("paths", [])
            listed = [e for e in listed if e["path"] in wanted]
        elif words[:1] != ["tree"]:
            files = [{"rfilename": e["path"]} for e in listed if e["type"] == "file"]
            name = folder.relative_to(Path(self.root, kind)).as_posix()
            listed = {"id": name, "sha": COMMIT, "siblings": files, "tags": []}
        self.reply(200, json.dumps(listed).encode(), Content_Type="application/json")

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path).strip("/")
        if path.startswith("api/"):
            kind, _, rest = path.removeprefix("api/").partition("/")
            return self.api(kind, rest, body)
        kind = "datasets" if path.startswith("datasets/") else "models"
        folder, words = self.find(kind, path.removeprefix("datasets/"))
        if folder is None or words[:1] != ["resolve"]:
            return self.reply(404, X_Error_Code="RepoNotFound")
        file = Path(folder, *words[2:])
        if not file.is_file():
            return self.reply(404, X_Error_Code="EntryNotFound")
        content = file.read_bytes()
        self.reply(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"')

    do_HEAD = do_POST = do_GET


@contextmanager
def serve(root, port=0):
    """Serve `root` (models/ID/…, datasets/ID/…) and yield what HF_ENDPOINT must be.

    Port 0 is any free port.
    """
    handler = type("RootedHandler", (Handler,), {"root": str(root)})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
