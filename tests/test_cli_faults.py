"""How the program ends when something is wrong: one message, no traceback, and never 1, which is a verdict."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from run_pygan import MAIN, Pygan, refused

from pygan.cli import doctor, faults, output
from pygan.cli import train as train_command
from pygan.errors import BUG, ConfigError, OutputError, PyganError
from pygan.files import check_writable, parse_json, read_limited, write_json, write_text

SMALL = ("--width", 2, "--latent-dim", 5, "--batch", 8, "--grid", 2, "--threads", 1, "--samples", 22)


class TorchOutOfMemory(RuntimeError):
    """As torch raises it on the CPU."""


class Silent(Exception):
    """An exception that fails to say what it is."""

    def __str__(self) -> str:
        raise ZeroDivisionError


def unicode_error() -> UnicodeEncodeError:
    return UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")


OF_INPUT = [
    (OSError(28, "No space left on device", "/x"), "No space left on device: '/x'"),
    (ConnectionResetError(104, "Connection reset"), "Connection reset"),
    (TimeoutError("the clock"), "the clock"),
    (unicode_error(), "characters that cannot be used here"),
    (RecursionError("maximum recursion depth exceeded"), "nested too deep"),
    (MemoryError(), "not enough memory"),
    (
        TorchOutOfMemory("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 9 B"),
        "not enough memory",
    ),
    (TorchOutOfMemory("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
    (OverflowError("int too large to convert to float"), "a number that was given is too large"),
    (ModuleNotFoundError("No module named 'torch'", name="torch"), "`pygan doctor` lists what is needed"),
    (ImportError("libgomp.so.1: cannot open shared object file", name="torch._C"), "libgomp.so.1"),
    (ConfigError("width is odd"), "width is odd"),
]
OF_PYGAN = [
    KeyError("x"), ValueError("not\nthis"), TypeError("'int' object is not iterable"), AssertionError(), Silent(),
    ZeroDivisionError("division by zero"), EOFError(), ImportError("cannot import name", name="pygan.cli"),
    AttributeError("'NoneType' object has no attribute 'shape'"), RuntimeError("expected all tensors"), IndexError(),
    StopIteration(), NotImplementedError(), ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
]  # fmt: skip


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[BaseException], None]:
    """``pygan doctor``, and loading any data, raise an exception; logs go to a folder of the test."""
    mkstemp = tempfile.mkstemp

    def in_logs(**names: str) -> tuple[int, str]:
        return mkstemp(dir=tmp_path / "logs", **names)

    monkeypatch.setattr(faults.tempfile, "mkstemp", in_logs)
    (tmp_path / "logs").mkdir()

    def set_(error: BaseException) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(doctor, "_python_rows", fail)
        monkeypatch.setattr("pygan.data.load", fail)

    return set_


@pytest.mark.parametrize(("error", "words"), OF_INPUT, ids=lambda one: type(one).__name__)
def test_a_fault_of_input_or_environment_is_exit_code_2(failing, pygan: Pygan, error: Exception, words: str) -> None:
    failing(error)
    refused(pygan("doctor"), words)
    code, out, err = pygan("train", *SMALL, "--json")
    assert code == json.loads(out)["exit_code"] == 2 and words in json.loads(out)["error"], err


@pytest.mark.parametrize("error", OF_PYGAN, ids=lambda one: type(one).__name__)
def test_a_fault_of_pygan_is_exit_code_70_with_a_log_and_no_traceback(
    failing, pygan: Pygan, tmp_path: Path, error: BaseException
) -> None:
    failing(error)
    code, out, err = pygan("doctor")
    assert (code, out) == (BUG, "") and code == 70
    err = err.lstrip("\n")  # typer begins a line where input ended
    assert "Traceback" not in err and len(err.splitlines()) == 1
    assert err.startswith(f"error: this is a fault of pygan itself, please report it: {type(error).__name__}")
    (log,) = (tmp_path / "logs").iterdir()
    assert str(log) in err
    text = log.read_text()
    assert "Traceback (most recent call last)" in text and "command: ['pygan', 'doctor']" in text
    code, out, err = pygan("train", *SMALL, "--json")
    assert code == json.loads(out)["exit_code"] == 70 and type(error).__name__ in json.loads(out)["error"]
    assert json.loads(out)["config"]["width"] == 2, "what the command had to say is kept"


def test_where_no_log_can_be_written_the_message_stands_alone(failing, pygan: Pygan, tmp_path: Path) -> None:
    failing(KeyError("x"))
    (tmp_path / "logs").rmdir()
    code, _, err = pygan("doctor")
    assert (code, err) == (70, "error: this is a fault of pygan itself, please report it: KeyError: 'x'\n")


def test_an_interrupt_that_a_library_turned_into_an_error_is_one(failing, pygan: Pygan) -> None:
    error = ImportError("initialization failed")
    error.__cause__ = KeyboardInterrupt()
    failing(error)
    assert pygan("doctor") == (130, "", "stopped; every file written so far is valid\n")
    failing(KeyboardInterrupt())
    assert pygan("doctor") == (130, "", "stopped; every file written so far is valid\n")
    code, out, _ = pygan("doctor", "--json")
    assert (code, json.loads(out)) == (130, {"exit_code": 130, "stopped": True})


USAGE = [
    (["train", "--bogus"], "No such option: --bogus"),
    (["train", "--steps", "0"], "--steps"),
    (["train", "--steps", "many"], "--steps"),
    (["train", "extra"], "extra"),
    (["bogus"], "bogus"),
    (["sample"], "state"),
    (["train", "--recipe", "nowhere"], "no such recipe"),
    (["train", "--config", "nowhere.toml"], "cannot read nowhere.toml"),
    (["train", "--device", "gpu"], "device = 'gpu' is not one of cpu, cuda"),
    (["train", "--dtype", "half"], "dtype = 'half' is not one of float32, float64"),
]


@pytest.mark.parametrize(("words", "told"), USAGE)
def test_a_wrong_command_line_is_exit_code_2_for_people_and_for_machines(pygan: Pygan, words, told: str) -> None:
    code, out, err = pygan(*words)
    assert (code, out) == (2, "") and told in err and "Traceback" not in err
    code, out, err = pygan(*words, "--json")
    assert (code, json.loads(out)["exit_code"]) == (2, 2)
    assert told in json.loads(out)["error"] and err.startswith("error: ")


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["train", "-h"], ["data", "-h"], ["data", "list", "-h"]])
def test_help_has_two_names(pygan: Pygan, words: list[str]) -> None:
    code, out, err = pygan(*words)
    assert (code, err) == (0, "") and "Usage:" in out


# --- readers that go away, streams that are closed, Ctrl-C in the first moment ----------------------------------------


def started(words: list[str], folder: Path, **options: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", MAIN, *words], cwd=folder, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("line", ["--help", "recipes", "recipes --json", "train --print-config", "doctor"])
def test_a_reader_that_goes_away_is_no_difference(tmp_path: Path, line: str) -> None:
    read, write = os.pipe()
    os.close(read)
    process = started(line.split(), tmp_path, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    _, err = process.communicate(timeout=120)
    assert process.returncode in (0, 2) and err == b"", err


def test_closed_standard_streams_are_no_fault(tmp_path: Path) -> None:
    code = f"exec {sys.executable} -c '{MAIN}' recipes 0<&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", code], cwd=tmp_path, check=False).returncode == 0
    code = f"exec {sys.executable} -c '{MAIN}' train --width 0 2>&- >&-"
    assert subprocess.run(["sh", "-c", code], cwd=tmp_path, check=False).returncode == 2


STUB = """
import signal, sys, importlib.abc
signal.signal(signal.SIGINT, signal.default_int_handler)
class Stop(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            import os
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Stop())
from pygan.cli import main
main()
"""


@pytest.mark.parametrize("module", ["pygan.cli.app", "typer", "rich.console", "pygan.recipes", "pygan.cli.train"])
def test_ctrl_c_while_the_program_starts_shows_no_traceback(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUB.format(module=module), "recipes"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "stopped; every file written so far is valid\n")


def test_ctrl_c_at_random_early_moments_shows_no_line_of_pygan(tmp_path: Path) -> None:
    for wait in (0.06, 0.12, 0.2):
        process = started(["recipes"], tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (0, 130, -signal.SIGINT, 1) and b"pygan/cli/" not in err, err


# --- text, JSON and names of any encoding -----------------------------------------------------------------------------


def test_text_with_half_characters_is_written_escaped_and_read_back(tmp_path: Path) -> None:
    for name in ("pics\udcff", "é", "\ud800x", "plain"):
        write_json(tmp_path / "a.json", {"name": name})
        assert json.loads((tmp_path / "a.json").read_bytes()) == {"name": name}
    write_text(tmp_path / "a.md", "pics\udcff é\n")
    assert (tmp_path / "a.md").read_bytes() == "pics\\udcff é\n".encode()


@pytest.mark.parametrize(
    "name", [b"pics\xff", b"a\xe9b", "é".encode("latin-1"), "日本".encode("shift-jis"), b"new\nline"]
)
def test_a_folder_whose_name_is_not_utf_8_is_like_any_other(pygan: Pygan, tmp_path: Path, name: bytes) -> None:
    from PIL import Image

    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    for number in range(8):
        Image.linear_gradient("L").resize((28, 28)).rotate(90 * number).save(folder / f"{number}.png")
    words = ("--width", 2, "--latent-dim", 5, "--batch", 4, "--grid", 1, "--threads", 1, "--steps", 1)
    code, out, err = pygan("train", *words, "--data", folder, "--out", folder / "run")
    assert (code, err) == (0, ""), out
    assert json.loads((folder / "run" / "torch.trace" / "trace.json").read_bytes())["data"]["name"] == folder.name


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a":' * 100_000, "[" * 50_000 + "]" * 50_000])
def test_json_that_is_nested_too_deep_is_a_value_error(deep: str) -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json(deep)


def test_a_text_file_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 1000 bytes"):
        read_limited("/dev/zero", 1000)


CONFIG = 'width = 4\nseed = 3\nsemantics = "fixed"\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le+", "utf-16-be+"])
def test_a_config_of_any_windows_editor_is_read(pygan: Pygan, tmp_path: Path, encoding: str) -> None:
    text = CONFIG.replace("\n", "\r\n")
    content = ("\ufeff" + text).encode(encoding[:-1]) if encoding.endswith("+") else text.encode(encoding)
    (tmp_path / "a.toml").write_bytes(content)
    code, out, err = pygan("train", "--config", "a.toml", "--print-config")
    assert (code, err) == (0, "") and "width = 4\n" in out and "seed = 3\n" in out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"seed = " + b"9" * 5000, "not valid TOML"),
        (b"seed = 0x" + b"f" * 5000, "seed is a number of 20000 bits"),
        (b"discriminator_lr = 1" + b"0" * 400, "discriminator_lr is a number of 1329 bits"),
        (b"discriminator_lr = 1e999", "discriminator_lr = inf is out of range"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "nested too deep"),
        (b"seed = -1", "seed = -1 is out of range: expected 0 <= value <= 9223372036854775807"),
        (b"seed = [1]", "seed must be of type int"),
        (b'dtype = "' + b"x" * 5000 + b'"', "is not one of float32, float64"),
        (b"seed = 1979-05-27", "seed must be of type int"),
        ("seed = 1".encode("utf-16-le"), "not valid TOML"),
        (b"\xff\xfe\x00", "save it as UTF-8"),
        (b"seed = 1 # \xe9", "save it as UTF-8"),
        (b"#" * (1 << 20) + b"\n#", "longer than"),
        (b"\x00", "not valid TOML"),
    ],
    ids=range(14),
)
def test_an_absurd_config_is_one_short_message(pygan: Pygan, tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    result = pygan("train", "--config", "a.toml", "--print-config")
    refused(result, words)
    assert len(result[2]) < 500


# --- words, and where results go --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fps", "told"), [(40, "33.33"), (15, "14.29"), (30, "33.33"), (49, "50"), (10, ""), (50, ""), (0.1, "")]
)
def test_the_rate_of_a_gif_is_told_where_it_is_another(capfd, monkeypatch, fps: float, told: str) -> None:
    monkeypatch.setattr(output.console, "stderr", True)
    output.say_rate(fps)
    words = f"a GIF cannot show {fps:g} pictures a second; it is written with {told} a second\n" if told else ""
    assert capfd.readouterr().err == words


def test_more_threads_than_cores_are_capped_with_a_word(pygan: Pygan, monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    seen = {}

    def stop(stack: str, config: object) -> None:
        seen["threads"] = config.threads  # type: ignore[attr-defined]
        raise ConfigError("enough")

    monkeypatch.setattr("pygan.stacks.choose.make_stack", stop)
    code, out, _ = pygan("train", *SMALL, "--threads", 64)
    assert (code, seen) == (2, {"threads": 1})
    assert "--threads 64 is more than the 1 cores there are; 1 are used" in out
    code, out, _ = pygan("train", "--threads", 64, "--print-config")
    assert "threads = 64\n" in out and "cores there are" not in out


def test_train_into_the_default_folder_makes_a_new_one_each_time(pygan: Pygan, tmp_path: Path) -> None:
    for name in ("train", "train-2", "train-3"):
        code, out, err = pygan("train", *SMALL, "--steps", 1, "--json")
        assert (code, json.loads(out)["out"]) == (0, f"runs/{name}"), err
    (tmp_path / "runs" / "train-2" / "notes.txt").write_text("mine")
    before = (tmp_path / "runs" / "train-2" / "state.safetensors").read_bytes()
    result = pygan("train", *SMALL, "--steps", 1, "--seed", 1, "--out", "runs/train-2")
    refused(result, "runs/train-2 already holds", "--overwrite")
    assert (tmp_path / "runs" / "train-2" / "state.safetensors").read_bytes() == before
    code, _, err = pygan("train", *SMALL, "--steps", 1, "--seed", 1, "--out", "runs/train-2", "--overwrite")
    assert (code, err) == (0, "")
    assert (tmp_path / "runs" / "train-2" / "state.safetensors").read_bytes() != before
    assert (tmp_path / "runs" / "train-2" / "notes.txt").read_text() == "mine"
    code, out, _ = pygan("sample", "runs/train/state.safetensors", "--json")
    assert (code, json.loads(out)["file"]) == (0, "sample.png")
    code, out, _ = pygan("sample", "runs/train/state.safetensors", "--json")
    assert (code, json.loads(out)["file"]) == (0, "sample-2.png")
    refused(pygan("sample", "runs/train/state.safetensors", "--out", "sample.png"), "already there", "--overwrite")


@pytest.mark.parametrize("command", ["train", "gif", "record"])
def test_a_folder_that_cannot_be_written_is_found_before_any_work(pygan: Pygan, monkeypatch, tmp_path, command) -> None:
    monkeypatch.setattr("pygan.data.load", lambda *_, **__: pytest.fail("work was begun"))
    (tmp_path / "file").write_text("not a folder")
    words = (*SMALL, "--steps", 1, *(("--stack", "torch") if command == "record" else ()))
    refused(pygan(command, *words, "--out", "file/run"), "cannot write file/run", "is a file, not a folder")
    if Path("/proc/version").exists():
        refused(pygan(command, *words, "--out", "/proc/pygan"), "cannot write /proc/pygan")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_a_look_whether_a_folder_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError):
        check_writable(tmp_path / "link")


def test_the_explanations_cover_what_they_are_for() -> None:
    assert faults.explained(PyganError("x")) == (2, "x")
    assert train_command.train is not None
