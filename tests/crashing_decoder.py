"""A decoder that some photos end: run in the place of torchlime/models/decoder.py.

What a photo does is the first word of its file's name; after "once" it does it in the first process
alone.
"""

import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

DECODER = Path(__file__).parents[1] / "torchlime/models/decoder.py"


def leave_half_a_message():
    os.write(int(sys.argv[1]), b"\0\0\0\x10\0\0\0\0")


def raise_(error):
    raise error


DOES = {
    "segv": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: raise_(SystemExit(3)),
    "leave": lambda: os._exit(7),
    "memory": lambda: raise_(MemoryError()),
    "hang": lambda: time.sleep(1000),
    "half": lambda: (leave_half_a_message(), time.sleep(1000)),
    "halfdead": lambda: (leave_half_a_message(), os.kill(os.getpid(), signal.SIGKILL)),
    "nonsense": lambda: (os.write(int(sys.argv[1]), b"x" * 100), time.sleep(1000)),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}


def main():
    spec = importlib.util.spec_from_file_location("decoder", DECODER)
    decoder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(decoder)
    decoder._stub_packages()
    from torchlime.models import reading

    read = reading.read_file

    def read_file(file, name, *arguments, **settings):
        words = Path(name).stem.split(" ")
        flag = Path(name).with_suffix(".once")
        if words[0] == "once" and not flag.exists():
            flag.touch()
            DOES[words[1]]()
        if words[0] in DOES:
            DOES[words[0]]()
        return read(file, name, *arguments, **settings)

    reading.read_file = read_file
    opened, opens = set(), Path.open

    def slowly(path, *arguments, **settings):
        """The first time, as from a drive that has to start."""
        if path.name.startswith("drive ") and path not in opened:
            time.sleep(1.5)
            opened.add(path)
        return opens(path, *arguments, **settings)

    Path.open = slowly
    decoder._stub_packages = lambda: None
    decoder.main()


if __name__ == "__main__":
    main()
