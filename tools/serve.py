"""Show the book on 127.0.0.1; build it again when a source changes.

    python tools/serve.py [--port 8000] [--jobs N]

An open page reloads itself after a build (sphinx-autobuild). A build that
fails leaves the last good pages in place, and says why in the terminal.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import uvicorn
import watchfiles
from sphinx_autobuild.middleware import JavascriptInjectorMiddleware
from sphinx_autobuild.server import RebuildServer
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
FOLDERS = ("assets", "chapters", "extensions", "lorabook")
FILES = {"_config.yml", "_toc.yml", "index.md", "references.bib"}


RELOAD = """
new WebSocket(`ws://${location.host}/websocket-reload`).onmessage = () => {
  location.reload();
};
"""


class Reloading(JavascriptInjectorMiddleware):  # type: ignore[misc]
    """Let each page load what reloads it.

    The policy of the pages allows scripts of the site, and none in a page.
    """

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app, ws_url="")
        self.script = b'<script src="/reload.js"></script>'


async def reload_script(request: Request) -> Response:
    """Return the script."""
    del request
    return Response(RELOAD, media_type="text/javascript")


class Rebuilder(RebuildServer):  # type: ignore[misc]
    """Tell open pages about new builds.

    Parameters
    ----------
    root
        The book's folder.
    build
        What to do when a source has changed.
    """

    def __init__(self, root: Path, build: Callable[[], object]) -> None:
        super().__init__([], lambda _: False, lambda _: None)
        self.root = root
        self.build = build

    async def watch(self) -> None:
        """Follow the sources.

        Single files are watched by the folder that they lie in: most editors
        put a new file in the place of the old one.
        """
        folders = [str(self.root / name) for name in FOLDERS]
        await asyncio.gather(
            self.follow(watchfiles.DefaultFilter(), folders),
            self.follow(
                lambda _, path: Path(path).name in FILES,
                [str(self.root)],
                recursive=False,
            ),
        )

    async def follow(
        self,
        wanted: Callable[[watchfiles.Change, str], bool],
        paths: list[str],
        recursive: bool = True,
    ) -> None:
        """Build after every change to the wanted files."""
        async for _ in watchfiles.awatch(
            *paths, watch_filter=wanted, recursive=recursive
        ):
            await asyncio.to_thread(self.build)
            self.flag.set()


def serve(root: Path, build: Callable[[], int], port: int) -> int:
    """Build, then show the site until Ctrl-C; return the exit status."""
    site = root / "_build" / "html"
    try:
        listening = socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        print(
            f"\nPort {port} cannot be used ({why}). "
            "Name another: make serve PORT=8001\n",
            file=sys.stderr,
        )
        return 1
    failed = build()
    if failed and not (site / "index.html").exists():
        return failed
    rebuilder = Rebuilder(root, build)
    app = Starlette(
        routes=[
            WebSocketRoute("/websocket-reload", rebuilder),
            Route("/reload.js", reload_script),
            Mount("/", app=StaticFiles(directory=site, html=True)),
        ],
        middleware=[Middleware(Reloading)],
        lifespan=rebuilder.lifespan,
    )
    address = f"http://{HOST}:{listening.getsockname()[1]}/"
    print(f"The book: {address} (Ctrl-C stops)", flush=True)
    config = uvicorn.Config(
        app, log_level="warning", timeout_graceful_shutdown=1
    )
    uvicorn.Server(config).run(sockets=[listening])
    return 0


class Builds:
    """Builds of the book, by a process that has been waiting for its turn.

    To import Sphinx and all that goes with it takes as long as to write a
    page. So as soon as a build has ended, the next one does that already.

    Parameters
    ----------
    command
        How to start a build that waits for a line.
    tools
        The folder of its code, which may change while it waits.
    """

    def __init__(self, command: list[str], tools: Path) -> None:
        self.command, self.tools = command, tools
        self.start()

    def start(self) -> None:
        """Let a process get ready.

        Until it builds, Ctrl-C is none of its business: it ends when there
        is no line for it. It inherits which signals are held back.
        """
        self.code = self.state()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.next = subprocess.Popen(self.command, stdin=subprocess.PIPE)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def state(self) -> list[int]:
        """Return when each file of the code was changed."""
        return [x.stat().st_mtime_ns for x in sorted(self.tools.glob("*.py"))]

    def __call__(self) -> int:
        """Build; return the exit status."""
        if self.next.poll() is not None or self.state() != self.code:
            self.close()
            self.start()
        self.next.communicate(b"build\n")
        status = self.next.returncode
        if status:
            print("What is shown are the last good pages.", file=sys.stderr)
        self.start()
        return status

    def close(self) -> None:
        """Let the process that waits end: it gets no line."""
        self.next.communicate()


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Show the book.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    tools = ROOT / "tools"
    command = [sys.executable, "-E", "-s", str(tools / "book.py"), "--wait"]
    build = Builds([*command, f"--jobs={options.jobs}"], tools)
    with suppress(KeyboardInterrupt), closing(build):
        return serve(ROOT, build, options.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
