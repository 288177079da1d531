"""Facts that only the training process has: its command line and folder, and listed environment variables.

They are collected when a run starts, in a fraction of a millisecond. Only listed variables are recorded, because most
secrets of a job are in the others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ml_dash.provenance.secrets import mask_arguments, mask_text

MOST_ARGUMENTS = 500
"""Arguments of a command line that are recorded: more of them come from a shell's pattern of files."""

LONGEST_ARGUMENT = 1_000
"""Characters of one argument that are recorded: enough for a path, not for a program after ``python -c``."""

LONGEST_VALUE = 1_000
"""Characters of a variable that are recorded: enough for a list of nodes, not for the content of a file."""

LOOKED_AT = 4
"""Multiple of the recorded characters that is searched for secrets, so that one that crosses the cut is seen as a whole."""

GROUPS: dict[str, tuple[str, ...]] = {
    "variables": (
        *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
        *("CUDA_LAUNCH_BLOCKING", "CUDA_DEVICE_ORDER", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE"),
        *("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "TORCH_LOGS", "TORCHDYNAMO_DISABLE", "NCCL_DEBUG"),
        *("NCCL_SOCKET_IFNAME", "NCCL_IB_DISABLE", "NCCL_P2P_DISABLE", "XLA_FLAGS", "JAX_PLATFORMS"),
        *("XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_MEM_FRACTION", "TF_CPP_MIN_LOG_LEVEL"),
        *("TF_FORCE_GPU_ALLOW_GROWTH", "TF_DETERMINISTIC_OPS", "MUJOCO_GL", "MUJOCO_EGL_DEVICE_ID"),
        *("PYOPENGL_PLATFORM", "EGL_DEVICE_ID", "DISPLAY", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
        *("OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OMP_PROC_BIND", "KMP_AFFINITY", "PYTHONHASHSEED"),
        *("PYTHONOPTIMIZE", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "CONDA_DEFAULT_ENV", "CONDA_PREFIX"),
        *("VIRTUAL_ENV", "LD_PRELOAD", "LANG", "TZ", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
        *("WANDB_MODE", "HYDRA_FULL_ERROR", "MALLOC_ARENA_MAX"),
    ),
    "slurm": (
        *("SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_JOB_PARTITION", "SLURM_JOB_ACCOUNT", "SLURM_JOB_QOS"),
        *("SLURM_JOB_NODELIST", "SLURM_JOB_NUM_NODES", "SLURM_JOB_START_TIME", "SLURM_JOB_END_TIME"),
        *("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_STEP_ID", "SLURM_NTASKS"),
        *("SLURM_NNODES", "SLURM_NODEID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"),
        *("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_GPUS", "SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE"),
        *("SLURM_JOB_GPUS", "SLURM_RESTART_COUNT", "SLURM_SUBMIT_DIR", "SLURM_SUBMIT_HOST", "SLURM_CLUSTER_NAME"),
        *("SLURMD_NODENAME",),
    ),
    "distributed": (
        *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "NODE_RANK"),
        *("ROLE_RANK", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"),
        *("TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        *("OMPI_COMM_WORLD_LOCAL_RANK", "PMI_RANK", "PMI_SIZE", "JAX_PROCESS_ID", "JAX_NUM_PROCESSES"),
        *("LSB_JOBID", "PBS_JOBID", "PBS_JOBNAME", "PBS_ARRAY_INDEX", "JOB_ID", "JOB_NAME", "SGE_TASK_ID"),
        *("KUBERNETES_SERVICE_HOST", "POD_NAME", "POD_NAMESPACE", "NODE_NAME", "JOB_COMPLETION_INDEX"),
        *("APPTAINER_NAME", "APPTAINER_CONTAINER", "SINGULARITY_NAME", "SINGULARITY_CONTAINER"),
    ),
}
"""Names of variables: settings of the process, its SLURM job, its rank among other processes."""


def observe(entry: object) -> dict[str, Any]:
    """Return the command line, the folder and the listed variables of this process, with secrets masked. Raises nothing.

    Args:
        entry: the path of the script, as ``RUN.entry`` has it.
    """
    parts: dict[str, Callable[[], Any]] = {
        "pid": os.getpid,
        "argv": lambda: _arguments(getattr(sys, "argv", [])),
        "command": lambda: _arguments(getattr(sys, "orig_argv", [])),
        "cwd": os.getcwd,
        "entry": lambda: os.fsdecode(entry),  # type: ignore[arg-type]  # a value that is no path raises, which becomes a problem
    }
    process: dict[str, Any] = {}
    problems: list[str] = []
    for name, part in parts.items():
        try:
            process[name] = part()
        except Exception as error:  # noqa: BLE001 - a removed folder, a replaced sys.argv
            problems.append(mask_text(f"process.{name}: {type(error).__name__}: {error}")[:LONGEST_ARGUMENT])
    return {"process": process, **pick(os.environ), "problems": problems}


def _arguments(arguments: list[object]) -> list[str]:
    texts = [str(argument) for argument in arguments[:MOST_ARGUMENTS]]
    masked = mask_arguments(text[: LOOKED_AT * LONGEST_ARGUMENT] for text in texts)
    shortened = [cut(mask, len(text), LONGEST_ARGUMENT) for mask, text in zip(masked, texts, strict=True)]
    left_out = len(arguments) - len(shortened)
    return [*shortened, f"... ({left_out} more arguments)"] if left_out > 0 else shortened


def pick(environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the variables of each group that are set, masked and cut to ``LONGEST_VALUE``, without empty groups.

    Args:
        environ: a process's environment.
    """
    groups = {
        group: {name: shown(environ[name]) for name in names if name in environ} for group, names in GROUPS.items()
    }
    return {group: values for group, values in groups.items() if values}


def shown(text: str, limit: int = LONGEST_VALUE) -> str:
    """Mask the secrets of a text, and cut it with a note of how much is missing."""
    return cut(mask_text(text[: LOOKED_AT * limit]), len(text), limit)


def cut(masked: str, length: int, limit: int) -> str:
    """Return the beginning of a text, with a note of how much is missing.

    Args:
        masked: the masked text, or its beginning.
        length: characters of the whole text.
        limit: characters to keep.
    """
    if len(masked) <= limit and length <= LOOKED_AT * limit:
        return masked
    return f"{masked[:limit]}... ({length - limit} more characters)"
