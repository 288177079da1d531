"""A browser plays what was encoded: it advances, and shows the colours that were given. Needs Chromium."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import queue
import shutil
import signal
import subprocess
import threading

import numpy as np
import pytest

from ml_dash.media.video import VideoFile, check_fps
from ml_dash.media.video_frames import rgb_frames

pytest.importorskip("av")
pytestmark = pytest.mark.ecosystem
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

PLAY_SECONDS = 60.0
"""A cold Chromium on a busy machine takes several seconds to start; this only bounds a hang."""

COLOURS = [(220, 30, 40), (20, 200, 60), (30, 60, 210), (128, 128, 128)]
"""Four stripes from left to right."""

PAGE = """<!doctype html><video muted playsinline src="clip.KIND"></video><script>
const video = document.querySelector("video");
const tell = (result) => fetch("/result", {method: "POST", body: JSON.stringify(result)});
video.onerror = () => tell({error: video.error.code + " " + video.error.message});
video.onended = () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  const colours = [0, 1, 2, 3].map((stripe) =>
    [...context.getImageData((stripe + 0.5) * canvas.width / 4, canvas.height / 2, 1, 1).data].slice(0, 3));
  tell({size: [video.videoWidth, video.videoHeight], duration: video.duration, time: video.currentTime, colours});
};
video.play().catch((error) => tell({error: String(error)}));
</script>"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the folder, and takes the page's result."""

    def do_POST(self):
        self.server.results.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        server.results = queue.Queue()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def browser(address, profile):
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-breakpad", "--no-first-run", "--mute-audio"]
    process = subprocess.Popen(
        [CHROMIUM, *switches, "--autoplay-policy=no-user-gesture-required", f"--user-data-dir={profile}", address],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its helpers too, which are of the same session
        process.wait()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.allow_leaks("Chromium's own helpers may take a moment to notice that it was killed")
@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_a_browser_plays_it_in_the_right_colours(tmp_path, kind):
    frame = np.repeat(np.array(COLOURS, np.uint8)[None], 119, axis=0).repeat(40, axis=1)[:, :159]
    with VideoFile(str(tmp_path / f"clip.{kind}"), kind, check_fps(30, kind), 75) as video:
        for pixels in rgb_frames([frame] * 30):
            video.add(pixels)
        video.finish()
    (tmp_path / "index.html").write_text(PAGE.replace("KIND", kind))
    with served(tmp_path) as server, browser(f"http://127.0.0.1:{server.server_port}/", tmp_path / "profile"):
        result = server.results.get(timeout=PLAY_SECONDS)

    assert "error" not in result, result
    assert [160, 120] == result["size"]
    assert [1.0, 1.0] == pytest.approx([result["duration"], result["time"]], abs=0.05)
    assert np.abs(np.array(COLOURS) - result["colours"]).max() <= 8
