"""What a new user does first: from a built wheel, in a fresh environment outside the repository, all that README says.

    python tests/first_hour.py            # needs the package registry, and no other network

Builds the wheel, installs it with its extras, then runs README's Python and its commands, every command of
docs/cli.md, and looks for what they should leave behind. A tiny random model has the name of the one on the hub.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from importlib.metadata import metadata
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = "app,train"  # these bring all others but vllm

#: The one command that needs what no extra brings: only its help is looked at here.
NEEDS_A_HARNESS = "evaluate"

#: What must be there after README's commands: patterns, and how many files of each at least.
LEFT_BEHIND = {
    "out/page.png": 1,
    "out/report-p1.png": 1,
    "survey.html": 1,
    "survey.json": 1,
    "survey.parquet": 1,
    "out/model/model.safetensors": 1,
    "out/model/metrics.json": 1,
}


def main() -> None:
    start = time.perf_counter()
    # A folder whose name has a space, as many have.
    with tempfile.TemporaryDirectory(prefix="first hour ") as name:
        folder = Path(name)
        python = install(folder)
        # Out of the repository, and without its source on the path.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        inside = [str(python), str(Path(__file__).resolve()), "--inside", str(folder / "here")]
        code = subprocess.run(inside, cwd=folder, env=environment).returncode
    print(f"the first hour took {time.perf_counter() - start:.0f} s")
    sys.exit(code)


def install(folder: Path) -> Path:
    """Build the wheel and install it in a fresh environment; the environment's Python."""
    step("build the wheel and install it")
    build = ["wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *build], check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    # The versions that the tests run with, but for Pillow, of which Gradio wants an older one.
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("pillow==")]
    (folder / "constraints.txt").write_text("\n".join(pins))
    fresh = ["--no-compile", "-c", str(folder / "constraints.txt"), f"pixelprune[{EXTRAS}] @ {wheel.as_uri()}"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *fresh], check=True)
    return python


def inside(here: Path) -> None:
    """All the rest, in the fresh environment."""
    sys.path.insert(0, str(ROOT / "tests" / "docs"))
    from hub import fill_hub
    from pages import GENERATED, commands, not_run, script
    from samples import write_samples

    import pixelprune
    from pixelprune.check.tiny import build_tiny

    assert Path(pixelprune.__file__).is_relative_to(sys.prefix), f"not the wheel: {pixelprune.__file__}"
    page_of_the_index(metadata("pixelprune").get_payload())
    here.mkdir()
    write_samples(here)
    fill_hub(here.parent / "hub", build_tiny)
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "HF_HOME": str(here.parent / "hub"),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "COLUMNS": "80",
    }

    def run(*command: str) -> str:
        step(" ".join(command) if command[0] != "bash" else command[-1])
        done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
        if done.returncode or "Traceback" in done.stderr:
            sys.exit(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    (here / "readme.py").write_text(script("README.md"))
    run("python", "readme.py")
    ran = {"explore"}
    explore(here, environment)
    for command in commands(["README.md"]):
        way = not_run(command)
        if way is None or way == "pixelprune doctor":
            run("bash", "-ec", command)
            ran |= set(re.findall(r"^pixelprune (\w+)", command))
    for pattern, least in LEFT_BEHIND.items():
        found = [path for path in here.glob(pattern) if path.stat().st_size]
        assert len(found) >= least, f"nothing in {pattern}"
    sections = re.split(r"^## `pixelprune (\w+)`$", GENERATED.read_text(), flags=re.MULTILINE)[1:]
    listed = dict(zip(sections[::2], sections[1::2], strict=True))
    assert set(listed) == ran | {NEEDS_A_HARNESS}, f"README runs {sorted(ran)}; docs/cli.md has {sorted(listed)}"
    for name, text in listed.items():
        shown = run("pixelprune", name, "--help")
        missing = set(re.findall(r"(?<=`)--[\w-]+", text)) - set(re.findall(r"--[\w-]+", shown))
        assert not missing, f"{name} --help lacks {sorted(missing)}"


def page_of_the_index(text: str) -> None:
    """README as the package index shows it: no link or image depends on the repository's folders."""
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    relative = [link for link in links if not link.startswith(("https://", "#"))]
    assert len(links) > 20 and not relative, f"relative links: {relative}"


def explore(here: Path, environment: dict[str, str]) -> None:
    """Start the explorer, load its page, stop it."""
    step("pixelprune explore --no-browser")
    command = ["pixelprune", "explore", "--no-browser"]
    with subprocess.Popen(command, cwd=here, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found is not None, "the explorer did not say where it is"
            with urlopen(found[0], timeout=60) as answer:
                assert answer.status == 200 and b"PixelPrune" in answer.read()
        finally:
            process.terminate()


def step(what: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {what}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(Path(sys.argv[2]))
    else:
        main()
