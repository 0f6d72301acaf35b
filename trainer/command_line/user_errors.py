"""How a script of training ends: what a user can mend is one line, everything else keeps its traceback."""

import gc
import sys
import time
from collections.abc import Callable

from accelerate.utils import get_int_from_env

from spectra_sum.errors import SpectraSumError
from trainer.checkpoints.writing import CheckpointError

INTERRUPTED = 130
# Of accelerate's launchers: torchrun, and three kinds of MPI.
RANK_VARIABLES = ["RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK"]
# Seconds that the main process gets to tell an error that all processes have.
PATIENCE = 20.0


def run(main: Callable[[], object], program: str, when_interrupted: str = "") -> int:
    """
    Runs a script's main function, and tells in one line on stderr what its user can mend.

    With several processes the main one tells it. Another process first waits to be ended, as the launcher does when the
    main process has failed with the same error: ended by it instead, the main process might not have told anything yet.
    What nobody ended it for is its own, and it tells that itself.

    Args:
        main (`Callable`): The script's main function. SystemExit passes.
        program (`str`): The script's name, for the line.
        when_interrupted (`str`, *optional*): What to say after Ctrl-C beside that it was interrupted.

    Returns:
        The exit code: 0, that of a `SpectraSumError` (2 for bad input), 1 for a checkpoint that could not be written, 2
        for a file that cannot be read or written, 130 for an interrupted process. Any other error is raised.
    """
    # A script imports without collections of garbage.
    gc.freeze()
    gc.enable()
    try:
        main()
    except KeyboardInterrupt:
        if not _rank():
            print(f"\n{program}: interrupted{when_interrupted and '; '}{when_interrupted}", file=sys.stderr)
        return INTERRUPTED
    except SpectraSumError as error:
        return _tell(program, error, error.exit_code)
    except CheckpointError as error:
        return _tell(program, error, 1)
    except OSError as error:
        # The operating system names the file. Without one it is an error of a library, or of a process that was started.
        if error.filename is None:
            raise
        return _tell(program, error, 2)
    return 0


def _tell(program: str, error: Exception, code: int) -> int:
    rank = _rank()
    if rank:
        time.sleep(PATIENCE)
        program = f"{program}: process {rank}"
    print(f"{program}: error: {_line(error)}", file=sys.stderr, flush=True)
    return code


def _line(error: Exception) -> str:
    text = str(error).strip()
    if text.startswith("Caught ") and "Traceback" in text:
        # Of a DataLoader's worker: the whole traceback is its message, and ends with the error's own.
        text = text.splitlines()[-1].partition(": ")[2]
    return " ".join(text.split())


def _rank() -> int:
    return get_int_from_env(RANK_VARIABLES, 0)
