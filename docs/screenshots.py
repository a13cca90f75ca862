"""Makes the pictures of docs/pictures of a run, TensorBoard and a report: make screenshots.

Three runs of the demo's digits, one of them in a terminal, a server of TensorBoard, and Chromium
without a window.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from docs import terminal
from scripts import demo

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
TABS = ("scalars", "images", "hparams", "graphs")
RATES = ("0.001", "0.004")
WIDTH, HEIGHT, REPORT_HEIGHT = 1400, 1000, 3200  # pixels
COLUMNS, LINES = 112, 26  # of the terminal
TERMINAL_WIDTH, LINE_HEIGHT = 1120, 20  # pixels
EPOCH = "epoch 6/10"  # in which it is looked at
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if browser is None:
        sys.exit("Chromium is missing: apt-get install chromium.")
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder, "runs")
        records = demo.make_records(Path(folder))
        command = (*_command("train"), f"--data_dir={records}", f"--run_dir={folder}/terminal")
        page = Path(folder, "terminal.html")
        page.write_text(terminal.page(command, EPOCH, COLUMNS, LINES))
        _shoot(browser, page.as_uri(), "terminal", LINE_HEIGHT * LINES + 32, TERMINAL_WIDTH)
        for rate in RATES:
            run = runs / f"learning-rate-{rate}"
            _module("train", f"--data_dir={records}", f"--run_dir={run}", f"--learning_rate={rate}")
        _module("report", str(run))
        _shoot(browser, (run / "report.html").as_uri(), "report", REPORT_HEIGHT)
        program = ROOT / "trainer" / "board" / "serving.py"
        with subprocess.Popen(
            [sys.executable, "-P", str(program), str(runs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            assert server.stdout is not None
            address = next(line.strip() for line in server.stdout if line.startswith("http"))
            for tab in TABS:
                _shoot(browser, f"{address}?darkMode=false#{tab}", tab, HEIGHT)
            server.terminate()


def _module(name: str, *flags: str) -> None:
    subprocess.run([*_command(name), *flags], cwd=ROOT, check=True)


def _command(name: str) -> tuple[str, ...]:
    return sys.executable, "-m", f"scripts.{name}"


def _shoot(browser: str, address: str, name: str, height: int, width: int = WIDTH) -> None:
    """What a window of the browser shows once its page has loaded what it asks for."""
    path = PICTURES / f"{name}.png"
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
    size = (f"--window-size={width},{height}", "--virtual-time-budget=30000")
    subprocess.run(
        [browser, *options, *size, f"--screenshot={path}", address],
        check=True,
        stderr=subprocess.DEVNULL,
        timeout=180,
    )
    print(path)


if __name__ == "__main__":
    main()
