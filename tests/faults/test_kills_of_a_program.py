"""A program that is killed at a moment of the machine's choosing."""

import signal
import subprocess
import sys
import time


def test_killed_process_resumes_to_the_same_bytes(tmp_path):
    """SIGKILL at a moment of the machine's choosing."""
    source = tmp_path / "in.smi"
    source.write_text("".join(f"{'C' * (3 + i % 9)}O m{i}\n" for i in range(150)))
    command = [sys.executable, "-m", "conformergen", "generate", str(source), "-n", "3", "--method", "etkdg+mmff94s"]
    subprocess.run([*command, "-o", str(tmp_path / "whole.sdf")], check=True, capture_output=True)
    process = subprocess.Popen([*command, "-o", str(tmp_path / "out.sdf")], stderr=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / "out.sdf.progress").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out.sdf").exists()
    subprocess.run([*command, "-o", str(tmp_path / "out.sdf"), "--resume"], check=True, capture_output=True)
    assert (tmp_path / "out.sdf").read_bytes() == (tmp_path / "whole.sdf").read_bytes()
