"""Pick the environment variables to record: only those listed here, because most secrets of a job are in the others."""

from __future__ import annotations

from collections.abc import Mapping

from ml_dash.provenance.secrets import mask_text

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
