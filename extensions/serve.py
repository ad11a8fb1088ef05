"""Show the built book on 127.0.0.1; rebuild it when a source changes.

    python extensions/serve.py [--port 8000]

An open page reloads itself after a rebuild. A rebuild that fails leaves the
last good pages in place and says why in the terminal.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from watchfiles import watch

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build/html"
WATCHED = [
    "index.md",
    "chapters",
    "lorabook",
    "assets",
    "extensions",
    "references.bib",
    "_config.yml",
    "_toc.yml",
]
# Waits for the next build, then loads the page again.
RELOAD = b"""<script>
(async () => { for (;;) {
  try { if ((await fetch("/__changed__")).status === 200) location.reload(); }
  catch { await new Promise((wait) => setTimeout(wait, 1000)); }
} })();
</script>"""


class Preview(SimpleHTTPRequestHandler):
    """Serve the site, with the reloading script in every page."""

    built = threading.Condition()

    def do_GET(self) -> None:
        """Answer with a file, or with the news that the book was rebuilt."""
        if self.path == "/__changed__":
            with self.built:
                news = self.built.wait(timeout=25)
            self.send_response(200 if news else 204)
            self.end_headers()
            return
        super().do_GET()
        if self.path.endswith(("/", ".html")):
            self.wfile.write(RELOAD)

    def end_headers(self) -> None:
        """Keep the browser from showing an old page."""
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def send_header(self, keyword: str, value: str) -> None:
        """Announce the length with the script, which follows the page."""
        if keyword == "Content-Length" and self.path.endswith(("/", ".html")):
            value = str(int(value) + len(RELOAD))
        super().send_header(keyword, value)

    def log_message(self, format: str, *args: object) -> None:
        """Leave the terminal to the builds."""


def main() -> int:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Preview the book.")
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    handler = partial(Preview, directory=str(SITE))
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        print(
            f"port {port} cannot be used ({error.strerror}): "
            f"make serve PORT={port + 1}",
            file=sys.stderr,
        )
        return 1
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"The book: http://127.0.0.1:{port}/ (Ctrl-C stops)")
    try:
        for _ in watch(*(ROOT / name for name in WATCHED)):
            subprocess.run(["make", "--no-print-directory"], cwd=ROOT)
            with Preview.built:
                Preview.built.notify_all()
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
